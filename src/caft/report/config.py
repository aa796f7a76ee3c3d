"""What a person gets to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True, slots=True)
class ReportConfig:
    """`html` writes report.html; `questions` bounds the rows of its question table."""

    html: bool = True
    questions: int = 500
