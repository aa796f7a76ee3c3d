"""What the teacher delivered: accepted, refused and why, with a few of each to read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from caft.records import Rationale
from caft.report.tables import ReportTables
from caft.report.wording import clip

ACCEPTED_SHOWN = 3
REFUSED_SHOWN = 2
MOST_REASONS = 12
_LONGEST = 2_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One rationale beside its question; `verdict` is 'accepted' or the reason it was refused."""

    verdict: str
    accepted: bool
    question: str
    text: str
    answer: str


@dataclass(frozen=True, slots=True)
class Teaching:
    """Counts over all rationales; `reasons` by falling count."""

    sources: tuple[str, ...]
    total: int
    accepted: int
    reasons: tuple[tuple[str, int], ...]
    samples: tuple[Sample, ...]


def describe_teaching(tables: ReportTables) -> Teaching | None:
    """None for a run that asked no teacher."""
    rows = tables.rationales
    if not rows:
        return None
    reasons = Counter(row.refusal for row in rows if not row.accepted).most_common(MOST_REASONS)
    shown = _first([row for row in rows if row.accepted], ACCEPTED_SHOWN)
    for reason, _ in reasons:
        shown += _first([row for row in rows if row.refusal == reason], REFUSED_SHOWN)
    return Teaching(
        sources=tuple(sorted({row.source for row in rows if row.source})),
        total=len(rows),
        accepted=sum(row.accepted for row in rows),
        reasons=tuple(reasons),
        samples=tuple(_show(row, tables) for row in shown),
    )


def _first(rows: Sequence[Rationale], count: int) -> list[Rationale]:
    return list(rows[:count])


def _show(row: Rationale, tables: ReportTables) -> Sample:
    question = tables.questions.get(row.question_id)
    return Sample(
        verdict=row.refusal or "accepted",
        accepted=row.accepted,
        question=clip(question.text if question else row.question_id, 400),
        text=clip(row.text, _LONGEST),
        answer=row.answer or "none",
    )
