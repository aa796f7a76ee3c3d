"""Tables of a report, as texts with their values. Pages, Markdown and W&B print them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from caft.report.parts import Share
from caft.report.schema import Area
from caft.report.wording import percent


@dataclass(frozen=True, slots=True)
class Cell:
    """A text, the `value` that it is sorted by, if not itself, and an `aside` such as an interval.

    `style` is the page's class of the text, `tag` a word that marks the whole row, `link` an
    address. The page takes a text of `Markup` as it is.
    """

    text: str
    value: float | str | None = None
    aside: str = ""
    style: str = ""
    tag: str = ""
    link: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.aside})".lstrip() if self.aside else self.text


@dataclass(frozen=True, slots=True)
class Column:
    """Its `kind` is "text", "number", "place" (a short number) or "head" (it names the row)."""

    name: str
    kind: str
    cells: Sequence[Cell | str]


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length; `label` names what is in the rows, and `caption` may say more."""

    label: str
    columns: Sequence[Column]
    caption: str = ""

    @property
    def rows(self) -> list[list[Cell]]:
        """Its cells, row by row."""
        rows = zip(*(column.cells for column in self.columns), strict=True)
        return [[Cell(cell) if isinstance(cell, str) else cell for cell in row] for row in rows]

    @property
    def texts(self) -> list[dict[str, str]]:
        """Its cells as texts, row by row, each by its column's name."""
        names = [column.name for column in self.columns]
        return [dict(zip(names, map(str, row), strict=True)) for row in self.rows]

    def select(self, *names: str) -> Table:
        """The columns of these names, in their order."""
        by_name = {column.name: column for column in self.columns}
        return Table(self.label, [by_name[name] for name in names], self.caption)


def value_cell(value: float | None, write: Callable[[float], str], missing: str = "") -> Cell:
    """A number as `write` has it; in its place `missing`, which is sorted to the end."""
    if value is None:
        return _no_value(missing)
    return Cell(write(value), value)


def _no_value(missing: str) -> Cell:
    return Cell(missing, "", style="soft" if missing else "")


def count_cell(count: float | None) -> Cell:
    """12,345; empty where it is not known."""
    return value_cell(count, "{:,.0f}".format)


def share_cell(share: Share | None, missing: str = "") -> Cell:
    """A share with its bounds; in its place `missing`."""
    if share is None:
        return _no_value(missing)
    return Cell(percent(share["value"]), share["value"], write_bounds(share))


def write_bounds(share: Share) -> str:
    """The ends of an interval, in percent."""
    return f"{100 * share['low']:.1f} to {100 * share['high']:.1f}"


def points_cell(gap: Share, tag: str = "") -> Cell:
    """A difference in percentage points, with its bounds."""
    low, high = 100 * gap["low"], 100 * gap["high"]
    return Cell(f"{100 * gap['value']:+.1f} points", gap["value"], f"{low:+.1f} to {high:+.1f}",
                tag=tag)  # fmt: skip


def area_cell(area: Area | None, reason: str = "") -> Cell:
    """An area under a curve with its bounds; where it does not exist, `reason` or "none"."""
    if not area or area["value"] is None:
        return Cell((f"undefined: {reason}" if reason else "none") if area else "", "")
    return Cell(f"{area['value']:.3f}", area["value"], f"{area['low']:.3f} to {area['high']:.3f}")
