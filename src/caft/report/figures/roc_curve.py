"""How well the estimate finds mistakes, threshold by threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from caft.report.figures.figure import Figure
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
    from caft.report.charts.panels import draw_rates

    sign = -1 if lower_is_harder else 1
    points = roc_points([sign * value for value in values], wrong)
    told = (
        f"ROC AUC {area_between(area)} over {len(values)} questions. The diagonal is a coin toss."
    )
    curve = [{"x": p.false_positive_rate, "y": p.true_positive_rate} for p in thin(points)]
    operating = [_find_operating_point(points, cut, sign) for cut in cuts]
    return Figure(
        key="roc",
        heading="How well it finds mistakes",
        note="Share of mistakes found (upwards) when all questions "
        f"at or {'below' if lower_is_harder else 'above'} a threshold are flagged."
        + (" Dots are the split's cut points." if cuts else ""),
        panels=(draw_rates(told, measure, curve, operating, area),),
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


def _find_operating_point(points: Sequence[RocPoint], cut: float, sign: int) -> dict[str, Any]:
    at = [p for p in points if p.threshold >= sign * cut][-1]
    said = (
        f"At or {'below' if sign < 0 else 'above'} {cut:.4g}: "
        f"{percent(at.true_positive_rate)} of the mistakes, "
        f"{percent(at.false_positive_rate)} of the right answers"
    )
    return {"x": at.false_positive_rate, "y": at.true_positive_rate, "said": said}
