"""The page: whole, self-contained, honest about missing parts, and deaf to what data says."""

import base64
import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from caft.records import AnswerScore, Prediction, Question, Rationale
from caft.report.html import render_report
from caft.report.tables import ReportTables

HOSTILE = (
    "</script></title></style></textarea><script>document.title='pwned'</script>"
    "<img src=x onerror=\"document.title='pwned'\"><svg onload=\"document.title='pwned'\">"
    '"\' onmouseover="document.title=1" {{ 7 * 7 }} {% raw %} \ud800 \x00 \u202e <!-- ]]>'
)
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


def spoil(value: Any) -> Any:
    """Put the hostile string into every text and every free name."""
    fixed = {"best_mode", "by_complexity"}
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, list):
        return [spoil(item) for item in value]
    if isinstance(value, dict):
        return {key: item if key in fixed else spoil(item) for key, item in value.items()}
    return value


def spoil_run(sample: Any) -> tuple[dict[str, Any], ReportTables]:
    tables, summary = sample.tables, spoil(sample.summary)
    estimator = summary["score"]["estimator"]
    areas = summary["score"]["roc_auc"]
    areas[estimator] = areas.pop("answer_entropy")
    summary["score"]["roc_auc"]["none" + HOSTILE] = {
        "value": None,
        "low": None,
        "high": None,
        "n": 1,
        "incorrect": 0,
        "reason": HOSTILE,
    }
    summary["dataset"]["removed"][HOSTILE] = 3
    summary["split"]["counts"] = {
        name + HOSTILE: n for name, n in summary["split"]["counts"].items()
    }
    for result in (r for who in ("base", "tuned") for r in summary["accuracy"][who].values()):
        for group in ("by_complexity", "by_subject"):
            result[group] = {name + HOSTILE: share for name, share in result[group].items()}
    questions = {
        key: Question(
            id=key + HOSTILE,
            text=HOSTILE,
            options=(HOSTILE, HOSTILE),
            gold_index=0,
            subject=HOSTILE,
        )
        for key in tables.questions
    }
    scores = [
        AnswerScore(
            question_id=s.question_id,
            predicted=HOSTILE,
            valid=True,
            correct=s.correct,
            estimates={estimator: s.estimates["answer_entropy"]},
        )
        for s in tables.scores
    ]
    predictions = {
        key: [
            Prediction(
                question_id=p.question_id,
                text=HOSTILE,
                parsed=HOSTILE,
                correct=p.correct,
                generated_tokens=2,
            )
            for p in rows
        ]
        for key, rows in tables.predictions.items()
    }
    rationales = [
        Rationale(
            question_id=r.question_id,
            text=HOSTILE,
            answer=HOSTILE,
            agrees=r.agrees,
            refusal=r.refusal and HOSTILE,
            source=HOSTILE,
        )
        for r in tables.rationales
    ]
    return summary, replace(
        tables, questions=questions, scores=scores, predictions=predictions, rationales=rationales,
        complexity_of={key: name + HOSTILE for key, name in tables.complexity_of.items()},
        curves=[{**row, "stage": HOSTILE} for row in tables.curves],
    )  # fmt: skip


@pytest.fixture(scope="module")
def page(finished_run: Any) -> str:
    return render_report(finished_run.summary, finished_run.tables, "seed: 42\n", "A run")


@pytest.fixture(scope="module")
def hostile_page(finished_run: Any) -> str:
    summary, tables = spoil_run(finished_run)
    return render_report(summary, tables, HOSTILE, HOSTILE)


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
    assert page.count("<figure") == 5
    assert page.count("<svg") == page.count("<desc") == 8
    assert page.count("The numbers as a table") == 5


def test_only_our_own_script_and_style_may_run(page: str) -> None:
    for kind in ("script", "style"):
        (text,) = re.findall(rf"<{kind}>(.*?)</{kind}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src &#39;sha256-{digest}&#39;" in page


def test_headline_and_sections_are_there(page: str) -> None:
    for said in ("Tuning helped", "19.0% → 70.7%", "AUC 0.69", "188 teacher calls",
                 "the question stands in the test split too", "cut off at max_tokens",
                 "exact McNemar test", "seed: 42"):  # fmt: skip
        assert said in page


def test_hostile_data_adds_no_element_and_no_attribute(page: str, hostile_page: str) -> None:
    honest, spoilt = Page(page), Page(hostile_page)
    assert spoilt.tags() <= honest.tags() | {"ul", "li"}
    assert not [name for _, attributes in spoilt.elements for name in attributes
                if name.startswith("on")]  # fmt: skip
    assert hostile_page.count("<script") == 1
    assert "{{ 7 * 7 }}" in hostile_page
    hostile_page.encode("utf-8")


def test_stays_under_three_megabytes_whatever_comes(finished_run: Any) -> None:
    tables = finished_run.tables
    long = {key: replace(question, text=HOSTILE * 200, options=(HOSTILE * 9,) * 26, gold_index=1)
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
        found = set(re.findall(r'<section id="(\w+)"', page))
        assert found == expected | {"provenance"}, name
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


def test_questions_of_zero_leaves_the_table_out(sample: Any) -> None:
    page = render_report(sample.summary, sample.tables, "", "short", questions=0)
    assert 'id="questions"' not in page


def find_chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    return found


def open_in_browser(html: str, folder: Path) -> str:
    (folder / "page.html").write_text(html, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
             "--disable-background-networking", "--disable-component-update", "--disable-sync",
             "--disable-dev-shm-usage", f"--user-data-dir={folder / 'profile'}",
             "--dump-dom"]  # fmt: skip
    done = subprocess.run(
        [find_chromium(), *flags, (folder / "page.html").as_uri()],
        capture_output=True, text=True, timeout=120, check=True, encoding="utf-8",
    )  # fmt: skip
    return done.stdout


def title_of(dom: str) -> str:
    found = re.search(r"<title>(.*?)</title>", dom, flags=re.DOTALL)
    assert found is not None
    return found[1]


# Escaping must hold by itself, and so must the policy: each is tried without the other.
@pytest.mark.parametrize("policy", ["with policy", "without policy"])
def test_hostile_strings_run_nothing_in_a_browser(
    hostile_page: str, tmp_path: Path, policy: str
) -> None:
    if policy == "without policy":
        hostile_page = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", hostile_page)
    dom = open_in_browser(hostile_page, tmp_path)
    assert title_of(dom) != "pwned"
    assert title_of(dom).startswith("&lt;/script&gt;")
    assert 'data-ready="yes"' in dom, "our own script did not run"
    assert "300 of 300 shown" in dom


def test_the_policy_stops_a_script_that_escaping_let_through(page: str, tmp_path: Path) -> None:
    broken = page.replace("</main>", "<script>document.title='pwned'</script></main>")
    assert title_of(open_in_browser(broken, tmp_path)) == "A run"
    (tmp_path / "open").mkdir()
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", broken)
    assert title_of(open_in_browser(unguarded, tmp_path / "open")) == "pwned"
