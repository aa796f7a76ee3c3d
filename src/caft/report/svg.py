"""SVG by hand: elements, scales and axes. Pure.

Colours and fonts come from the page's style sheet through class names, so that a figure follows
light, dark and print by itself. Plain strings are escaped, `Markup` is taken as it is: nothing
from data can become an element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

Attribute = str | float | int


def element(name: str, *children: str, **attributes: Attribute) -> Markup:
    """One element. `class_` is class, other underscores become hyphens; floats keep 2 decimals."""
    written = Markup("").join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _written(value))
        for key, value in attributes.items()
    )
    body = Markup("").join(escape(child) for child in children)
    return Markup("<{0}{1}>{2}</{0}>").format(name, written, body)


def _written(value: Attribute) -> str:
    if isinstance(value, float):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return str(value)


def label(text: str, x: float, y: float, class_: str = "tick", anchor: str = "middle") -> Markup:
    """Text whose anchor point is (x, y)."""
    return element("text", text, x=x, y=y, class_=class_, text_anchor=anchor)


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path_through(points: Sequence[tuple[float, float]]) -> str:
    """Path data of a polyline."""
    return "M" + "L".join(f"{x:.2f},{y:.2f}" for x, y in points)


def drawing(
    key: str, width: int, height: int, title: str, description: str, *children: str
) -> Markup:
    """A whole figure with its text alternative; `key` is unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-desc"),
        *children,
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_labelledby=f"{key}-title {key}-desc",
        class_="drawing",
    )


@dataclass(frozen=True, slots=True)
class Scale:
    """A straight map from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Pixels of a value; an empty domain maps to its middle."""
        if self.high == self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def nice_ticks(low: float, high: float, most: int = 6) -> tuple[float, ...]:
    """At most `most` round numbers within low..high, in steps of 1, 2 or 5 times ten to some k."""
    if not high > low:
        return (low,)
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return tuple(round(k * step, 12) for k in range(first, last + 1))


@dataclass(frozen=True, slots=True)
class Plot:
    """The area inside the axes of one drawing."""

    x: Scale
    y: Scale

    def bottom_axis(self, ticks: Sequence[tuple[float, str]], caption: str) -> Markup:
        """Tick labels below the area, and what they measure."""
        floor = max(self.y.start, self.y.end)
        marks = [label(text, self.x(value), floor + 18) for value, text in ticks]
        middle = (self.x.start + self.x.end) / 2
        return element("g", *marks, label(caption, middle, floor + 38, "caption"))

    def left_axis(self, ticks: Sequence[tuple[float, str]]) -> Markup:
        """Grid lines across the area with their labels on the left."""
        return element(
            "g",
            *(line(self.x.start, self.y(v), self.x.end, self.y(v), "grid") for v, _ in ticks),
            *(label(text, self.x.start - 8, self.y(v) + 4, "tick", "end") for v, text in ticks),
        )
