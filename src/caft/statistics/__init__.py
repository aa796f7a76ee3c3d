"""Intervals, areas under curves and paired tests: numbers in, numbers out. Pure.

Functions that resample take a seed and give the same result for it. A quantity that does not exist
(an AUC without any mistake) is None with its reason as text, never a NaN.
"""

from caft.statistics.arms import ArmsCompared, compare_arms
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
    score_bounds,
    score_difference,
    smallest_paired_difference,
)
from caft.statistics.paired_auc import ResampledAreas, resample_areas
from caft.statistics.pareto import pareto_front
from caft.statistics.seeds import (
    mean_interval,
    mean_over_seeds,
    resample_means,
)
from caft.statistics.stratified import stratified_auc
from caft.statistics.unpaired import compare_counts, count_interval
from caft.statistics.verdict import (
    ALPHA,
    CHANCE_AREA,
    FEWEST_SEEDS,
    FEWEST_TO_JUDGE,
    MARGIN,
    WORTHWHILE_GAIN,
    Verdict,
    holm_adjusted,
    is_clear,
    join_verdicts,
    judge_area,
    judge_difference,
    judge_forgetting,
    judge_saving,
)

__all__ = [
    "ALPHA",
    "CHANCE_AREA",
    "AreaUnderCurve",
    "ArmsCompared",
    "PairedOutcome",
    "compare_arms",
    "compare_counts",
    "FEWEST_SEEDS",
    "FEWEST_TO_JUDGE",
    "MARGIN",
    "WORTHWHILE_GAIN",
    "Interval",
    "ResampledAreas",
    "RocPoint",
    "Verdict",
    "brier_score",
    "count_interval",
    "count_paired",
    "expected_calibration_error",
    "holm_adjusted",
    "is_clear",
    "judge_area",
    "join_verdicts",
    "judge_difference",
    "judge_forgetting",
    "judge_saving",
    "mcnemar_exact",
    "mean_interval",
    "mean_over_seeds",
    "paired_difference",
    "score_bounds",
    "score_difference",
    "pareto_front",
    "resample_areas",
    "resample_means",
    "roc_auc",
    "roc_points",
    "smallest_paired_difference",
    "stratified_auc",
    "wilson_interval",
]
