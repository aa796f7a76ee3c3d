"""Every figure of a sweep's page against its summary.json, one by one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from sweep_sample import write_job, write_page

from caft.report.sweep import JobResult, Sweep, analyse_sweep
from caft.report.sweep.origin import gather_warnings
from caft.report.sweep.page import render_sweep

WRITTEN = "2026-11-26T10:00:00+00:00"
Rows = list[dict[str, str]]


class Tables(HTMLParser):
    """The rows of every section's tables, by the section's id; cells by their column."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: dict[str, Rows] = {}
        self._section, self._cell, self._head = "", "", False
        self._columns: list[str] = []
        self._row: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self._section = dict(attrs).get("id") or ""
        elif tag == "thead":
            self._columns, self._head = [], True
        elif tag == "tr":
            self._row = []
        elif tag in ("th", "td"):
            self._cell = ""

    def handle_data(self, data: str) -> None:
        self._cell += data

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td"):
            (self._columns if self._head else self._row).append(" ".join(self._cell.split()))
        elif tag == "thead":
            self._head = False
        elif tag == "tr" and self._row:
            row = dict(zip(self._columns, self._row, strict=True))
            self.rows.setdefault(self._section, []).append(row)


@pytest.fixture(scope="module")
def shown(
    finished_sweep: Sweep, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], str, dict[str, Rows]]:
    folder = tmp_path_factory.mktemp("shown")
    for job in finished_sweep.jobs:
        write_job(folder, job)
    page = write_page(folder)
    return json.loads((folder / "summary.json").read_text()), page, Tables(page).rows


