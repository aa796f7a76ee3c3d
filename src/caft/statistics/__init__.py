"""Intervals, areas under curves and paired tests: numbers in, numbers out. Pure.

Functions that resample take a seed and give the same result for it. A quantity that does not exist
(an AUC without any mistake) is None with its reason as text, never a NaN.
"""

from caft.statistics.area_verdict import CHANCE_AREA, FEWEST_TO_JUDGE, USEFUL_AREA, judge_area
from caft.statistics.arms import ArmsCompared, Outcomes, compare_arms, pair_seeds
from caft.statistics.auc import AreaUnderCurve, RocPoint, roc_auc, roc_points
from caft.statistics.calibration import (
    brier_score,
    expected_calibration_error,
)
from caft.statistics.intervals import Interval, wilson_interval
from caft.statistics.paired import (
    PairedOutcome,
    count_paired,
    mcnemar_exact,
    paired_difference,
    score_difference,
    sign_flip_exact,
    smallest_paired_difference,
    sum_differences,
)
from caft.statistics.paired_auc import ResampledAreas, resample_areas
from caft.statistics.pareto import pareto_front
from caft.statistics.seeds import (
    ResampledMean,
    detectable_difference,
    difference_interval,
    joint_level,
    mean_interval,
    mean_over_seeds,
    resample_means,
)
from caft.statistics.stratified import stratified_auc
from caft.statistics.unpaired import compare_counts, count_interval
from caft.statistics.verdict import (
    ALPHA,
    FEWEST_SEEDS,
    MARGIN,
    WORTHWHILE_GAIN,
    Verdict,
    holm_adjusted,
    is_clear,
    join_verdicts,
    judge_difference,
    judge_forgetting,
    judge_saving,
)

__all__ = [
    "ALPHA",
    "CHANCE_AREA",
    "USEFUL_AREA",
    "AreaUnderCurve",
    "ArmsCompared",
    "Outcomes",
    "PairedOutcome",
    "compare_arms",
    "compare_counts",
    "pair_seeds",
    "FEWEST_SEEDS",
    "FEWEST_TO_JUDGE",
    "MARGIN",
    "WORTHWHILE_GAIN",
    "Interval",
    "ResampledAreas",
    "ResampledMean",
    "RocPoint",
    "Verdict",
    "brier_score",
    "count_interval",
    "count_paired",
    "detectable_difference",
    "difference_interval",
    "expected_calibration_error",
    "holm_adjusted",
    "is_clear",
    "judge_area",
    "join_verdicts",
    "joint_level",
    "judge_difference",
    "judge_forgetting",
    "judge_saving",
    "mcnemar_exact",
    "mean_interval",
    "mean_over_seeds",
    "paired_difference",
    "score_difference",
    "pareto_front",
    "resample_areas",
    "resample_means",
    "roc_auc",
    "roc_points",
    "sign_flip_exact",
    "smallest_paired_difference",
    "stratified_auc",
    "sum_differences",
    "wilson_interval",
]
