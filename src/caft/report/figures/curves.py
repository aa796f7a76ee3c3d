"""The course of training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure

MOST_POINTS = 200


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One measurement; `x` runs on over the stages."""

    stage: str
    x: float
    value: float


def run_on(curves: Sequence[Mapping[str, Any]], name: str) -> list[CurvePoint]:
    """The rows that have `name`, with stages that count from their own start put end to end."""
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


def draw_curves(curves: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Training loss, and validation accuracy where it was measured; None without any."""
    loss = average_neighbours(run_on(curves, "loss"))
    validation = average_neighbours(run_on(curves, "validation_accuracy"))
    axis = "optimizer steps" if any("step" in row for row in curves) else "epochs"
    panels = []
    if loss:
        panels.append(_draw_course("loss", "training loss, nats per token", loss, axis, None))
    if validation:
        name = "accuracy on validation questions"
        panels.append(_draw_course("validation", name, validation, axis, 1.0))
    if not panels:
        return None
    kinds = (("loss", loss), ("validation accuracy", validation))
    return Figure(
        key="curves",
        heading="Training",
        note=" ".join(["Vertical lines stand between the stages.", *tell_validation(curves)]),
        panels=tuple(panels),
        columns=("measure", "stage", axis, "value"),
        rows=tuple(
            (kind, point.stage, f"{point.x:g}", f"{point.value:.4f}")
            for kind, points in kinds
            for point in points
        ),
    )


def tell_validation(curves: Sequence[Mapping[str, Any]]) -> list[str]:
    """Best and final validation accuracy of every stage, and whether it over-fitted.

    That is said where the last epoch lies below the best by more than a standard error of it,
    sqrt(p (1 - p) / n).
    """
    told = []
    for stage in dict.fromkeys(str(row.get("stage", "")) for row in curves):
        rows = [
            row
            for row in curves
            if str(row.get("stage", "")) == stage and "validation_accuracy" in row
        ]
        if rows:
            told.append(_tell_stage(stage, rows))
    return told


def _tell_stage(stage: str, rows: Sequence[Mapping[str, Any]]) -> str:
    measured = [float(row["validation_accuracy"]) for row in rows]
    best, final = max(measured), measured[-1]
    epoch = rows[measured.index(best)].get("epoch", measured.index(best) + 1)
    asked = int(rows[-1].get("validation_questions", 0))
    told = f"Stage {stage}: best {best:.1%} after epoch {epoch:g}, final {final:.1%}"
    told += f" ({asked} validation questions)." if asked else "."
    if asked and best - final > math.sqrt(best * (1 - best) / asked) and best > final:
        told += (
            f" It over-fits after epoch {epoch:g}: fewer epochs, tuning.select=best or "
            "tuning.patience would keep the better weights."
        )
    return told


def _draw_course(
    key: str, name: str, points: Sequence[CurvePoint], axis: str, top: float | None
) -> Markup:
    from caft.report.charts.panels import draw_course

    ends = {point.stage: point.x for point in points}
    told = (
        f"{len(ends)} stages; from {points[0].value:.3f} to {points[-1].value:.3f}. "
        "The numbers follow as a table."
    )
    rows = [
        {"x": p.x, "y": p.value, "stage": p.stage,
         "said": f"stage {p.stage}, {p.x:g}: {p.value:.4f}"}
        for p in points
    ]  # fmt: skip
    return draw_course(f"curve-{key}", told, rows, name=name, axis=axis, ends=ends, top=top)
