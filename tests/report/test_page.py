"""The page: whole, self-contained, honest about missing parts, and deaf to what data says."""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

from caft.report.run.html import render_report
from caft.report.tables import ReportTables

VOID = {"meta", "input", "br", "img", "link", "hr"}


class Page(HTMLParser):
    """Elements with their attributes, the text of each, and whether every tag was closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == [], f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> is out of place"

    def attributes(self, name: str) -> list[str]:
        return [attributes[name] for _, attributes in self.elements if name in attributes]

    def tags(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def test_nothing_refers_to_anything_outside(page: str) -> None:
    parsed = Page(page)
    assert not parsed.tags() & {"link", "img", "iframe", "object", "embed", "base", "source",
                                "video", "audio", "use", "image", "foreignobject"}  # fmt: skip
    assert all(not parsed.attributes(name) for name in ("src", "srcset", "data", "action", "style"))
    assert all(link.startswith("#") for link in parsed.attributes("href"))
    assert "url(" not in page
    assert "@import" not in page
    assert "http://" not in page
    assert "https://" not in page


def test_ids_are_unique_and_what_is_named_exists(page: str) -> None:
    parsed = Page(page)
    ids = parsed.attributes("id")
    assert len(ids) == len(set(ids))
    named = [name for value in parsed.attributes("aria-labelledby") for name in value.split()]
    assert len(named) > 10
    assert set(named) <= set(ids)


def test_every_figure_has_its_words_and_its_numbers(page: str) -> None:
    assert page.count("<figure") == 6
    assert page.count("<svg") == page.count("<desc") == 9
    assert page.count("The numbers as a table") == 6


def test_only_our_own_script_and_style_may_run(page: str) -> None:
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in page


def test_headline_and_sections_are_there(page: str) -> None:
    for words in (
        *("Did tuning help?", "19.7% → 70.7%", "Not tested here", "AUC 0.69", "188 teacher calls"),
        *("the question stands in the test split too", "cut off at max_tokens"),
        *("exact McNemar test", "seed: 42"),
    ):
        assert words in page


def test_hostile_data_adds_no_element_and_no_attribute(page: str, hostile_page: str) -> None:
    honest, spoilt = Page(page), Page(hostile_page)
    assert spoilt.tags() <= honest.tags() | {"ul", "li"}
    assert not [name for _, attributes in spoilt.elements for name in attributes
                if name.startswith("on")]  # fmt: skip
    assert hostile_page.count("<script") == 2
    assert "{{ 7 * 7 }}" in hostile_page
    hostile_page.encode("utf-8")


def test_stays_under_three_megabytes_whatever_comes(finished_run: Any, hostile: str) -> None:
    tables = finished_run.tables
    long = {key: replace(question, text=hostile * 200, options=(hostile * 9,) * 26, gold_index=1)
            for key, question in tables.questions.items()}  # fmt: skip
    page = render_report(
        finished_run.summary, replace(tables, questions=long), "&" * 10**6, "long", questions=10**6
    )
    assert len(page.encode()) < 3_000_000


def without(summary: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {**summary, **parts}


def list_early_ends(sample: Any) -> Iterator[tuple[str, dict[str, Any], ReportTables, set[str]]]:
    summary, tables = sample.summary, sample.tables
    scored = replace(tables, complexity_of={}, rationales=(), predictions={}, curves=())
    yield ("nothing yet", without(summary, score=None, split=None, accuracy=None, stages=[]),
           ReportTables(), {"cost"})  # fmt: skip
    yield ("until=score", without(summary, split=None, accuracy=None), scored,
           {"score", "cost", "questions"})  # fmt: skip
    yield ("until=split", without(summary, accuracy=None),
           replace(scored, complexity_of=tables.complexity_of),
           {"score", "classes", "cost", "questions"})  # fmt: skip
    untuned = {"base": summary["accuracy"]["base"], "tuned": None}
    base_only = {key: rows for key, rows in tables.predictions.items() if key[0] == "base"}
    yield ("no tuning", without(summary, accuracy=untuned),
           replace(tables, rationales=(), curves=(), predictions=base_only),
           {"score", "classes", "accuracy", "cost", "questions"})  # fmt: skip
    yield ("no teacher", summary, replace(tables, rationales=()),
           {"score", "classes", "accuracy", "tuning", "cost", "questions"})  # fmt: skip


def test_parts_that_a_run_did_not_reach_are_absent(sample: Any) -> None:
    ends = list(list_early_ends(sample))
    assert len(ends) == 5
    for name, summary, tables, expected in ends:
        page = render_report(summary, tables, "", name)
        found = re.findall(r'<section id="(\w+)"', page)
        assert set(found) == expected | {"provenance"}, name
        # The contents list has these, in this order, and data adds none.
        assert re.findall(r'<li[^>]*><a href="#(\w+)">', page) == found
        Page(page)


def test_keys_that_are_missing_altogether_read_like_null(sample: Any) -> None:
    del sample.summary["accuracy"], sample.summary["split"], sample.summary["cost"]
    assert 'id="accuracy"' not in render_report(sample.summary, ReportTables(), "", "early")


def test_no_auc_keeps_the_histogram_and_gives_the_reason(sample: Any) -> None:
    sample.summary["score"]["roc_auc"]["answer_entropy"] = {
        "value": None, "low": None, "high": None, "n": 600, "incorrect": 600,
        "reason": "all 600 rows are wrong"}  # fmt: skip
    tables = replace(sample.tables, scores=[replace(s, correct=False)
                                            for s in sample.tables.scores])  # fmt: skip
    page = render_report(sample.summary, tables, "", "hopeless")
    assert 'figure class="histogram' in page
    assert 'figure class="roc' not in page
    assert "has no ROC AUC: all 600 rows are wrong" in page


def test_thinking_has_its_columns_where_a_model_thinks(sample: Any, page: str) -> None:
    columns = ("of these, thinking", "mode obeyed")
    assert not any(column in page for column in columns)
    tuned = sample.summary["accuracy"]["tuned"]["rationale"]
    tuned["thinking_tokens"] = 7 * tuned["n"]
    tuned["obeyed"] = {"value": 0.25, "low": 0.125, "high": 0.5, "n": tuned["n"]}
    page = render_report(sample.summary, sample.tables, "", "thinks")
    for column in columns:
        # A head, and a cell a row: base and tuned in three modes.
        assert page.count(f">{column}<") == 1
        assert page.count(f'data-name="{column}"') == 6
    assert '<td data-name="of these, thinking" class="number">7.0</td>' in page


def test_questions_of_zero_leaves_the_table_out(sample: Any) -> None:
    page = render_report(sample.summary, sample.tables, "", "short", questions=0)
    assert 'id="questions"' not in page


def test_twenty_thousand_subjects_leave_the_page_under_its_bound(sample: Any) -> None:
    summary, tables = sample.summary, sample.tables
    area = next(iter(summary["score"]["roc_auc"].values()))
    none = {**area, "value": None, "low": None, "high": None, "reason": "all are wrong"}
    subjects = {f"subject {number} of many, with a name": none for number in range(20_000)}
    summary["score"]["by_subject"] = subjects
    for result in (summary["accuracy"]["base"], summary["accuracy"]["tuned"]):
        for share in result.values():
            one = next(iter(share["by_subject"].values()))
            share["by_subject"] = dict.fromkeys(subjects, one)
    page = render_report(summary, tables, "seed: 1", "many")
    assert len(page.encode()) < 3_000_000
    assert "the largest 100 of 20,000" in page
    Page(page)


def test_what_the_teacher_thought_is_shown_and_stays_text(sample: Any) -> None:
    first, *others = sample.tables.rationales
    thought = replace(first, reasoning="So <script>alert(1)</script> it is.")
    tables = replace(sample.tables, rationales=[thought, *others])
    page = render_report(sample.summary, tables, "", "thought", questions=0)
    assert page.count("what the teacher thought") == 1
    assert "So &lt;script&gt;alert(1)&lt;/script&gt; it is." in page
    Page(page)
