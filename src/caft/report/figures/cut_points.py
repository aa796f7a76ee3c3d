"""Accuracy against where the classes are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.figures.pareto import fit_shares, share_ticks
from caft.report.svg import Plot, Scale, drawing, element, label, line, nice_ticks, path_through
from caft.report.wording import percent_between

_WIDTH, _HEIGHT = 400, 300


@dataclass(frozen=True, slots=True, kw_only=True)
class CutArm:
    """One arm: its number, a share with its bounds, and the cut points that made its classes.

    `measure` is what was cut, with its unit: numbers of two measures share no axis.
    """

    number: int
    name: str
    method: str
    measure: str
    accuracy: Mapping[str, Any]
    cuts: Sequence[float]


def draw_cut_points(arms: Sequence[CutArm]) -> Figure | None:
    """A panel for each measure and cut point of which several values were tried; None without."""
    drawn: list[CutArm] = []
    panels: list[Markup] = []
    for measure in dict.fromkeys(arm.measure for arm in arms):
        of_measure = [arm for arm in arms if arm.measure == measure and arm.cuts]
        several = [arm for arm in of_measure if len(arm.cuts) == len(of_measure[0].cuts)]
        shown = [
            k
            for k in range(len(several[0].cuts) if several else 0)
            if len({round(arm.cuts[k], 9) for arm in several}) > 1
        ]
        drawn += several if shown else []
        panels += [
            _draw_panel(several, k, f"cuts-{len(panels) + place}")
            for place, k in enumerate(shown, start=1)
        ]
    if not panels:
        return None
    places = range(max(len(arm.cuts) for arm in drawn))
    return Figure(
        key="cuts",
        heading="Accuracy against the cut points",
        note="One panel for each estimate and cut point, one line a method; numbers are those of "
        "the table of settings, whiskers the intervals.",
        panels=tuple(panels),
        columns=("setting", "accuracy", "estimate", *(f"cut point {k + 1}" for k in places)),
        rows=tuple(
            (f"{arm.number}. {arm.name}", percent_between(arm.accuracy), arm.measure,
             *(f"{arm.cuts[k]:.4g}" if k < len(arm.cuts) else "" for k in places))
            for arm in drawn
        ),
    )  # fmt: skip


def _draw_panel(arms: Sequence[CutArm], k: int, key: str) -> Markup:
    low, high = min(arm.cuts[k] for arm in arms), max(arm.cuts[k] for arm in arms)
    margin = (high - low) * 0.06
    x = Scale(low - margin, high + margin, 60, _WIDTH - 22)
    plot = Plot(x, fit_shares([arm.accuracy for arm in arms]))
    measure = arms[0].measure
    words = f"cut point {k + 1}, {measure}"
    methods = dict.fromkeys(arm.method for arm in arms)
    lines = [
        sorted((arm.cuts[k], arm.accuracy["value"]) for arm in arms if arm.method == method)
        for method in methods
    ]
    told = "; ".join(
        f"{a.name}, cut at {a.cuts[k]:.4g}: {percent_between(a.accuracy)}" for a in arms
    )
    return drawing(
        key, _WIDTH, _HEIGHT, f"Accuracy by {words}", told,
        label(f"cut point {k + 1}", x.start, 20, "panel-name", "start"),
        plot.left_axis(share_ticks(plot.y)),
        *(element("path", d=path_through([(plot.x(c), plot.y(v)) for c, v in points]),
                  class_="front-line") for points in lines),
        *(_draw_arm(plot, arm, k) for arm in arms),
        plot.bottom_axis([(v, f"{v:g}") for v in nice_ticks(x.low, x.high, 5)], measure),
    )  # fmt: skip


def _draw_arm(plot: Plot, arm: CutArm, k: int) -> Markup:
    x, y = plot.x(arm.cuts[k]), plot.y(arm.accuracy["value"])
    said = f"{arm.name}, cut at {arm.cuts[k]:.4g}: {percent_between(arm.accuracy)}"
    low, high = plot.y(arm.accuracy["low"]), plot.y(arm.accuracy["high"])
    return element(
        "g",
        element("title", said),
        line(x, low, x, high, "whisker front"),
        element("circle", cx=x, cy=y, r=9, class_="arm front"),
        label(str(arm.number), x, y + 4.2, "arm-number front"),
        class_="mark",
    )
