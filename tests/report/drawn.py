"""Drawings read back: marks by what they say, with their places in pixels of the plot."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

_TWO = r"\(?(-?[\d.e-]+),(-?[\d.e-]+)"


@dataclass(frozen=True)
class Drawn:
    """`x` and `y` are the anchor; `dx` and `dy` how far a bar or a line runs from there."""

    text: str
    x: float
    y: float
    dx: float
    dy: float
    fill: str | None


def read_marks(panel: str) -> list[Drawn]:
    """Everything that shows a value under the pointer, in the order in which it is drawn."""
    return [
        _read(node, node.findtext("title") or "")
        for node in ElementTree.fromstring(panel).iter()
        if node.get("class") == "mark"
    ]


def read_texts(panel: str, role: str = "role-mark") -> list[Drawn]:
    """Texts among the marks; or `role-axis-label` and `role-axis-title`."""
    return [
        _read(node, node.text or "")
        for group in ElementTree.fromstring(panel).iter("g")
        if group.get("class", "").startswith(f"mark-text {role}")
        for node in group
    ]


def _read(node: ElementTree.Element, text: str) -> Drawn:
    path = node.get("d", "")
    start = re.search(_TWO, node.get("transform", "")) or re.match("M" + _TWO, path)
    assert start is not None, f"{text} stands nowhere"
    bar = re.search(r"h(-?[\d.]+)v(-?[\d.]+)h", path)
    width, height = bar.groups() if bar else (node.get("x2", 0), node.get("y2", 0))
    return Drawn(text, float(start[1]), float(start[2]), float(width), float(height),
                 node.get("fill"))  # fmt: skip
