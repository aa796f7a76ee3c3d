"""Accuracy against where the classes are cut."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.wording import percent_between


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
    from caft.report.charts.drawing import NUMBER
    from caft.report.charts.panels import draw_arms

    rows = [
        {**arm.accuracy, "x": arm.cuts[k], "number": arm.number, "line": arm.method,
         "said": f"{arm.name}, cut at {arm.cuts[k]:.4g}: {percent_between(arm.accuracy)}"}
        for arm in arms
    ]  # fmt: skip
    told = "; ".join(row["said"] for row in rows)
    cuts = [arm.cuts[k] for arm in arms]
    words = f"cut point {k + 1}, {arms[0].measure}"
    domain = (min(cuts), max(cuts))
    return draw_arms(key, told, rows, axis=words, domain=domain, labels=NUMBER)
