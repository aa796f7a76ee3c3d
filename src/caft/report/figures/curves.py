"""The learning curves of training: loss, and accuracy on validation questions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

from markupsafe import Markup

from caft.report.charts import Row
from caft.report.figures.figure import Figure
from caft.report.schema import TuningPart
from caft.report.wording import percent

MOST_POINTS = 200
_MEASURES = (
    ("loss", "training loss (cross-entropy), nats per token"),
    ("validation_accuracy", "accuracy on validation questions"),
)


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One measurement; `x` counts epochs and continues over the stages."""

    stage: str
    x: float
    value: float


def run_on(curves: Sequence[Row], name: str) -> list[CurvePoint]:
    """The rows that have `name`, with the stages joined end to end.

    A step is at its share of the epoch's steps; what was measured behind an epoch is at its end.
    """
    steps: dict[tuple[str, float], list[float]] = {}
    epochs: dict[str, float] = {}
    for row in curves:
        stage = _stage_of(row)
        epochs[stage] = max(epochs.get(stage, 0), row["epoch"])
        if "loss" in row and "step" in row:
            steps.setdefault((stage, row["epoch"]), []).append(row["step"])
    before = dict(zip(epochs, accumulate(epochs.values(), initial=0.0), strict=False))
    return [
        CurvePoint(stage, before[stage] + _place(row, steps.get((stage, row["epoch"]))), row[name])
        for row in curves
        if name in row and math.isfinite(row[name])
        for stage in (_stage_of(row),)
    ]


def _stage_of(row: Row) -> str:
    return str(row.get("stage", ""))


def _place(row: Row, steps: Sequence[float] | None) -> float:
    """In epochs from the stage's start."""
    epoch = float(row["epoch"])
    if not steps or "step" not in row:
        return epoch
    first, last = steps[0], steps[-1]
    return epoch - 1 + float((row["step"] - first + 1) / (last - first + 1))


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


def draw_curves(curves: Sequence[Row], tuning: Sequence[TuningPart] = ()) -> Figure | None:
    """Training loss, and validation accuracy if it was measured; None without any."""
    panels = [
        _draw_measure(key, title, points)
        for key, title in _MEASURES
        if (points := average_neighbours(run_on(curves, key)))
    ]
    if not panels:
        return None
    return Figure(
        key="curves",
        heading="Learning curves",
        note=" ".join(["Dashed lines separate the stages.", *describe_validation(tuning)]),
        panels=tuple(panels),
        columns=("stage", "epoch", "mean training loss, nats per token", "validation accuracy"),
        rows=tuple(_list_epochs(curves)),
    )


def _list_epochs(curves: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    by_epoch: dict[tuple[str, float], list[Row]] = {}
    for row in curves:
        by_epoch.setdefault((_stage_of(row), row["epoch"]), []).append(row)
    for (stage, epoch), rows in by_epoch.items():
        losses = [row["loss"] for row in rows if "loss" in row]
        measured = [percent(row["validation_accuracy"]) for row in rows
                    if "validation_accuracy" in row]  # fmt: skip
        loss = f"{sum(losses) / len(losses):.4f}" if losses else ""
        yield (stage, f"{epoch:g}", loss, measured[-1] if measured else "")


def _draw_measure(key: str, title: str, points: Sequence[CurvePoint]) -> Markup:
    from caft.report.charts.panels import draw_curve

    ends = {point.stage: point.x for point in points}
    loss = key == "loss"
    write = "{:.4f} nats per token".format if loss else percent
    text = (
        f"{len(ends)} stages; from {write(points[0].value)} to {write(points[-1].value)}. "
        "The numbers follow as a table."
    )
    begun = dict(zip(ends, [0.0, *ends.values()], strict=False))
    marks = [
        {"x": p.x, "y": p.value, "stage": p.stage,
         "hover": f"stage {p.stage}, epoch {p.x - begun[p.stage]:.3g}: {write(p.value)}"}
        for p in points
    ]  # fmt: skip
    key = f"curve-{key.partition('_')[0]}"
    axis = "epochs of training, stage after stage"
    return draw_curve(key, text, marks, name=title, axis=axis, ends=ends, top=None if loss else 1.0)


def describe_validation(tuning: Sequence[TuningPart]) -> list[str]:
    """Best and final validation accuracy of every stage, and whether it over-fitted.

    It did if the last epoch is below the best by more than a standard error of the best,
    sqrt(p (1 - p) / n).
    """
    return [text for k, part in enumerate(tuning, start=1) for text in _describe_stage(k, part)]


def _describe_stage(stage: int, part: TuningPart) -> Iterator[str]:
    best, final, epoch, asked = part["best"], part["final"], part["best_epoch"], part["questions"]
    if best is None or final is None:
        return
    text = f"Stage {stage}: best {best:.1%} after epoch {epoch}, final {final:.1%}"
    yield f"{text} ({asked} validation questions)." if asked else f"{text}."
    if asked and best - final > math.sqrt(best * (1 - best) / asked):
        advice = (
            ", whose weights were kept."
            if part["selected"] == epoch
            else ": fewer epochs, tuning.select=best or tuning.patience would keep better weights."
        )
        yield f"It over-fits after epoch {epoch}{advice}"
