"""What a person gets to read."""

from __future__ import annotations

from dataclasses import dataclass

from caft.errors import UserError


@dataclass(kw_only=True, slots=True)
class ReportConfig:
    """`html` writes report.html; `questions` bounds the rows of its question browser."""

    html: bool = True
    questions: int = 12_000

    def __post_init__(self) -> None:
        if self.questions < 0:
            raise UserError(
                f"report.questions is {self.questions}; give 0 (no question browser) or more"
            )
