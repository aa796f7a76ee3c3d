"""How well the estimate finds mistakes, threshold by threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.svg import Plot, Scale, drawing, element, label, line, path_through
from caft.report.wording import area_between, percent
from caft.statistics import RocPoint, roc_points

MOST_POINTS = 200


def draw_roc(
    values: Sequence[float],
    wrong: Sequence[bool],
    cuts: Sequence[float],
    measure: str,
    area: Mapping[str, Any],
    *,
    lower_is_harder: bool = False,
) -> Figure:
    """The ROC curve of an estimate against mistakes; both kinds must occur."""
    sign = -1 if lower_is_harder else 1
    points = roc_points([sign * value for value in values], wrong)
    side = 340
    plot = Plot(Scale(0, 1, 52, side - 14), Scale(0, 1, side - 54, 14))
    curve = [(plot.x(p.false_positive_rate), plot.y(p.true_positive_rate)) for p in thin(points)]
    said = f"ROC AUC {area_between(area)}"
    fifths = [(k / 5, f"{20 * k}%") for k in range(6)]
    panel = drawing(
        "roc",
        side,
        side,
        f"ROC curve of {measure} against mistakes",
        f"{said} over {len(values)} questions. The diagonal is a coin toss.",
        plot.left_axis(fifths),
        element("path", d=path_through([*curve, (plot.x(1), plot.y(0))]) + "Z", class_="under"),
        line(plot.x(0), plot.y(0), plot.x(1), plot.y(1), "diagonal"),
        element("path", element("title", said), d=path_through(curve), class_="curve"),
        *(_draw_operating_point(plot, points, cut, sign) for cut in cuts),
        label(f"AUC {area['value']:.3f}", plot.x(0.97), plot.y(0.105), "big", "end"),
        label(f"{area['low']:.3f} to {area['high']:.3f}", plot.x(0.97), plot.y(0.04), "tick",
              "end"),
        plot.bottom_axis(fifths, "right answers flagged as well"),
    )  # fmt: skip
    return Figure(
        key="roc",
        heading="How well it finds mistakes",
        note="Share of mistakes found (upwards) when all questions "
        f"at or {'below' if lower_is_harder else 'above'} a threshold are flagged."
        + (" Dots are the split's cut points." if cuts else ""),
        panels=(panel,),
        columns=("threshold", "right answers flagged", "mistakes found"),
        rows=tuple(_write_row(point, sign) for point in thin(points)),
    )


def _write_row(point: RocPoint, sign: int) -> tuple[str, ...]:
    rates = (point.false_positive_rate, point.true_positive_rate)
    return (f"{sign * point.threshold:.4g}", *map(percent, rates))


def thin(points: Sequence[RocPoint]) -> list[RocPoint]:
    """At most about `MOST_POINTS` points, evenly taken, both ends kept."""
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = list(points[::step])
    return kept if kept[-1] is points[-1] else [*kept, points[-1]]


def _draw_operating_point(plot: Plot, points: Sequence[RocPoint], cut: float, sign: int) -> Markup:
    at = [p for p in points if p.threshold >= sign * cut][-1]
    said = (
        f"At or {'below' if sign < 0 else 'above'} {cut:.4g}: "
        f"{percent(at.true_positive_rate)} of the mistakes, "
        f"{percent(at.false_positive_rate)} of the right answers"
    )
    x, y = plot.x(at.false_positive_rate), plot.y(at.true_positive_rate)
    return element("circle", element("title", said), cx=x, cy=y, r=5, class_="dot curve-dot")
