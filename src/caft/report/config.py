"""The report's settings."""

from __future__ import annotations

from dataclasses import dataclass

from caft.dials import CountOrNone, check_dials


@dataclass(kw_only=True, slots=True)
class ReportConfig:
    """`html` writes report.html; `questions` bounds the rows of its question browser."""

    html: bool = True
    questions: CountOrNone = 12_000

    def __post_init__(self) -> None:
        check_dials(self, "report")
