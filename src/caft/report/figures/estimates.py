"""Figures of an estimate: its distribution, its ROC curve, and the calibration of answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict

from caft.report.charts import Row
from caft.report.figures.figure import Figure
from caft.report.wording import area_between, percent, percent_between, write_number
from caft.statistics import (
    RocPoint,
    expected_calibration_error,
    roc_points,
    wilson_interval,
)

MOST_POINTS = 200
_HISTOGRAM_BINS = 24
_CALIBRATION_BINS = 10


def count_bins(
    values: Sequence[float], correct: Sequence[bool], bins: int = _HISTOGRAM_BINS
) -> list[Row]:
    """Right and wrong answers in equally wide bins [low, high); the last one has its upper edge.

    They go from 0, or the smallest value if that is lower, to the largest.
    """
    low, high = min(0.0, *values), max(values)
    width = (high - low) / bins or 1.0
    counts = [[0, 0] for _ in range(bins)]
    for value, is_right in zip(values, correct, strict=True):
        counts[min(bins - 1, int((value - low) / width))][0 if is_right else 1] += 1
    return [
        {"low": low + k * width, "high": low + (k + 1) * width, "right": right, "wrong": wrong}
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
    """Correct answers above the line and incorrect ones below it, with the classes' cut points.

    `cuts` and `classes` go from easy to hard, which is leftwards where `lower_is_harder`.
    """
    from caft.report.charts.panels import draw_bins

    if lower_is_harder:
        cuts, classes = cuts[::-1], classes[::-1]
    bins = count_bins(values, correct)
    low, high = bins[0]["low"], bins[-1]["high"]
    inside = [min(max(cut, low), high) for cut in cuts]
    lines = [
        {"x": x, "hover": f"cut point {write_number(cut)}"}
        for x, cut in zip(inside, cuts, strict=True)
    ]
    text = (
        f"{len(values)} questions by {measure}: {sum(correct)} correct, drawn upwards, "
        f"{len(values) - sum(correct)} incorrect, drawn downwards. The numbers follow as a table."
    )
    marks = [{**b, "hover": _describe_bin(**b)} for b in bins if b["right"] + b["wrong"]]
    edges = (low, *inside, high)
    return Figure(
        key="histogram",
        heading=f"Correct and incorrect answers by {measure}",
        note="Dashed lines are the cut points between the classes." if cuts else "",
        panels=(draw_bins(text, measure, marks, edges=edges, cuts=lines, classes=classes),),
        columns=("from", "to", "correct", "incorrect"),
        rows=tuple(
            (*map(write_number, (b["low"], b["high"])), str(b["right"]), str(b["wrong"]))
            for b in bins
        ),
        legend=(("right", "correct"), ("wrong", "incorrect")),
    )


def _describe_bin(low: float, high: float, right: int, wrong: int) -> str:
    share, edges = percent(wrong / (right + wrong)), " to ".join(map(write_number, (low, high)))
    return f"{edges}: {right} correct, {wrong} incorrect ({share} incorrect)"


def draw_roc(
    values: Sequence[float],
    wrong: Sequence[bool],
    cuts: Sequence[float],
    measure: str,
    area: Row,
    *,
    lower_is_harder: bool = False,
) -> Figure:
    """The ROC curve of an estimate against mistakes; both kinds must occur."""
    from caft.report.charts.panels import draw_rates

    sign, side = (-1, "below") if lower_is_harder else (1, "above")
    points = roc_points([sign * value for value in values], wrong)
    text = f"ROC AUC {area_between(area)} over {len(values)} questions. The diagonal is chance."
    dots = []
    for cut in cuts:
        at = [point for point in points if point.threshold >= sign * cut][-1]
        found, flagged = percent(at.true_positive_rate), percent(at.false_positive_rate)
        rates = f"true positive rate {found}, false positive rate {flagged}"
        dots.append({**_place(at), "hover": f"At or {side} {write_number(cut)}: {rates}"})
    curve = thin(points)
    return Figure(
        key="roc",
        heading="ROC: predicting base-model errors",
        note=f"A question at or {side} a threshold is predicted to be answered incorrectly."
        + (" Dots are the split's cut points." if cuts else ""),
        panels=(draw_rates(text, measure, [_place(point) for point in curve], dots, area),),
        columns=("threshold", "false positive rate", "true positive rate"),
        rows=tuple(
            (
                write_number(sign * p.threshold),
                *map(percent, (p.false_positive_rate, p.true_positive_rate)),
            )
            for p in curve
        ),
    )


def _place(point: RocPoint) -> Row:
    return {"x": point.false_positive_rate, "y": point.true_positive_rate}


def thin(points: Sequence[RocPoint]) -> list[RocPoint]:
    """At most about `MOST_POINTS` points, evenly taken, both ends kept."""
    step = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = list(points[::step])
    return kept if kept[-1] is points[-1] else [*kept, points[-1]]


def draw_calibration(
    probabilities: Sequence[float], correct: Sequence[bool], confidence: float = 0.95
) -> Figure:
    """The reliability curve: accuracy in ten bins of the probability that an answer was given.

    `confidence` is that of its whiskers.
    """
    from caft.report.charts.panels import draw_stated

    bins: list[list[tuple[float, bool]]] = [[] for _ in range(_CALIBRATION_BINS)]
    for probability, is_right in zip(probabilities, correct, strict=True):
        place = min(_CALIBRATION_BINS - 1, int(probability * _CALIBRATION_BINS))
        bins[place].append((probability, is_right))
    dots, rows = [], []
    for bin_rows in filter(None, bins):
        stated = sum(p for p, _ in bin_rows) / len(bin_rows)
        right = sum(is_right for _, is_right in bin_rows)
        share = wilson_interval(right, len(bin_rows), confidence)
        hover = f"confidence {percent(stated)}, accuracy {percent(share.value)}, n = {share.n}"
        dots.append({**asdict(share), "x": stated, "y": share.value, "hover": hover})
        rows.append((percent(stated), percent_between(asdict(share)), str(share.n)))
    error = expected_calibration_error(probabilities, correct, _CALIBRATION_BINS)
    text = f"Expected calibration error {percent(error)}, over {len(correct)} questions."
    return Figure(
        key="calibration",
        heading="Calibration of the answers' probabilities",
        note=f"{text} An answer is here the likeliest of the allowed ones, also where the model "
        "wrote another. On the diagonal, answers of 70% confidence are correct seven times out of "
        "ten. Whiskers are intervals.",
        panels=(draw_stated(text, dots),),
        columns=("mean confidence of the bin", "accuracy of the likeliest answer", "questions"),
        rows=tuple(rows),
    )
