"""Splits by the configured strategy; fast enough to be computed every time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from math import inf
from random import Random
from types import MappingProxyType

from caft.errors import UserError
from caft.estimators import ESTIMATORS, STAND_IN, Need, difficulty
from caft.packed import join, values_of
from caft.records import AnswerScore
from caft.split.config import (
    EntropySplitConfig,
    RandomSplitConfig,
    SampledSplitConfig,
    SplitConfig,
    ThresholdSplitConfig,
    Within,
)
from caft.split.cuts import (
    SplitResult,
    class_sizes,
    estimate_values,
    place_at_random,
    place_by_cuts,
    place_sampled,
    quantile_cuts,
    shares_below,
)


def split_questions(
    train: Sequence[AnswerScore],
    others: Sequence[Sequence[AnswerScore]],
    config: SplitConfig,
    seed: int,
    subject_of: Mapping[str, str] = MappingProxyType({}),
) -> SplitResult:
    """Place the training rows and, by the same cuts, the `others` (validation, test).

    An estimator that does not exist at test time (it needs the gold answer, or a rationale that
    is bought for training) cannot place the others: the stand-in does, cut so that its classes have
    the shares that the training rows got. Only the random and the sampled strategy use `seed`.
    `subject_of` has every question's subject by its id, for quantiles inside each one. UserError
    if a subject has fewer training rows than there are classes.
    """
    if isinstance(config, RandomSplitConfig):
        return _draw([train, *others], config, Random(f"random split {seed}"))
    assert isinstance(config, EntropySplitConfig | ThresholdSplitConfig), config.kind
    return _place(train, join(*others), config, seed, subject_of)


def refuse_small_subjects(subjects: Iterable[str], config: SplitConfig) -> None:
    """UserError if quantiles are cut inside subjects and one has too few of the training rows."""
    if getattr(config, "within", Within.all) is not Within.subject:
        return
    counts = Counter(subjects)
    if set(counts) <= {""}:
        raise UserError(
            "split.within=subject, but the questions have no subject; leave split.within out, or "
            "name its column (dataset.columns.subject)"
        )
    name, count = min(counts.items(), key=lambda item: (item[1], item[0]))
    if count < len(config.classes):
        raise UserError(
            f"split.within=subject, but the subject {name!r} has {count} training questions, fewer "
            f"than the {len(config.classes)} classes; give more questions, or leave split.within "
            "out"
        )


def most_in_classes(
    config: SplitConfig, subjects: Sequence[str], *, distinct: bool = False
) -> dict[str, int]:
    """The most training rows that each class can have, before any is scored.

    `subjects` has one entry a training row. Drawn classes have their sizes. Where quantiles cut,
    equal values on a cut are in the class above it: a class has at most its own rows and those of
    all easier ones, or its own alone if values are taken as `distinct`. All rows where only the
    scores will tell: absolute thresholds, and estimates that are counts or may be missing.
    """
    if isinstance(config, RandomSplitConfig):
        return class_sizes(len(subjects), config.quantiles, config.classes)
    if isinstance(config, EntropySplitConfig) and _has_known_sizes(config):
        inside = config.within is Within.subject
        parts = Counter(subjects).values() if inside else [len(subjects)]
        each = [class_sizes(count, config.quantiles, config.classes) for count in parts]
        sizes = {name: sum(part[name] for part in each) for name in config.classes}
        if not (distinct or isinstance(config, SampledSplitConfig)):
            sizes = dict(zip(sizes, accumulate(sizes.values()), strict=True))
        return sizes
    return dict.fromkeys(config.classes, len(subjects))


def _has_known_sizes(config: EntropySplitConfig) -> bool:
    estimator = ESTIMATORS[config.estimator]
    has_ties = estimator.may_be_missing or estimator.need is Need.samples
    return isinstance(config, SampledSplitConfig) or not has_ties


def _draw(
    parts: Sequence[Sequence[AnswerScore]], config: RandomSplitConfig, random: Random
) -> SplitResult:
    placed = [
        name
        for part in parts
        for name in place_at_random(len(part), config.quantiles, config.classes, random)
    ]
    return SplitResult(complexity_of=_by_question(join(*parts), placed), thresholds=())


def _place(
    train: Sequence[AnswerScore],
    rest: Sequence[AnswerScore],
    config: EntropySplitConfig | ThresholdSplitConfig,
    seed: int,
    subject_of: Mapping[str, str],
) -> SplitResult:
    ids = [[*values_of(rows, "question_id")] for rows in (train, rest)]
    known = ESTIMATORS[config.estimator].known_at_test
    values = _values_of(join(train, rest) if known else train, config.estimator)
    stand_in = _values_of(join(train, rest), STAND_IN) if rest and not known else None

    def cut(ids: Sequence[list[str]], salt: str = "") -> SplitResult:
        return _cut(ids, config, values, stand_in, Random(f"sampled split {seed} {salt}"))

    whole = cut(ids)
    if isinstance(config, EntropySplitConfig) and config.within is Within.subject:
        subjects = [subject_of.get(name, "") for name in ids[0]]
        refuse_small_subjects(subjects, config)
        # Held-out rows of other subjects keep the place that the cuts of all rows give them.
        placed = dict(whole.complexity_of)
        for subject in dict.fromkeys(subjects):
            own = [[name for name in part if subject_of.get(name, "") == subject] for part in ids]
            placed |= cut(own, subject).complexity_of
        whole = replace(whole, complexity_of=placed, thresholds=())
    return replace(
        whole,
        held_out_by=STAND_IN if stand_in else "",
        unreadable=list(values.values()).count(inf),
    )


def _values_of(scores: Sequence[AnswerScore], estimator: str) -> dict[str, float]:
    values = estimate_values(scores, estimator)
    return dict(zip(values_of(scores, "question_id"), values, strict=True))


def _cut(
    ids: Sequence[list[str]],
    config: EntropySplitConfig | ThresholdSplitConfig,
    values: Mapping[str, float],
    stand_in: Mapping[str, float] | None,
    random: Random,
) -> SplitResult:
    """By the estimate's `values`; held-out rows by those of the `stand_in`, if there is one.

    `ids` are those of the training rows, and of the held-out rows that are placed by their cuts.
    """
    train, rest = ids
    estimator, classes, own = config.estimator, config.classes, [values[name] for name in train]
    if isinstance(config, EntropySplitConfig):
        cuts = quantile_cuts(own, config.quantiles)
    else:
        cuts = tuple(sorted(difficulty(estimator, cut) or 0.0 for cut in config.thresholds))
    placed, rest_cuts = place_by_cuts(own, cuts, classes), cuts
    if stand_in is not None:
        shares = shares_below(placed, classes)
        rest_cuts = quantile_cuts([stand_in[name] for name in train], shares)
    held_out = [(values if stand_in is None else stand_in)[name] for name in rest]
    if sampled := isinstance(config, SampledSplitConfig):
        placed = place_sampled(own, config.quantiles, classes, config.temperature, random)
    placed += place_by_cuts(held_out, rest_cuts, classes)
    return SplitResult(
        complexity_of=dict(zip([*train, *rest], placed, strict=True)),
        # Reported in the estimate's own direction, whichever way it points.
        thresholds=() if sampled else tuple(difficulty(estimator, cut) or 0.0 for cut in cuts),
    )


def _by_question(scores: Sequence[AnswerScore], classes: Sequence[str]) -> dict[str, str]:
    return dict(zip(values_of(scores, "question_id"), classes, strict=True))
