"""Splits by the configured strategy; fast enough to be computed every time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from random import Random

from caft.estimators import ESTIMATORS, STAND_IN, difficulty
from caft.records import AnswerScore
from caft.split.config import (
    EntropySplitConfig,
    Invalid,
    RandomSplitConfig,
    SplitConfig,
    ThresholdSplitConfig,
)
from caft.split.cuts import (
    SplitResult,
    estimate_values,
    place_at_random,
    place_by_cuts,
    quantile_cuts,
    shares_below,
)


def split_questions(
    train: Sequence[AnswerScore],
    others: Sequence[Sequence[AnswerScore]],
    config: SplitConfig,
    seed: int,
) -> SplitResult:
    """Place the training rows and, by the same cuts, the `others` (validation, test).

    An estimator that does not exist at test time (it needs the gold answer, or a rationale that
    is bought for training) cannot place the others: the stand-in does, cut so that its classes have
    the shares that the training rows got. Only the random strategy uses `seed`.
    """
    if isinstance(config, RandomSplitConfig):
        result = _draw([train, *others], config, Random(f"random split {seed}"))
    else:
        assert isinstance(config, EntropySplitConfig | ThresholdSplitConfig), config.kind
        result = _cut(train, [score for part in others for score in part], config)
    if config.invalid is not Invalid.hardest:
        return result
    declined = [score.question_id for part in (train, *others) for score in part if not score.valid]
    hardest = dict.fromkeys(declined, config.classes[-1])
    return replace(result, complexity_of={**result.complexity_of, **hardest})


def _draw(
    parts: Sequence[Sequence[AnswerScore]], config: RandomSplitConfig, random: Random
) -> SplitResult:
    placed = [
        name
        for part in parts
        for name in place_at_random(len(part), config.quantiles, config.classes, random)
    ]
    scores = [score for part in parts for score in part]
    return SplitResult(complexity_of=_by_question(scores, placed), thresholds=())


def _cut(
    train: Sequence[AnswerScore],
    rest: Sequence[AnswerScore],
    config: EntropySplitConfig | ThresholdSplitConfig,
) -> SplitResult:
    estimator, classes = config.estimator, config.classes
    if isinstance(config, EntropySplitConfig):
        cuts = quantile_cuts(estimate_values(train, estimator), config.quantiles)
    else:
        cuts = tuple(sorted(difficulty(estimator, cut) or 0.0 for cut in config.thresholds))
    known = ESTIMATORS[estimator].known_at_test
    values = estimate_values([*train, *rest] if known else train, estimator)
    placed = place_by_cuts(values, cuts, classes)
    needs_stand_in = bool(rest) and not known
    if needs_stand_in:
        shares = shares_below(placed, classes)
        own_cuts = quantile_cuts(estimate_values(train, STAND_IN), shares)
        placed += place_by_cuts(estimate_values(rest, STAND_IN), own_cuts, classes)
    return SplitResult(
        complexity_of=_by_question([*train, *rest], placed),
        # Reported in the estimate's own direction, whichever way it points.
        thresholds=tuple(difficulty(estimator, cut) or 0.0 for cut in cuts),
        held_out_by=STAND_IN if needs_stand_in else "",
        unreadable=values.count(inf),
    )


def _by_question(scores: Sequence[AnswerScore], classes: Sequence[str]) -> dict[str, str]:
    return dict(zip((score.question_id for score in scores), classes, strict=True))
