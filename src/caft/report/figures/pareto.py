"""Accuracy against price, one panel a way of counting; who is on the front is filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.svg import Plot, Scale, drawing, element, label, line, nice_ticks, path_through
from caft.report.wording import percent_between, short_count
from caft.statistics import pareto_front

_WIDTH, _HEIGHT = 400, 300
_TOP, _FLOOR = 44, _HEIGHT - 54


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedArm:
    """One arm: its number in the table of arms, a share with its bounds, prices by name."""

    number: int
    name: str
    accuracy: Mapping[str, Any]
    prices: Mapping[str, float]


def draw_pareto(arms: Sequence[PricedArm], ways: Sequence[tuple[str, str]]) -> Figure | None:
    """A panel for every way (key of `prices`, words) in which the arms differ; None without any."""
    shown = [(key, words) for key, words in ways if len({arm.prices[key] for arm in arms}) > 1]
    if not shown:
        return None
    return Figure(
        key="pareto",
        heading="Accuracy against what it cost",
        note="Numbers are those of the table of settings; whiskers are the intervals. Filled: "
        "no other setting is as accurate for less. The line joins these.",
        panels=tuple(_draw_panel(arms, key, words) for key, words in shown),
        columns=("setting", "accuracy", *(words for _, words in shown)),
        rows=tuple(
            (
                f"{arm.number}. {arm.name}",
                percent_between(arm.accuracy),
                *(f"{arm.prices[key]:,.6g}" for key, _ in shown),
            )
            for arm in arms
        ),
        legend=(("front", "on the front, filled"), ("behind", "behind it, hollow")),
    )


def _draw_panel(arms: Sequence[PricedArm], key: str, words: str) -> Markup:
    front = pareto_front([(arm.prices[key], arm.accuracy["value"]) for arm in arms])
    dearest = max(arm.prices[key] for arm in arms)
    plot = Plot(Scale(0, dearest, 60, _WIDTH - 22), fit_shares([a.accuracy for a in arms]))
    names = ", ".join(arms[place].name for place in front)
    return drawing(
        f"pareto-{key.replace('_', '-')}",
        _WIDTH,
        _HEIGHT,
        f"Accuracy by {words}",
        f"On the front, by rising price: {names}. The numbers follow as a table.",
        label(words, plot.x.start, 20, "panel-name", "start"),
        plot.left_axis(share_ticks(plot.y)),
        element(
            "path",
            d=path_through([_place(plot, arms[k], key) for k in front]),
            class_="front-line",
        ),
        *(
            _draw_arm(plot, arm, key, words, on_front=place in front)
            for place, arm in enumerate(arms)
        ),
        plot.bottom_axis([(v, short_count(v)) for v in nice_ticks(0, dearest, 5)], words),
    )


def fit_shares(shares: Sequence[Mapping[str, Any]]) -> Scale:
    """From just below the lowest bound to just above the highest, in steps of five points."""
    low = min(share["low"] for share in shares)
    high = max(share["high"] for share in shares)
    bottom, top = int(low * 20) / 20, min(1.0, (int(high * 20) + 1) / 20)
    return Scale(bottom, max(top, bottom + 0.05), _FLOOR, _TOP)


def share_ticks(scale: Scale) -> list[tuple[float, str]]:
    """Round shares within the scale, as percentages."""
    return [(v, f"{100 * v:g}%") for v in nice_ticks(scale.low, scale.high)]


def _place(plot: Plot, arm: PricedArm, key: str) -> tuple[float, float]:
    return plot.x(arm.prices[key]), plot.y(arm.accuracy["value"])


def _draw_arm(plot: Plot, arm: PricedArm, key: str, words: str, *, on_front: bool) -> Markup:
    x, y = _place(plot, arm, key)
    said = f"{arm.name}: {percent_between(arm.accuracy)}, {arm.prices[key]:,.6g} {words}"
    shape = "front" if on_front else "behind"
    low, high = plot.y(arm.accuracy["low"]), plot.y(arm.accuracy["high"])
    return element(
        "g",
        element("title", said),
        line(x, low, x, high, f"whisker {shape}"),
        element("circle", cx=x, cy=y, r=9, class_=f"arm {shape}"),
        label(str(arm.number), x, y + 4.2, f"arm-number {shape}"),
        class_="mark",
    )
