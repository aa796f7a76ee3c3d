"""Places names beside the points of a scatter plot. Pure: pixels of the plot in, pixels out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_CHARACTER = 6.3  # pixels of a letter at 11.5, a wide guess: no font is measured
_LINE = 13.0
_POINT = 7.0  # half a point's size
# Of the label's anchor to its point: align, across, upwards. The first that is free is taken.
_SPOTS = (
    ("left", 10, 0), ("right", -10, 0), ("left", 9, -10), ("left", 9, 11), ("right", -9, -10),
    ("right", -9, 11), ("center", 0, -15), ("center", 0, 16),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Label:
    """A text at its anchor, whose `align` is left, right or center."""

    text: str
    x: float
    y: float
    align: str


def place_labels(
    names: Sequence[str], points: Sequence[tuple[float, float]], width: float, height: float
) -> list[Label]:
    """The labels that fit, in the order of importance in which names and points are given.

    No label covers a point or another label, or leaves the plot by more than its margins; one that
    has no free place is left out.
    """
    taken = [(x - _POINT, y - _POINT, x + _POINT, y + _POINT) for x, y in points]
    labels: list[Label] = []
    for name, (x, y) in zip(names, points, strict=True):
        for align, dx, dy in _SPOTS:
            label = Label(name, x + dx, y + dy, align)
            box = _box(label)
            left, top, right, bottom = box
            inside = min(left + 8, top + 6, width + 14 - right, height + 6 - bottom) >= 0
            if inside and not any(_overlap(box, other) for other in taken):
                labels.append(label)
                taken.append(box)
                break
    return labels


def _box(label: Label) -> tuple[float, float, float, float]:
    wide = _CHARACTER * len(label.text)
    left = label.x - {"left": 0.0, "center": wide / 2, "right": wide}[label.align]
    return left, label.y - _LINE / 2, left + wide, label.y + _LINE / 2


def _overlap(one: tuple[float, ...], two: tuple[float, ...]) -> bool:
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]
