"""Where the time of a run went, stage by stage. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caft.report.schema import StageRecordPart, Summary

_REST = "the rest"


@dataclass(frozen=True, slots=True)
class TimeRow:
    """A line of the table of stages; `stage` is None for what is between them.

    `share` is that of the run's time, None if it took none of it or is unknown. `rate` is such as
    "1,204 written"; empty without tokens. `tokens` are those, with what was done to them.
    """

    name: str
    seconds: float
    share: float | None
    rate: str = ""
    tokens: tuple[int, str] = (0, "")
    stage: StageRecordPart | None = None

    @property
    def cached(self) -> bool:
        """Whether it was taken from the store: its seconds are those of the run that made it."""
        return bool(self.stage and self.stage["cached"])


def count_seconds(stages: Sequence[StageRecordPart]) -> float:
    """Those of stages that were taken from the store belong to the run that made them."""
    return sum(stage["seconds"] for stage in stages if not stage["cached"])


def add_rates(stages: Sequence[StageRecordPart], seconds: float) -> list[StageRecordPart]:
    """Shares of a run of `seconds`, and tokens a second.

    A resumed stage has the seconds of earlier attempts, too: they count as the run's.
    """
    whole = max(seconds, count_seconds(stages))
    return [
        {
            **stage,
            "share": stage["seconds"] / whole if whole and not stage["cached"] else None,
            "tokens_per_second": _tokens_per_second(stage),
        }
        for stage in stages
    ]


def list_time_rows(summary: Summary) -> list[TimeRow]:
    """The stages in order, then the rest of the run's time: loading, checks, this report."""
    stages = summary.get("stages") or []
    rows = [
        TimeRow(
            name=stage["name"],
            seconds=stage["seconds"],
            share=stage.get("share"),
            rate=_describe_rate(stage),
            tokens=_count_tokens(stage),
            stage=stage,
        )
        for stage in stages
    ]
    whole = summary["run"].get("seconds")
    spent = count_seconds(stages)
    if whole and spent < whole:
        rows.append(TimeRow(_REST, whole - spent, 1 - spent / whole))
    return rows


def _tokens_per_second(stage: StageRecordPart) -> float | None:
    tokens, _ = _count_tokens(stage)
    return tokens / stage["seconds"] if tokens and stage["seconds"] else None


def _describe_rate(stage: StageRecordPart) -> str:
    rate = stage.get("tokens_per_second")
    return f"{rate:,.0f} {_count_tokens(stage)[1]}" if rate is not None else ""


def _count_tokens(stage: StageRecordPart) -> tuple[int, str]:
    """A stage's tokens of the kind that it is for, which is the first one that it has."""
    counts = (
        (stage.get("tokens_trained", 0), "trained"),
        (stage.get("tokens_written", 0), "written"),
        (stage.get("tokens_read", 0), "read"),
    )
    return next((count for count in counts if count[0]), (0, ""))
