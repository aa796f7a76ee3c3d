"""The parts of every figure of the report."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One or more drawings of a size that a phone shows whole, with their numbers as a table.

    `panels` are whole drawings; `legend` pairs a style class with its word.
    """

    key: str
    heading: str
    note: str
    panels: tuple[Markup, ...]
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    legend: tuple[tuple[str, str], ...] = ()
