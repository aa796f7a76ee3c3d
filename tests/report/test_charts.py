"""The way from Altair to the page: text alternatives, colours, hostile text, nothing imported."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any
from xml.etree import ElementTree

import pytest
from drawn import read_marks, read_texts

from caft.report.charts.arms import draw_arms
from caft.report.charts.drawing import NUMBER
from caft.report.charts.panels import draw_mode, draw_tokens
from caft.report.run.html import draw_figures


def share(group: str, hover: str = "hover") -> dict[str, Any]:
    return {"model": "base", "group": group, "place": 0, "hover": hover, "value": 0.5, "low": 0.4,
            "high": 0.6}  # fmt: skip


def arm(text: str) -> str:
    row = {**share("all", text), "x": 1.0, "name": text, "line": text}
    return draw_arms("arms", text, [row], axis=text, domain=(0, 1), labels=NUMBER)


def test_text_and_attributes_cannot_become_elements() -> None:
    hostile = '</text></title>"><script>&<img src=x>'
    panel = arm(hostile)
    assert not re.search("<(script|img)", panel)
    root = ElementTree.fromstring(panel)
    assert root.findtext("desc") == hostile
    assert root.findtext("title") == f"Accuracy by {hostile}"
    assert [mark.text for mark in read_marks(panel)] == [hostile] * 2
    assert [text.text for text in read_texts(panel)] == [f"{hostile[:29]}…"]
    assert read_texts(panel, "role-axis-title")[0].text == hostile


def test_a_percent_a_brace_or_an_expression_in_data_is_only_text() -> None:
    text = "{0} %s {name} {{ 7 * 7 }} datum.value"
    panel = draw_tokens("", [{"name": text, "tokens": 1, "count": "1", "hover": text}])
    assert [mark.text for mark in read_marks(panel)] == [text] * 2
    assert [drawn.text for drawn in read_texts(panel)] == [text, "1"]


# vl-convert ends the process at what XML does not have, and raises where half a pair is measured.
@pytest.mark.parametrize("odd", ["\0", "\x0b", "\ud800", "\ufffe", "\uffff"])
def test_characters_that_vega_cannot_digest_are_replaced(odd: str) -> None:
    panel = arm(f"a{odd}b")
    assert odd not in panel
    assert [mark.text for mark in read_marks(panel)] == ["a\ufffdb"] * 2
    assert [text.text for text in read_texts(panel)] == ["a\ufffdb"]
    assert ElementTree.fromstring(panel).findtext("desc") == "a\ufffdb"


def test_long_names_of_emoji_are_cut_between_characters() -> None:
    smiles = "\U0001f600" * 99
    (name,) = read_texts(draw_mode("", "answer", [share(smiles)]))
    assert name.text == smiles[:9] + "…"
    title, _ = read_texts(arm(smiles), "role-axis-title")
    assert title.text == smiles[:59] + "…"


@pytest.fixture(scope="module")
def panels(finished_run: Any) -> list[str]:
    """All that is drawn for a run."""
    figures = draw_figures(finished_run.summary, finished_run.tables)
    return [panel for figure in figures for panel in figure.panels]


def test_every_drawing_has_its_words_and_only_colours_of_the_page(panels: list[str]) -> None:
    assert len(panels) == 9
    for panel in panels:
        root = ElementTree.fromstring(panel)
        ids = {node.get("id"): node.text for node in root.iter() if node.get("id")}
        assert root.get("role") == "img"
        assert all(ids[name] for name in root.get("aria-labelledby", "").split())
        colours = set(re.findall(r' (?:fill|stroke|color)="([^"]*)"', panel))
        assert all(re.fullmatch(r"none|var\(--[a-z]+\)", colour) for colour in colours), colours
        assert not re.search("nan|undefined|infinity|null", panel.lower())


def test_drawing_twice_gives_the_same_bytes(panels: list[str], finished_run: Any) -> None:
    again = draw_figures(finished_run.summary, finished_run.tables)
    assert [panel for figure in again for panel in figure.panels] == panels


def test_nothing_of_altair_is_imported_before_something_is_drawn() -> None:
    code = (
        "import sys, caft.report.run.html, caft.report.sweep.page, caft.report.figures.notebook\n"
        "assert not {'altair', 'vl_convert'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
