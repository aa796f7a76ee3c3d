"""The learning curves of training: loss, and accuracy on validation questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from caft.report.charts import Row
from caft.report.figures.figure import Figure

MOST_POINTS = 200
_MEASURES = (
    ("loss", "loss", "training loss, nats per token"),
    ("validation_accuracy", "validation accuracy", "accuracy on validation questions"),
)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One measurement; `x` continues over the stages."""

    stage: str
    x: float
    value: float


def run_on(curves: Sequence[Row], name: str) -> list[CurvePoint]:
    """The rows that have `name`; stages that count from their own start are joined end to end."""
    points: list[CurvePoint] = []
    offset = 0.0
    for row in curves:
        value, x = row.get(name), row.get("step", row.get("epoch"))
        if value is None or x is None or not math.isfinite(value):
            continue
        stage = str(row.get("stage", ""))
        if points and stage != points[-1].stage and x + offset <= points[-1].x:
            offset = points[-1].x
        points.append(CurvePoint(stage, x + offset, float(value)))
    return points


def average_neighbours(points: Sequence[CurvePoint], most: int = MOST_POINTS) -> list[CurvePoint]:
    """At most about `most` points: the means of neighbours of one stage."""
    size = max(1, math.ceil(len(points) / most))
    merged: list[CurvePoint] = []
    for stage in dict.fromkeys(point.stage for point in points):
        own = [point for point in points if point.stage == stage]
        for start in range(0, len(own), size):
            block = own[start : start + size]
            mean = sum(point.value for point in block) / len(block)
            merged.append(CurvePoint(stage, block[-1].x, mean))
    return merged


def draw_curves(curves: Sequence[Row]) -> Figure | None:
    """Training loss, and validation accuracy if it was measured; None without any."""
    axis = "optimizer steps" if any("step" in row for row in curves) else "epochs"
    panels, rows = [], []
    for key, measure, title in _MEASURES:
        points = average_neighbours(run_on(curves, key))
        if points:
            panels.append(_draw_measure(key, title, points, axis))
        rows += [(measure, p.stage, f"{p.x:g}", f"{p.value:.4f}") for p in points]
    if not panels:
        return None
    return Figure(
        key="curves",
        heading="Training",
        note=" ".join(["Vertical lines separate the stages.", *describe_validation(curves)]),
        panels=tuple(panels),
        columns=("measure", "stage", axis, "value"),
        rows=tuple(rows),
    )


def _draw_measure(key: str, title: str, points: Sequence[CurvePoint], axis: str) -> Markup:
    from caft.report.charts.panels import draw_curve

    ends = {point.stage: point.x for point in points}
    text = (
        f"{len(ends)} stages; from {points[0].value:.3f} to {points[-1].value:.3f}. "
        "The numbers follow as a table."
    )
    marks = [
        {"x": p.x, "y": p.value, "stage": p.stage,
         "hover": f"stage {p.stage}, {p.x:g}: {p.value:.4f}"}
        for p in points
    ]  # fmt: skip
    top = None if key == "loss" else 1.0
    key = f"curve-{key.partition('_')[0]}"
    return draw_curve(key, text, marks, name=title, axis=axis, ends=ends, top=top)


def describe_validation(curves: Sequence[Row]) -> list[str]:
    """Best and final validation accuracy of every stage, and whether it over-fitted.

    It did if the last epoch is below the best by more than a standard error of the best,
    sqrt(p (1 - p) / n).
    """
    by_stage: dict[str, list[Row]] = {}
    for row in curves:
        if "validation_accuracy" in row:
            by_stage.setdefault(str(row.get("stage", "")), []).append(row)
    return [_describe_stage(stage, rows) for stage, rows in by_stage.items()]


def _describe_stage(stage: str, rows: Sequence[Row]) -> str:
    measured = [float(row["validation_accuracy"]) for row in rows]
    best, final = max(measured), measured[-1]
    epoch = rows[measured.index(best)].get("epoch", measured.index(best) + 1)
    asked = int(rows[-1].get("validation_questions", 0))
    text = f"Stage {stage}: best {best:.1%} after epoch {epoch:g}, final {final:.1%}"
    text += f" ({asked} validation questions)." if asked else "."
    if asked and best - final > math.sqrt(best * (1 - best) / asked):
        text += (
            f" It over-fits after epoch {epoch:g}: fewer epochs, tuning.select=best or "
            "tuning.patience would keep the better weights."
        )
    return text
