"""Drawings of a sweep's arms: accuracy against a price or a setting, named in the plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
from markupsafe import Markup

from caft.report.charts import Row
from caft.report.charts.drawing import (
    CURVE,
    HOVER,
    INK,
    PAPER,
    SHARE,
    SOFT,
    across,
    chart,
    draw,
    shorten,
    upwards,
    whisker,
)
from caft.report.charts.labels import place_labels

_MARGINS = (40, 26, 54, 52)
_WIDTH, _HEIGHT = 400 - 26 - 52, 300 - 40 - 54
_ACROSS, _UPWARDS = 18, 12  # pixels that keep points off the frame
_LONGEST = 30


def draw_arms(key: str, text: str, rows: Sequence[Row], *, axis: str, domain: tuple[float, float],
              labels: Mapping[str, str], bands: Sequence[Row] = ()) -> Markup:  # fmt: skip
    """Arms with their intervals and names; those with a `line` are filled and joined along it.

    Diamonds are arms that are `random`. `bands` are shaded behind them, each along its `band` from
    `low` to `high` at every `x`.
    """
    joined = chart(row for row in rows if row["line"])
    share = _span(rows)
    x = across("x", axis, domain, labels, padding=_ACROSS)
    y = upwards("value", "test accuracy", share, SHARE, padding=_UPWARDS)
    shape = alt.when("datum.random").then(alt.value("diamond")).otherwise(alt.value("circle"))
    fill = alt.when("datum.line").then(alt.value(CURVE)).otherwise(alt.value(PAPER))
    area = chart(bands).mark_area(color=SOFT, opacity=0.14, aria=False)
    shaded = area.encode(x, alt.Y("low:Q"), alt.Y2("high:Q"), alt.Detail("band:N"))
    return draw(
        key, f"Accuracy by {axis}", text,
        *([shaded] if bands else []),
        joined.mark_line(strokeWidth=1.75).encode(x, y, alt.Detail("line:N")),
        whisker(rows, x),
        chart(rows).mark_point(size=110, stroke=CURVE, strokeWidth=1.75).encode(
            x, y, HOVER, fill=fill, shape=shape),
        *_write_names(sorted(rows, key=lambda row: not row["line"]), domain, share),
        height=300, margins=_MARGINS,
    )  # fmt: skip


def _span(rows: Sequence[Row]) -> tuple[float, float]:
    """From just below the lowest bound to just above the highest, in steps of five points."""
    low = int(min(row["low"] for row in rows) * 20) / 20
    top = min(1.0, (int(max(row["high"] for row in rows) * 20) + 1) / 20)
    return low, max(top, low + 0.05)


def _write_names(
    rows: Sequence[Row], domain: tuple[float, float], share: tuple[float, float]
) -> list[alt.LayerChart | alt.Chart]:
    """Names beside their points, the important rows first; one without a place is left out."""
    points = [
        (
            _pixel(row["x"], domain, _ACROSS, _WIDTH),
            _HEIGHT - _pixel(row["value"], share, _UPWARDS, _HEIGHT),
        )
        for row in rows
    ]
    names = [shorten(row["name"], _LONGEST) for row in rows]
    placed = place_labels(names, points, _WIDTH, _HEIGHT)
    layers: list[alt.LayerChart | alt.Chart] = []
    for align in ("left", "right", "center"):
        own = [{"text": each.text, "px": each.x, "py": each.y}
               for each in placed if each.align == align]  # fmt: skip
        if own:
            text = chart(own).mark_text(align=align, baseline="middle", fontSize=11.5, color=INK)
            layers.append(text.encode(
                alt.X("px:Q", scale=None, axis=None), alt.Y("py:Q", scale=None, axis=None),
                alt.Text("text:N"),
            ))  # fmt: skip
    return layers


def _pixel(value: float, domain: tuple[float, float], padding: float, size: float) -> float:
    low, high = domain
    return padding + (value - low) / ((high - low) or 1) * (size - 2 * padding)
