"""Rationales of teacher and student: refusals, losses of each class, ten samples to read."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from caft.packed import keep, values_of
from caft.records import Rationale
from caft.report.schema import CostPart
from caft.report.tables import ReportTables, take_evenly
from caft.report.wording import p_in_words
from caft.statistics import ALPHA

SHOWN = 10
"""The number of accepted, and of refused, rationales to read."""

MOST_REASONS = 12


@dataclass(frozen=True, slots=True)
class Teaching:
    """Counts over all rationales, a question's every attempt among them.

    `reasons` by falling count. `changes`: of each class, for how many questions one was asked for,
    and how many are left to train on. `samples` come with the text of their question, or its id
    where that is unknown.
    """

    sources: tuple[str, ...]
    total: int
    accepted: int
    reasons: tuple[tuple[str, int], ...]
    changes: tuple[tuple[str, int, int], ...]
    samples: tuple[tuple[str, Rationale], ...]


def describe_teaching(
    rows: Sequence[Rationale], tables: ReportTables, classes: Sequence[str] = ()
) -> Teaching | None:
    """None for a run without `rows`: the teacher's or the student's. `classes`: in their order."""
    if not rows:
        return None
    reasons = Counter(filter(None, values_of(rows, "refusal")))
    accepted = keep(rows, [not refusal for refusal in values_of(rows, "refusal")])
    shown = take_evenly(accepted, SHOWN) + _some_refused(rows)
    return Teaching(
        sources=tuple(sorted({*filter(None, values_of(rows, "source"))})),
        total=len(rows),
        accepted=len(accepted),
        reasons=tuple(reasons.most_common(MOST_REASONS)),
        changes=tuple(_count_changes(rows, tables, classes)),
        samples=tuple((_question_of(row, tables), row) for row in shown),
    )


def describe_chance(cost: CostPart | None) -> str:
    """What was kept of the student's own chains, beside what chance would give; empty if none."""
    own = cost.get("own_rationales") if cost else None
    if own is None:
        return ""
    return (
        f"{own['right_tries']:,} tries are right, and about {own['right_tries_by_chance']:,.1f} "
        f"would be if their answers had nothing to do with their questions. So a question is kept "
        f"from {own['needed']} right tries of {own['tries']} on: {own['kept']:,} of "
        f"{own['questions']:,} are, and chance alone would keep about {own['kept_by_chance']:,.1f}"
    )


def warn_of_chance(cost: CostPart | None) -> Iterator[str]:
    """Where the student's own rationales may all be right by chance."""
    own = cost.get("own_rationales") if cost else None
    if own and own["p"] > ALPHA:
        yield (
            f"The student's own rationales are not clearly more than chance "
            f"({p_in_words(own['p'])}): {describe_chance(cost)}. Raise score.samples.count, lower "
            "score.samples.temperature, or give the class another target."
        )


def _count_changes(
    rows: Sequence[Rationale], tables: ReportTables, classes: Sequence[str]
) -> Iterator[tuple[str, int, int]]:
    asked: dict[str, set[str]] = defaultdict(set)
    left: dict[str, set[str]] = defaultdict(set)
    for key, refusal in zip(
        values_of(rows, "question_id"), values_of(rows, "refusal"), strict=True
    ):
        name = tables.complexity_of.get(key)
        if name is not None:
            asked[name].add(key)
            if not refusal:
                left[name].add(key)
    for name in (*classes, *sorted(asked.keys() - set(classes))):
        if name in asked:
            yield name, len(asked[name]), len(left[name])


def _some_refused(rows: Sequence[Rationale]) -> list[Rationale]:
    """One of every reason, then a second of every reason, and so on: none hides another."""
    by_reason: dict[str, list[Rationale]] = defaultdict(list)
    for row in keep(rows, [*map(bool, values_of(rows, "refusal"))]):
        by_reason[row.refusal].append(row)
    ranked = sorted(by_reason.values(), key=len, reverse=True)
    rounds = zip_longest(*(take_evenly(own, SHOWN) for own in ranked))
    return [row for row in chain.from_iterable(rounds) if row is not None][:SHOWN]


def _question_of(row: Rationale, tables: ReportTables) -> str:
    question = tables.questions.get(row.question_id)
    return question.text if question else row.question_id
