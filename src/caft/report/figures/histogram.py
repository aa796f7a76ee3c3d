"""How the estimate is spread over right answers and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.svg import Plot, Scale, drawing, element, label, line, nice_ticks
from caft.report.wording import percent

BINS = 24
_WIDTH, _HEIGHT = 400, 290
_NARROW = 34


@dataclass(frozen=True, slots=True)
class Bin:
    """Questions whose estimate lies in [low, high); the last bin takes its upper edge in."""

    low: float
    high: float
    right: int
    wrong: int


def count_bins(values: Sequence[float], correct: Sequence[bool], bins: int = BINS) -> list[Bin]:
    """Equally wide bins from 0, or the smallest value if that is lower, to the largest."""
    low, high = min(0.0, *values), max(values)
    width = (high - low) / bins or 1.0
    counts = [[0, 0] for _ in range(bins)]
    for value, is_right in zip(values, correct, strict=True):
        counts[min(bins - 1, int((value - low) / width))][0 if is_right else 1] += 1
    return [
        Bin(low + k * width, low + (k + 1) * width, right, wrong)
        for k, (right, wrong) in enumerate(counts)
    ]


def draw_histogram(
    values: Sequence[float],
    correct: Sequence[bool],
    cuts: Sequence[float],
    classes: Sequence[str],
    measure: str,
    *,
    lower_is_harder: bool = False,
) -> Figure:
    """Right answers above the line and mistakes below it, with the classes' cut points.

    `cuts` and `classes` go from easy to hard, which is leftwards where `lower_is_harder`.
    """
    if lower_is_harder:
        cuts, classes = cuts[::-1], classes[::-1]
    bins = count_bins(values, correct)
    tallest_right = max(1, *(b.right for b in bins))
    tallest_wrong = max(1, *(b.wrong for b in bins))
    x = Scale(bins[0].low, bins[-1].high, 52, _WIDTH - 12)
    plot = Plot(x, Scale(-tallest_wrong, tallest_right, _HEIGHT - 54, 46))
    description = (
        f"{len(values)} questions by {measure}: {sum(correct)} answered right, drawn upwards, "
        f"{len(values) - sum(correct)} wrong, drawn downwards. The numbers follow as a table."
    )
    ticks = nice_ticks(-tallest_wrong, tallest_right, 9)
    panel = drawing(
        "histogram",
        _WIDTH,
        _HEIGHT,
        f"Right answers and mistakes by {measure}",
        description,
        plot.left_axis([(v, f"{abs(v):g}") for v in ticks if v == int(v)]),
        *(_draw_bin(plot, b) for b in bins),
        line(x.start, plot.y(0), x.end, plot.y(0), "axis"),
        *_draw_cuts(plot, cuts, classes),
        plot.bottom_axis([(v, f"{v:g}") for v in nice_ticks(x.low, x.high)], measure),
    )
    return Figure(
        key="histogram",
        heading=f"Right answers and mistakes by {measure}",
        note="Questions per bin."
        + (" Dashed lines are the cut points between the classes." if cuts else ""),
        panels=(panel,),
        columns=("from", "to", "right", "wrong"),
        rows=tuple(_write_row(b) for b in bins),
        legend=(("right", "right, upwards"), ("wrong", "wrong, downwards")),
    )


def _write_row(b: Bin) -> tuple[str, ...]:
    return (f"{b.low:.3f}", f"{b.high:.3f}", str(b.right), str(b.wrong))


def _draw_bin(plot: Plot, b: Bin) -> Markup:
    total = b.right + b.wrong
    left, width = plot.x(b.low) + 0.75, plot.x(b.high) - plot.x(b.low) - 1.5
    up, down = plot.y(b.right), plot.y(-b.wrong)
    if total == 0:
        return Markup("")
    said = (
        f"{b.low:.2f} to {b.high:.2f}: {b.right} right, {b.wrong} wrong "
        f"({percent(b.wrong / total)} wrong)"
    )
    return element(
        "g",
        element("title", said),
        element("rect", x=left, y=up, width=width, height=plot.y(0) - up, class_="right"),
        element("rect", x=left, y=plot.y(0), width=width, height=down - plot.y(0), class_="wrong"),
        class_="mark",
    )


def _draw_cuts(plot: Plot, cuts: Sequence[float], classes: Sequence[str]) -> list[Markup]:
    top, floor = plot.y.end, plot.y.start
    inside = [min(max(cut, plot.x.low), plot.x.high) for cut in cuts]
    marks = [
        element("g", element("title", f"cut point {cut:.4g}"),
                line(plot.x(place), top - 22, plot.x(place), floor, "cut"))
        for cut, place in zip(cuts, inside, strict=True)
    ]  # fmt: skip
    edges = [plot.x.low, *inside, plot.x.high]
    for name, (low, high) in zip(classes, pairwise(edges), strict=False):
        # A class may be too narrow for its name; the table of classes has it anyway.
        if plot.x(high) - plot.x(low) >= max(_NARROW, 7.5 * len(name)):
            marks.append(label(name, plot.x((low + high) / 2), top - 12, "class-name"))
    return marks
