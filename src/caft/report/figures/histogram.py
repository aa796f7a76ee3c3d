"""How the estimate is spread over right answers and mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.wording import percent

BINS = 24


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
    told = (
        f"{len(values)} questions by {measure}: {sum(correct)} answered right, drawn upwards, "
        f"{len(values) - sum(correct)} wrong, drawn downwards. The numbers follow as a table."
    )
    return Figure(
        key="histogram",
        heading=f"Right answers and mistakes by {measure}",
        note="Dashed lines are the cut points between the classes." if cuts else "",
        panels=(_draw(told, measure, bins, cuts, classes),),
        columns=("from", "to", "right", "wrong"),
        rows=tuple((f"{b.low:.3f}", f"{b.high:.3f}", str(b.right), str(b.wrong)) for b in bins),
        legend=(("right", "right, upwards"), ("wrong", "wrong, downwards")),
    )


def _draw(
    told: str, measure: str, bins: Sequence[Bin], cuts: Sequence[float], classes: Sequence[str]
) -> Markup:
    from caft.report.charts.panels import draw_bins

    low, high = bins[0].low, bins[-1].high
    inside = [min(max(cut, low), high) for cut in cuts]
    marks = [{"x": x, "said": f"cut point {cut:.4g}"} for x, cut in zip(inside, cuts, strict=True)]
    rows = [{**asdict(b), "said": _say(b)} for b in bins if b.right + b.wrong]
    edges = (low, *inside, high)
    return draw_bins(told, measure, rows, edges=edges, cuts=marks, classes=classes)


def _say(b: Bin) -> str:
    share = percent(b.wrong / (b.right + b.wrong))
    return f"{b.low:.2f} to {b.high:.2f}: {b.right} right, {b.wrong} wrong ({share} wrong)"
