"""Figures and tables of the report in a notebook, which shows whatever has `_repr_html_`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from caft.report.figures import Figure
from caft.report.page import read_template, render_fragment


@dataclass(frozen=True, slots=True, repr=False)
class Shown:
    """HTML that a notebook shows as it is."""

    html: str

    def _repr_html_(self) -> str:
        return self.html


def show_figure(figure: Figure) -> Shown:
    """A figure in the report's style, with its numbers as a table."""
    style = Markup("<style>{0}</style>").format(Markup(read_template("report.css")))
    return Shown(style + render_fragment("figure.html.j2", {"figure": figure}))


def show_table(rows: Sequence[Mapping[str, object]]) -> Shown:
    """Rows with equal columns; numbers are written to four digits."""
    columns = list(rows[0]) if rows else []
    cells = [[_write(row[column]) for column in columns] for row in rows]
    return Shown(render_fragment("table.html.j2", {"columns": columns, "rows": cells}))


def _write(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
