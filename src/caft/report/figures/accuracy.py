"""Accuracy of base and tuned model, one panel a mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.svg import Plot, Scale, drawing, element, label, line
from caft.report.wording import percent_between

_MODELS = (("base", -9.0), ("tuned", 9.0))


def draw_accuracy(accuracy: Mapping[str, Any], classes: Sequence[str]) -> Figure:
    """One panel a mode: base and tuned accuracy with whiskers, over all and by class."""
    modes = [
        mode
        for mode in ("answer", "rationale", "routed")
        if any((accuracy.get(who) or {}).get(mode) for who, _ in _MODELS)
    ]
    groups = ("all", *classes)
    rows = tuple(
        (mode, who, group, percent_between(share), str(share["n"]))
        for mode in modes
        for who, _ in _MODELS
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
    width, height = 320, 270
    plot = Plot(Scale(0, len(groups), 46, width - 8), Scale(0, 1, height - 34, 40))
    quarters = [(k / 4, f"{25 * k}%") for k in range(5)]
    shares = [
        (group, who, plot.x(place + 0.5) + shift, share)
        for place, group in enumerate(groups)
        for who, shift in _MODELS
        if (share := _share_of(accuracy, who, mode, group))
    ]
    told = "; ".join(f"{who}, {group}: {percent_between(s)}" for group, who, _, s in shares)
    return drawing(
        f"accuracy-{mode}",
        width,
        height,
        f"Accuracy in {mode} mode",
        told,
        label(f"{mode} mode", plot.x.start, 20, "panel-name", "start"),
        plot.left_axis(quarters),
        line(plot.x(1), plot.y(0), plot.x(1), plot.y(1), "divider"),
        *(_draw_whisker(plot, x, who, group, share) for group, who, x, share in shares),
        *(label(_short(group), plot.x(k + 0.5), height - 14) for k, group in enumerate(groups)),
    )


def _short(name: str) -> str:
    return name if len(name) <= 10 else f"{name[:9]}…"


def _draw_whisker(plot: Plot, x: float, who: str, group: str, share: Mapping[str, Any]) -> Markup:
    y = plot.y(share["value"])
    if who == "base":
        mark = element("circle", cx=x, cy=y, r=5, class_="dot base")
    else:
        mark = element("rect", x=x - 4.5, y=y - 4.5, width=9, height=9, class_="dot tuned")
    said = f"{who}, {group}: {percent_between(share)}, n = {share['n']}"
    whisker = line(x, plot.y(share["low"]), x, plot.y(share["high"]), f"whisker {who}")
    return element("g", element("title", said), whisker, mark, class_="mark")
