"""Accuracy of base and tuned model, one panel a mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.wording import percent_between

_MODELS = ("base", "tuned")


def draw_accuracy(accuracy: Mapping[str, Any], classes: Sequence[str]) -> Figure:
    """One panel a mode: base and tuned accuracy with whiskers, over all and by class."""
    modes = [
        mode
        for mode in ("answer", "rationale", "routed")
        if any((accuracy.get(who) or {}).get(mode) for who in _MODELS)
    ]
    groups = ("all", *classes)
    rows = tuple(
        (mode, who, group, percent_between(share), str(share["n"]))
        for mode in modes
        for who in _MODELS
        for group in groups
        if (share := _share_of(accuracy, who, mode, group))
    )
    return Figure(
        key="accuracy",
        heading="Accuracy by class",
        note="Test questions. Whiskers are the intervals; the classes are the base model's.",
        panels=tuple(_draw_mode(accuracy, mode, groups) for mode in modes),
        columns=("mode", "model", "class", "accuracy", "questions"),
        rows=rows,
        legend=(("base", "base, circle"), ("tuned", "tuned, square")),
    )


def _share_of(
    accuracy: Mapping[str, Any], who: str, mode: str, group: str
) -> Mapping[str, Any] | None:
    result: Mapping[str, Any] | None = (accuracy.get(who) or {}).get(mode)
    if result is None or group == "all":
        return result
    share: Mapping[str, Any] | None = result["by_complexity"].get(group)
    return share


def _draw_mode(accuracy: Mapping[str, Any], mode: str, groups: Sequence[str]) -> Markup:
    from caft.report.charts.panels import draw_mode

    shares = [
        {**{key: share[key] for key in ("value", "low", "high", "n")},
         "model": who, "group": group, "place": place,
         "told": f"{who}, {group}: {percent_between(share)}"}
        for place, group in enumerate(groups)
        for who in _MODELS
        if (share := _share_of(accuracy, who, mode, group))
    ]  # fmt: skip
    told = "; ".join(share["told"] for share in shares)
    said = [{**share, "said": f"{share['told']}, n = {share['n']}"} for share in shares]
    return draw_mode(told, mode, said)
