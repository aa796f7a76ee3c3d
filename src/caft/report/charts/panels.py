"""Every drawing of the report, from rows of plain numbers, each with its mark's `hover` text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise

import altair as alt
from markupsafe import Markup

from caft.report.charts import Row
from caft.report.charts.drawing import (
    COUNT,
    CURVE,
    HOVER,
    INK,
    NUMBER,
    RULE,
    SHARE,
    SOFT,
    across,
    chart,
    draw,
    shorten,
    upwards,
    whisker,
)
from caft.report.schema import MODELS
from caft.report.wording import write_number

_ROW = alt.Y("row:Q", scale=None, title=None)  # a place in pixels, above the plot
_SIDES = alt.Scale(domain=["right", "wrong"], range=["var(--right)", "var(--wrong)"])
_SHADES = alt.Scale(domain=[0, 1], range=[SOFT, INK])
_CHARACTERS = 46  # of a class's name across the whole drawing
_COLOURS = alt.Scale(domain=list(MODELS), range=["var(--base)", "var(--tuned)"])
_SHAPES = alt.Scale(domain=list(MODELS), range=["circle", "square"])


def draw_bins(text: str, measure: str, bins: Sequence[Row], *, edges: Sequence[float],
              cuts: Sequence[Row], classes: Sequence[str]) -> Markup:  # fmt: skip
    """Correct answers upwards, incorrect ones downwards; `edges` are those of the classes.

    Every class has a strip over its range with its name above.
    """
    x = partial(across, title=measure, domain=(edges[0], edges[-1]), labels=NUMBER)
    tallest = [max(1, *(row[side] for row in bins)) for side in ("right", "wrong")]
    y = upwards("count", "questions per bin", (-tallest[1], tallest[0]),
                {**COUNT, "tickMinStep": 1}, ticks=8)  # fmt: skip
    bars = [
        {**row, "side": side, "count": sign * row[side]}
        for row in bins for side, sign in (("right", 1), ("wrong", -1)) if row[side]
    ]  # fmt: skip
    names = chart(_place_names(classes, edges)).mark_text(fontWeight=600, color=INK)
    strips = [
        {
            "low": low,
            "high": high,
            "shade": k % 2,
            "hover": f"{name}: {write_number(low)} to {write_number(high)}",
        }
        for k, (name, (low, high)) in enumerate(zip(classes, pairwise(edges), strict=False))
    ]
    shade = alt.Fill("shade:O", scale=_SHADES, legend=None)
    return draw(
        "histogram", f"Correct and incorrect answers by {measure}", text,
        chart(bars).mark_rect(xOffset=0.75, x2Offset=-0.75).encode(
            x("low"), y, alt.X2("high:Q"), alt.Y2Datum(0), HOVER,
            color=alt.Color("side:N", scale=_SIDES, legend=None)),
        chart([{}]).mark_rule(aria=False, color=INK).encode(alt.YDatum(0)),
        chart(cuts).mark_rule(strokeDash=[4, 3]).encode(x("x"), HOVER),
        chart(strips).mark_rect(xOffset=1, x2Offset=-1).encode(
            x("low"), shade, alt.X2("high:Q"), alt.YValue(-9), alt.Y2Value(-4),
            HOVER),
        names.encode(x("x"), _ROW, alt.Text("name:N")),
        height=314, margins=(74, 18, 54, 52),
    )  # fmt: skip


def _place_names(classes: Sequence[str], edges: Sequence[float]) -> list[Row]:
    """Neighbours are in two rows, and no name leaves the plot: the hard class is often narrow."""
    placed: list[Row] = []
    for k, (name, (low, high)) in enumerate(zip(classes, pairwise(edges), strict=False)):
        short = shorten(name, 12)
        half = (edges[-1] - edges[0]) * len(short) / _CHARACTERS / 2
        x = min(max((low + high) / 2, edges[0] + half), edges[-1] - half)
        placed.append({"name": short, "x": x, "row": -18 - 16 * (k % 2)})
    return placed


def draw_rates(text: str, measure: str, curve: Sequence[Row], cuts: Sequence[Row],
               area: Row) -> Markup:  # fmt: skip
    """The ROC curve with the operating points of the cuts."""
    x = across("x", "false positive rate", (0, 1), SHARE, padding=6)
    y = upwards("y", "true positive rate", (0, 1), SHARE, padding=6)
    value, bounds = f"AUC {area['value']:.3f}", f"{area['low']:.3f} to {area['high']:.3f}"
    corner = chart([{"x": 0.97, "y": 0.04}])
    return draw(
        "roc", f"ROC curve of {measure}, predicting errors", text,
        chart(curve).mark_area(color=CURVE, opacity=0.1, aria=False).encode(x, y.stack(None)),
        _draw_diagonal(x, y),
        chart(curve).mark_line().encode(x, y),
        chart(cuts).mark_point(color=CURVE).encode(x, y, HOVER),
        corner.mark_text(align="right", dy=-18, fontSize=18, fontWeight=600, color=INK).encode(
            x, y, alt.TextValue(value)),
        corner.mark_text(align="right").encode(x, y, alt.TextValue(bounds)),
        width=340, height=346,
    )  # fmt: skip


def draw_stated(text: str, shares: Sequence[Row]) -> Markup:
    """Stated against observed frequency."""
    x = across("x", "confidence (probability of the answer)", (0, 1), SHARE, padding=8)
    y = upwards("y", "accuracy (share of correct answers)", (0, 1), SHARE, padding=8)
    dots = chart(shares).mark_point(color=CURVE).encode(x, y, HOVER)
    return draw("calibration", "Reliability: accuracy by confidence", text,
                _draw_diagonal(x, y), whisker(shares, x), dots, width=340, height=346)  # fmt: skip


def _draw_diagonal(x: alt.X, y: alt.Y) -> alt.Chart:
    ends = chart([{"x": 0, "y": 0}, {"x": 1, "y": 1}])
    return ends.mark_line(strokeDash=[2, 4], strokeWidth=1.25, color=SOFT).encode(x, y)


def draw_mode(text: str, mode: str, shares: Sequence[Row], chance: float | None = None) -> Markup:
    """Base and tuned model side by side, over all questions and class by class; chance below."""
    rows = [{**share, "short": shorten(share["group"], 10)} for share in shares]
    x = alt.X("place:O", axis=None)
    aside = alt.XOffset("model:N", scale=alt.Scale(domain=list(MODELS), paddingOuter=1))
    y = upwards("value", f"accuracy, {mode} mode", (0, 1), SHARE, padding=6)
    colour = alt.Color("model:N", scale=_COLOURS, legend=None)
    shape = alt.Shape("model:N", scale=_SHAPES, legend=None)
    names = {row["group"]: row for row in rows}.values()
    known = [] if chance is None else [chance]
    level = chart({"value": share, "hover": f"chance {100 * share:.1f}%"} for share in known)
    return draw(
        f"accuracy-{mode}", f"Accuracy in {mode} mode", text,
        chart(rows[:1]).mark_rule(color=RULE, aria=False).encode(x.bandPosition(1)),
        level.mark_rule(strokeDash=[2, 4], color=SOFT).encode(y, HOVER),
        whisker(rows, x, aside, colour),
        chart(rows).mark_point().encode(x, y, aside, colour, shape, HOVER),
        chart(names).mark_text(dy=18).encode(x, alt.YValue("height"), alt.Text("short:N")),
        width=320, height=270, margins=(40, 8, 34, 46),
    )  # fmt: skip


def draw_curve(key: str, text: str, points: Sequence[Row], *, name: str, axis: str,
                ends: Mapping[str, float], top: float | None) -> Markup:  # fmt: skip
    """One measure over the stages, which end at `ends`; shares have 1 as their `top`."""
    highest = top or max(row["y"] for row in points) * 1.05 or 1.0
    x = across("x", axis, (0, max(row["x"] for row in points)), {**COUNT, "tickMinStep": 1},
               padding=6)  # fmt: skip
    y = upwards("y", name, (0, highest), SHARE if top else NUMBER, padding=6)
    # In two rows: the first stage may be short.
    starts = [
        {"x": start, "name": f"stage {shorten(stage, 12)}", "row": -4 - 15 * (k % 2)}
        for k, (stage, start) in enumerate(zip(ends, [0, *ends.values()], strict=False))
    ]
    # A long curve shows dots only under the pointer; a short one shows each measurement.
    seen = 1 if len(points) <= 60 else 0
    return draw(
        key, name, text,
        chart(starts[1:]).mark_rule(strokeDash=[4, 3], aria=False).encode(x),
        chart(starts).mark_text(align="left", dx=3).encode(x, _ROW, alt.Text("name:N")),
        chart(points).mark_line().encode(x, y, alt.Detail("stage:N")),
        chart(points).mark_point(color=CURVE, opacity=seen).encode(x, y, HOVER),
        height=300, margins=(60, 18, 54, 52),
    )  # fmt: skip


def draw_tokens(text: str, rows: Sequence[Row]) -> Markup:
    """One bar a purpose, all on one scale."""
    largest = max(1, *(row["tokens"] for row in rows))  # a few among millions stay visible
    seen = [{**row, "shown": row["tokens"] and max(row["tokens"], largest / 250)} for row in rows]
    x = alt.X("shown:Q", axis=None, stack=None, scale=alt.Scale(domain=[0, largest], nice=False))
    y = alt.Y("name:N", sort=None, axis=None)
    bar = {"height": 11, "yOffset": 8}
    label = partial(chart(rows).mark_text, fontSize=13.5, color=INK, dy=-10)
    return draw(
        "tokens", "Tokens by purpose", text,
        chart(rows).mark_bar(**bar, color="var(--sunken)").encode(
            y, alt.XValue(0), alt.X2Value("width"), HOVER),
        chart(seen).mark_bar(**bar, color=CURVE).encode(x, y, HOVER),
        label(align="left").encode(y, alt.XValue(0), alt.Text("name:N")),
        label(align="right").encode(y, alt.XValue("width"), alt.Text("count:N")),
        height=46 * len(rows), margins=(0, 0, 0, 0),
    )  # fmt: skip
