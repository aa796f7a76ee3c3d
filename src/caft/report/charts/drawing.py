"""From layers of a chart to a drawing of the page: theme, axes, and SVG without Vega's extras.

Colours are the page's own (`var(--right)`), so that a drawing follows light, dark and print. A
mark's `description` becomes its title, which is shown under the pointer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any
from xml.etree import ElementTree

import altair as alt
import vl_convert
from markupsafe import Markup

from caft.report.charts import Row

INK, SOFT, RULE, PAPER, CURVE = (f"var(--{c})" for c in ("ink", "soft", "rule", "paper", "curve"))
SHARE, NUMBER = {"format": "~%"}, {"format": "~g"}
# 950, 1.2k, 3.45M, and no sign: what is drawn downwards is a count too.
COUNT = {"labelExpr": "format(abs(datum.value), abs(datum.value) < 1000 ? '.4~g' : '.3~s')"}

_THEME: dict[str, dict[str, object]] = {
    "axis": {"domain": False, "ticks": False, "labelPadding": 8, "labelColor": SOFT,
             "labelFontSize": 12.5, "titleColor": SOFT, "titleFontSize": 12.5,
             "titleFontWeight": "normal", "gridColor": RULE, "aria": False,
             # Altair's limit would cut by the widths of some font, and fail in the middle of an
             # emoji.
             "labelLimit": 0},
    "axisX": {"grid": False, "titlePadding": 10, "labelFlush": False},
    "axisY": {"titleAngle": 0, "titleAlign": "left", "titleBaseline": "top", "titleX": -44,
              "titleColor": INK, "titleFontSize": 13.5, "titleFontWeight": 600},
    "view": {"stroke": None},
    "point": {"opacity": 1, "filled": True, "size": 90, "stroke": PAPER, "strokeWidth": 1.5},
    "line": {"color": CURVE, "strokeWidth": 2.25, "strokeJoin": "round", "aria": False},
    "text": {"color": SOFT, "fontSize": 12.5, "aria": False},
    "rule": {"color": SOFT, "strokeWidth": 1.5},
}  # fmt: skip
# Channels are objects: Altair compares one that is a string with every class of its schema, which
# takes longer than the drawing. What is wrong in an object still ends to_dict.
HOVER = alt.Description("hover:N")
alt.utils.schemapi.disable_debug_mode()
_NO_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_UNUSED = ("role", "aria-label", "aria-roledescription", "aria-hidden", "font-family")


def chart(rows: Iterable[Row]) -> alt.Chart:
    """A chart of plain rows."""
    return alt.Chart({"values": [dict(row) for row in rows]})


def _quantity(channel: type[alt.X | alt.Y], field: str, title: str, domain: tuple[float, float],
              labels: Row, *, padding: int = 0, ticks: int = 5) -> alt.X | alt.Y:  # fmt: skip
    low, high = domain
    bounds = [low, high if high > low else low + 1]
    scale = alt.Scale(domain=bounds, nice=False, zero=False, padding=padding)
    axis = alt.Axis(tickCount=ticks, **labels)
    return channel(f"{field}:Q", title=shorten(title, 60), scale=scale, axis=axis)


# A quantity along an axis: its field, title, domain and labels; padding keeps marks off the frame.
across, upwards = partial(_quantity, alt.X), partial(_quantity, alt.Y)


def whisker(rows: Iterable[Row], *where: object) -> alt.Chart:
    """Intervals from `low` to `high`."""
    lines = chart(rows).mark_rule(strokeWidth=2)
    return lines.encode(*where, alt.Y("low:Q"), alt.Y2("high:Q"), HOVER)


def shorten(text: str, most: int) -> str:
    """A name that fits."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def draw(key: str, title: str, text: str, *layers: alt.Chart, width: int = 400, height: int = 280,
         margins: tuple[int, int, int, int] = (40, 18, 54, 52)) -> Markup:  # fmt: skip
    """The layers as one drawing with its text alternative; `key` is unique on the page.

    Sizes are pixels. Margins (top, right, bottom, left) are given, so that the fonts of the
    machine that draws move nothing.
    """
    top, right, bottom, left = margins
    whole = alt.layer(*layers).properties(
        width=width - left - right,
        height=height - top - bottom,
        padding={"left": left, "top": top, "right": right, "bottom": bottom},
        autosize="none",
    )
    theme = {**_THEME, "background": None, "axisY": {**_THEME["axisY"], "titleY": 12 - top}}
    svg = vl_convert.vegalite_to_svg(_clean(whole.to_dict()), config=theme, allowed_base_urls=[])
    return _adopt(svg, key, title, text)


def _clean(part: Any) -> Any:
    """Vega's measure of texts aborts the whole process at characters that XML does not have."""
    if isinstance(part, str):
        return _NO_XML.sub("\ufffd", part)
    if isinstance(part, Mapping):
        return {key: _clean(value) for key, value in part.items()}
    return [_clean(value) for value in part] if isinstance(part, list) else part


def _adopt(svg: str, key: str, title: str, text: str) -> Markup:
    root = ElementTree.fromstring(svg)
    for node in list(root.iter()):
        node.tag = node.tag.rpartition("}")[2]
        if node.get("role") == "graphics-symbol" and "aria-label" in node.attrib:
            ElementTree.SubElement(node, "title").text = node.attrib["aria-label"]
            node.set("class", "mark")
        for name in _UNUSED:
            node.attrib.pop(name, None)
    for place, (name, words) in enumerate((("title", title), ("desc", text))):
        root.insert(place, ElementTree.Element(name, id=f"{key}-{name}"))
        root[place].text = _NO_XML.sub("\ufffd", words)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "class": "drawing",
                   "aria-labelledby": f"{key}-title {key}-desc"}  # fmt: skip
    return Markup(ElementTree.tostring(root, encoding="unicode"))
