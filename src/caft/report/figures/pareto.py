"""Accuracy against price, one panel a way of counting; who is on the front is filled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.wording import percent_between
from caft.statistics import pareto_front


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
    from caft.report.charts.drawing import COUNT
    from caft.report.charts.panels import draw_arms

    front = pareto_front([(arm.prices[key], arm.accuracy["value"]) for arm in arms])
    names = ", ".join(arms[place].name for place in front)
    rows = [
        {**arm.accuracy, "x": arm.prices[key], "number": arm.number,
         "line": "front" if place in front else None,
         "said": f"{arm.name}: {percent_between(arm.accuracy)}, {arm.prices[key]:,.6g} {words}"}
        for place, arm in enumerate(arms)
    ]  # fmt: skip
    told = f"On the front, by rising price: {names}. The numbers follow as a table."
    dearest = max(arm.prices[key] for arm in arms)
    key = f"pareto-{key.replace('_', '-')}"
    return draw_arms(key, told, rows, axis=words, domain=(0, dearest), labels=COUNT)