def points(gap: dict[str, Any]) -> str:
    value, low, high = (100 * gap[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} points {low:+.1f} to {high:+.1f}"


def share(part: dict[str, Any]) -> str:
    value, low, high = (100 * part[key] for key in ("value", "low", "high"))
    return f"{value:.1f}% {low:.1f} to {high:.1f}"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def test_settings_jobs_and_base_model(shown: tuple[dict[str, Any], str, dict[str, Rows]]) -> None:
    summary, _, rows = shown
    (base,), arms = summary["bases"], summary["arms"]
    assert [row["setting"] for row in rows["settings"]] == [part["name"] for part in (base, *arms)]
    for row, part in zip(rows["settings"], (base, *arms), strict=True):
        assert row["accuracy"] == share(part["accuracy"])
        assert row["seeds"] == str(len(part["seeds"]))
        assert row["tokens per question"] == f"{part['tokens_a_question']:.1f}"
        for mode, value in part["by_mode"].items():
            assert row[f"{mode} mode"] == f"{100 * value:.1f}%"
        if over := part.get("over_seeds"):
            assert row["over seeds"] == f"{100 * over['low']:.1f} to {100 * over['high']:.1f}"
    for row, job in zip(rows["jobs"], summary["jobs"], strict=True):
        assert (row["job"], row["seed"]) == (str(job["number"]), str(job["seed"]))
        assert row["accuracy"] == share(job["accuracy"])
        assert row["USD"] == f"${job['cost']['usd']:.4f}".replace("$0.0000", "$0.00") or (
            job["cost"]["usd"] >= 0.1
        )


def test_pairs_and_only_the_clear_ones_are_tagged(
    shown: tuple[dict[str, Any], str, dict[str, Rows]],
) -> None:
    summary, page, rows = shown
    pairs = {(pair["first"], pair["second"]): pair for pair in summary["comparisons"]}
    assert len(rows["comparisons"]) == len(pairs)
    for row in rows["comparisons"]:
        pair = pairs[row["first"], row["second"]]
        assert row["Δ, second to first"] == points(pair) + " clear" * pair["clear"]
        assert (row["p"], row["p, Holm"]) == tuple(map(p_value, (pair["p_value"],
                                                                 pair["p_adjusted"])))  # fmt: skip
        assert row["only first correct"] == str(pair["only_first"])
        assert row["only second correct"] == str(pair["only_second"])
        assert row["MDD"] == f"{100 * pair['detectable']:.1f} points"
    unclear = [pair for pair in pairs.values() if not pair["clear"]]
    assert 0 < len(unclear) < len(pairs)
    assert page.count('<span class="tag">clear</span>') == len(pairs) - len(unclear)


def test_routing_and_cost(shown: tuple[dict[str, Any], str, dict[str, Rows]]) -> None:
    summary, page, rows = shown
    for row, test in zip(rows["routing"], summary["routing"]["tests"], strict=True):
        assert (row["setting"], row["random control"]) == (test["second"], test["first"])
        assert row["accuracy"] == f"{100 * test['accuracy']:.1f}% {test['mode']} mode"
        assert row["Δ to random"] == points(test)
        assert (row["rank"], row["seeds"]) == (str(test["rank"]), str(test["seeds"]))
        assert (row["better?"], row["p, Holm"]) == (test["verdict"], p_value(test["p_adjusted"]))
    savings = summary["savings"]
    losses = {loss["arm"]: loss for loss in savings["losses"]}
    assert len(losses) == 3
    for row in rows["cost"]:
        if loss := losses.get(row["setting"]):
            assert (row["loss of accuracy"], row["keeps up?"]) == (points(loss), loss["verdict"])
        for count in savings["counts"].values():
            saved = count["saved"][row["setting"]]
            assert (f"{-100 * saved:+.1f}%" in row[count["name"]]) is bool(saved)
    for answer in summary["answers"]:
        assert answer["asked"] in page.replace("&#39;", "'")


def test_marks_of_the_figures(shown: tuple[dict[str, Any], str, dict[str, Rows]]) -> None:
    summary, page, _ = shown
    marks = set(re.findall(r"<title>([^<]*teacher tokens)</title>", page))
    expected = {
        f"{arm['name']}: {share(arm['accuracy']).replace('% ', '% (')}), "
        f"{arm['cost']['teacher_tokens']:,.6g} teacher tokens"
        for arm in summary["arms"]
    }
    assert marks == expected


def test_the_head_says_what_ran_and_the_base_model_is_a_row(
    make_job: Callable[..., JobResult],
) -> None:
    jobs = []
    for seed in (1, 2):
        job = make_job(seed, method="sft", seed=seed)
        job.finished["warnings"] = [f"Only {40 + seed}.5% of the probability is on the answers."]
        jobs.append(job)
    found = analyse_sweep(Sweep(name="x", jobs=jobs), WRITTEN)
    # The same replies under both seeds are 60 of 300, once: Wilson's interval.
    (part,) = found.summary["bases"]
    bounds = [round(100 * part["accuracy"][key], 1) for key in ("value", "low", "high")]  # type: ignore[literal-required]
    assert (part["name"], part["seeds"], bounds) == ("base model", [1, 2], [20.0, 15.9, 24.9])
    page = render_sweep(found)
    origin = found.summary["origin"]
    assert origin["models"][0] in page
    assert f"{origin['test_questions'][0]} test questions; commit {origin['commits'][0]}" in page
    assert "Only 41.5% of the probability is on the answers. (every job)" in page
    assert page.count("of the probability is on the answers") == 1


def test_warnings_that_differ_in_numbers_alone_are_one(make_job: Callable[..., JobResult]) -> None:
    jobs = [make_job(number, method="sft") for number in range(10)]
    for job in jobs:
        job.finished["warnings"] = [f"{job.number} of 10 rows were left out."]
        if job.number in (2, 4):
            job.finished["warnings"].append("The class easy holds no training question.")
    assert gather_warnings(jobs) == [
        "0 of 10 rows were left out. (every job)",
        "The class easy holds no training question. (jobs 2, 4)",
    ]


def test_warnings_of_one_kind_are_one_with_the_details_of_the_first_job(
    make_job: Callable[..., JobResult],
) -> None:
    unread = "Replies without a readable answer count as wrong."
    jobs = [make_job(number, method="sft") for number in range(3)]
    for job, word in zip(jobs, ("no marker", "cut at the limit", "cut at the limit"), strict=True):
        job.finished["warnings"] = [f"{unread} 9 of 10: {word}.", "Stage 1 trained 9 rows."]
    jobs[2].finished["warnings"] = [*jobs[2].finished["warnings"], "Stage 2 trained 8 rows."]
    assert gather_warnings(jobs) == [
        f"{unread} 9 of 10: no marker. (every job; details of job 0)",
        "Stage 1 trained 9 rows. (every job)",
        "Stage 2 trained 8 rows. (job 2)",
    ]


def test_fewer_than_three_seeds_have_no_interval_over_seeds(
    make_job: Callable[..., JobResult], tmp_path: Path
) -> None:
    jobs = [make_job(seed, method="sft", seed=seed, accuracy=0.0) for seed in (1, 2)]
    jobs.append(make_job(3, method="distill", seed=1, accuracy=0.0))
    for job in jobs:
        write_job(tmp_path, job)
    rows = Tables(write_page(tmp_path)).rows["settings"]
    assert [row["over seeds"] for row in rows[-2:]] == [
        "no interval of 2 seeds", "no interval of 1 seed"
    ]  # fmt: skip
    # Nothing right of 300: two seeds that agree are no surer of 0 than one.
    assert [row["accuracy"] for row in rows[-2:]] == ["0.0% 0.0 to 1.3"] * 2
