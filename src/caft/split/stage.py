"""Splits by whatever strategy the config names; light enough to be computed every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from random import Random

from caft.estimators import ESTIMATORS, STAND_IN
from caft.records import AnswerScore, Placement, difficulty
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
    """Place the training rows, and by the same cuts the `others` (validation, test).

    An estimator that does not exist at test time (it needs the gold answer, or a rationale that
    is bought for training) cannot place the others: the stand-in does, cut so that its classes
    have the shares that the training rows got. `seed` is drawn on by the random strategy only.
    """
    result = _STRATEGIES[config.kind](train, others, config, seed)
    if config.invalid is not Invalid.hardest:
        return result
    declined = {score.question_id for part in (train, *others) for score in part if not score.valid}
    return replace(
        result,
        placements=tuple(
            Placement(question_id=place.question_id, complexity=config.classes[-1])
            if place.question_id in declined
            else place
            for place in result.placements
        ),
    )


def _cut_at_quantiles(
    train: Sequence[AnswerScore],
    others: Sequence[Sequence[AnswerScore]],
    config: EntropySplitConfig,
    seed: int,
) -> SplitResult:
    cuts = quantile_cuts(estimate_values(train, config.estimator), config.quantiles)
    return _cut(train, others, config.estimator, cuts, config.classes)


def _cut_at_thresholds(
    train: Sequence[AnswerScore],
    others: Sequence[Sequence[AnswerScore]],
    config: ThresholdSplitConfig,
    seed: int,
) -> SplitResult:
    cuts = sorted(difficulty(config.estimator, cut) or 0.0 for cut in config.thresholds)
    return _cut(train, others, config.estimator, tuple(cuts), config.classes)


def _draw(
    train: Sequence[AnswerScore],
    others: Sequence[Sequence[AnswerScore]],
    config: RandomSplitConfig,
    seed: int,
) -> SplitResult:
    random = Random(f"random split {seed}")
    places: list[Placement] = []
    for part in (train, *others):
        drawn = place_at_random(len(part), config.quantiles, config.classes, random)
        places += _placements(part, drawn)
    return SplitResult(placements=tuple(places), thresholds=())


def _cut(
    train: Sequence[AnswerScore],
    others: Sequence[Sequence[AnswerScore]],
    estimator: str,
    cuts: tuple[float, ...],
    classes: Sequence[str],
) -> SplitResult:
    rest = [score for part in others for score in part]
    known = ESTIMATORS[estimator].known_at_test
    values = estimate_values([*train, *rest] if known else train, estimator)
    placed = place_by_cuts(values, cuts, classes)
    if not known:
        placed += _place_by_stand_in(train, rest, placed, classes)
    # Reported in the estimate's own direction, whichever way it points.
    thresholds = tuple(difficulty(estimator, cut) or 0.0 for cut in cuts)
    return SplitResult(
        placements=tuple(_placements([*train, *rest], placed)),
        thresholds=thresholds,
        held_out_by="" if known or not rest else STAND_IN,
        unreadable=values.count(inf),
    )


def _place_by_stand_in(
    train: Sequence[AnswerScore],
    rest: Sequence[AnswerScore],
    placed: Sequence[str],
    classes: Sequence[str],
) -> list[str]:
    if not rest:
        return []
    cuts = quantile_cuts(estimate_values(train, STAND_IN), shares_below(placed, classes))
    return place_by_cuts(estimate_values(rest, STAND_IN), cuts, classes)


def _placements(scores: Sequence[AnswerScore], classes: Sequence[str]) -> list[Placement]:
    return [
        Placement(question_id=score.question_id, complexity=name)
        for score, name in zip(scores, classes, strict=True)
    ]


_STRATEGIES: dict[str, Callable[..., SplitResult]] = {
    "entropy": _cut_at_quantiles,
    "entropy_threshold": _cut_at_thresholds,
    "random": _draw,
}
