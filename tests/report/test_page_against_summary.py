"""Every number of the tables, facts and headlines of a run's page, against summary.json.

Every number of the summary is made a different one first, so that a place that reads another's
number shows.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import count
from typing import Any

import pytest

from caft.report.figures import draw_calibration
from caft.report.run.class_rows import training_scores
from caft.report.run.estimator_auc import ScoreContext, describe_scores
from caft.report.run.html import draw_figures, render_report
from caft.report.run.option_shares import pick_likeliest, share_options
from caft.report.run.timing import add_rates

CLASSES = ("easy", "middle", "hard")
MODES = ("answer", "rationale", "routed")


class Cells(HTMLParser):
    """Tables by label: rows by their first cell, cells by column; facts by name; headlines."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tables: dict[str, dict[str, dict[str, str]]] = {}
        self.facts: dict[str, str] = {}
        self.headlines: list[str] = []
        self._label, self._columns, self._row = "", list[str](), list[str]()
        self._text: list[str] | None = None
        self._name = ""
        self._all = list[str]()
        self.feed(html)
        self.text = " ".join("".join(self._all).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "div" and given.get("role") == "region":
            self._label = given.get("aria-label") or ""
        if tag == "tr":
            self._row = []
        if tag in ("th", "td", "dt", "dd") or (tag == "article" and "headline" in str(given)):
            self._text = []

    def handle_data(self, data: str) -> None:
        self._all.append(data)
        if self._text is not None:
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in ("th", "td", "dt", "dd", "article") and self._text is not None:
            text = " ".join("".join(self._text).split())
            self._text = None
            if tag == "article":
                self.headlines.append(text)
            elif tag == "dt":
                self._name = text
            elif tag == "dd":
                self.facts[self._name] = text
            else:
                self._row.append(text)
        if tag == "thead":
            self._columns = self._row
        if tag == "tr" and self._columns:
            rows = self.tables.setdefault(self._label, {})
            key = self._row[0]
            while key in rows:
                key += "'"
            rows[key] = dict(zip(self._columns[1:], self._row[1:], strict=True))
        if tag == "table":
            self._columns = []


def make_different(part: Any, number: Iterator[int]) -> None:
    """Every share and area its own value, with bounds around it, and every count its own."""
    if isinstance(part, dict) and {"value", "low", "high"} <= part.keys():
        k = next(number)
        part |= {"value": 0.2 + k / 1000, "low": 0.1 + k / 1000, "high": 0.3 + k / 1000}
        part["n"] = 1000 + k
    for key, item in part.items() if isinstance(part, dict) else enumerate(part):
        if isinstance(item, dict | list):
            make_different(item, number)
        elif key in ("generated_tokens", "incorrect", "only_base", "only_tuned"):
            part[key] = 100 + next(number)


@pytest.fixture(scope="module")
def told(finished_run: Any) -> tuple[dict[str, Any], Cells]:
    summary, tables = copy.deepcopy(finished_run.summary), finished_run.tables
    train = [row for row in tables.scores if tables.split_of[row.question_id] == "train"]
    context = ScoreContext(
        subject_of={key: question.subject for key, question in tables.questions.items()},
        complexity_of=tables.complexity_of,
        classes=CLASSES,
    )
    summary["score"] = {
        **describe_scores(train[:90], "answer_entropy", 0.95, context),
        "option_mass": 0.871, "valid_answer_rate": 0.943,
        "calibration": {"ece": 0.123, "brier": 0.456, "brier_of_guessing": 0.789,
                        "confidence": 0.5, "accuracy": 0.5, "n": 600},
        "chain": {"n": 61, "correct": 37, "unparsable": 5, "tokens": 6100},
    }  # fmt: skip
    summary["accuracy"]["confidence"] = 0.9
    number = count(1)
    make_different(summary["score"], number)
    make_different(summary["accuracy"], number)
    for place, who in enumerate(("base", "tuned")):
        for step, mode in enumerate(MODES):
            k = 10 * place + step
            unread = {"no_marker": 20 + k, "outside": 40 + k, "cut": 60 + k, "said": {"0": 30 + k}}
            summary["accuracy"][who][mode] |= {"unread": unread, "unparsable": 120 + 3 * k}
    summary["run"]["seconds"] = 400.0
    stages = [{**row, "tokens_written": 1000 * k} for k, row in enumerate(summary["stages"], 1)]
    summary["stages"] = add_rates(stages, 400.0)  # type: ignore[arg-type]
    return summary, Cells(render_report(summary, tables, "", "A run", questions=0))


def share(part: dict[str, Any]) -> str:
    return f"{part['value']:.1%} {100 * part['low']:.1f} to {100 * part['high']:.1f}"


def share_in_words(part: dict[str, Any]) -> str:
    return f"{part['value']:.1%} ({100 * part['low']:.1f} to {100 * part['high']:.1f})"


def area(part: dict[str, Any]) -> str:
    return f"{part['value']:.3f} ({part['low']:.3f} to {part['high']:.3f})"


def change(pair: dict[str, Any], sign: int = 1) -> str:
    low, high = sorted((sign * pair["low"], sign * pair["high"]))
    return f"{sign * pair['value']:+.3f} ({low:+.3f} to {high:+.3f}, n={pair['n']:,})"


NAMES = {
    "answer_entropy": "answer entropy",
    "option_entropy": "entropy over the options",
    "option_mass": "probability on the options",
    "top1_margin": "top-1 margin",
}


def test_the_table_of_estimates(told: tuple[dict[str, Any], Cells]) -> None:
    summary, page = told
    score = summary["score"]
    to_selected = {pair["second"]: pair for pair in score["differences"]
                   if pair["first"] == "answer_entropy"}  # fmt: skip
    assert page.tables["Estimates and their ROC AUC"] == {
        NAMES[name] + (" selected" if name == "answer_entropy" else ""): {
            "ROC AUC": f"{part['value']:.3f} {part['low']:.3f} to {part['high']:.3f}",
            "above chance": "no, reversed",  # all are below 0.5 here
            "Δ to the selected estimator": (
                change(to_selected[name]) if name in to_selected else ""
            ),
            "questions": f"{part['n']:,}",
            "incorrect": f"{part['incorrect']:,}",
        }
        for name, part in score["roc_auc"].items()
    }
    assert page.tables["AUC by subject"] == {
        name: {
            "ROC AUC": area(part),
            "questions": f"{part['n']:,}",
            "incorrect": f"{part['incorrect']:,}",
        }
        for name, part in score["by_subject"].items()
    }


def test_the_classes(told: tuple[dict[str, Any], Cells]) -> None:
    summary, page = told
    found = {name: row["base accuracy"] for name, row in page.tables["Classes"].items()}
    shares = summary["score"]["accuracy_by_class"]
    assert found == {name: share(shares[name]) for name in CLASSES}


def test_whiskers_have_the_confidence_of_the_scores(sample: Any) -> None:
    """Also where a run ends before its evaluation, which has one of its own."""
    tables = sample.tables
    early = {**sample.summary, "accuracy": None}
    early["score"] = {**early["score"], "confidence": 0.8}
    (drawn,) = (each for each in draw_figures(early, tables) if each.key == "calibration")
    gold_of = {key: question.gold_index for key, question in tables.questions.items()}
    stated = pick_likeliest(*share_options(training_scores(tables), gold_of))
    assert drawn.rows == draw_calibration(*stated, 0.8).rows != draw_calibration(*stated).rows


def test_the_facts(told: tuple[dict[str, Any], Cells]) -> None:
    summary, page = told
    score, cost, within = summary["score"], summary["cost"], summary["score"]["within_subjects"]
    expected = {
        "Base accuracy": share_in_words(score["accuracy"]),
        **{
            f"Base accuracy, {name}": f"{share_in_words(part)}, n = {part['n']:,}"
            for name, part in score["accuracy_by_class"].items()
        },
        "ROC AUC within subjects": f"{area(within)} over pairs of one subject, n = {within['n']:,}",
        "Calibration of the options": "expected calibration error 0.123; Brier score over all "
        "options 0.456 (0 is perfect, guessing scores 0.789)",
        "Greedy chains of thought": "37 of 61 correct, 5 without a readable answer, 100.0 tokens "
        "each",
        "Probability on the allowed answers": "87.1% on average",
        "Single tokens that are an allowed answer": "94.3%",
        "Teacher": f"{cost['teacher_calls']} calls, ${cost['teacher_usd']:.4f}",
        "Training compute": "79T FLOPs, tuning alone",
        "Peak memory": "1.91 GB",
    }
    assert {name: text for name, text in page.facts.items() if name in expected} == expected
    of_the_run = {"Model", "Dataset", "Rows removed", "Overrides", "Code", "Versions"}
    assert page.facts.keys() - expected.keys() == of_the_run


def test_the_tables_of_accuracy(told: tuple[dict[str, Any], Cells]) -> None:
    summary, page = told
    accuracy = summary["accuracy"]
    results = {(who, mode): accuracy[who][mode] for who in ("base", "tuned") for mode in MODES}
    best = {(who, mode) for who, mode in accuracy["best_mode"].items()}
    assert page.tables["Accuracy by model and mode"] == {
        f"{who}, {mode}" + (" best" if (who, mode) in best else ""): {
            "all": share(part),
            **{name: share(part["by_complexity"][name]) for name in CLASSES},
            "no readable answer": f"{part['unparsable']} of {part['n']:,}",
            "tokens a question": f"{part['generated_tokens'] / part['n']:.1f}",
        }
        for (who, mode), part in results.items()
    }
    assert page.tables["Replies without a readable answer"] == {
        f"{who}, {mode}": {
            "no marker": str(part["unread"]["no_marker"]),
            "outside the allowed answers": str(part["unread"]["outside"]),
            "cut at the limit": str(part["unread"]["cut"]),
            "said outside": f"“0” {part['unread']['said']['0']}",
        }
        for (who, mode), part in results.items()
    }
    base, tuned = accuracy["base"]["answer"], accuracy["tuned"]["routed"]
    assert page.tables["Accuracy by subject"] == {
        name: {
            "questions": str(part["n"]),
            "base": share(part),
            "tuned": share(tuned["by_subject"][name]),
        }
        for name, part in base["by_subject"].items()
    }
    pair = accuracy["comparison"]
    assert (
        f"On the same {pair['n']:,} test questions, tuned (routed mode) minus base (answer mode) "
        f"is {100 * pair['value']:+.1f} points "
        f"({100 * pair['low']:+.1f} to {100 * pair['high']:+.1f})"
        f": the tuned model alone was correct on {pair['only_tuned']}, the base model alone on "
        f"{pair['only_base']} (exact McNemar test, p < 0.001)."
    ) in page.text
    drawn = page.tables["Accuracy by class, numbers"].values()
    assert sorted((row["model"], row["class"], row["accuracy"], row["questions"]) for row in drawn
                  ) == sorted(
        (who, group, share_in_words(part), str(part["n"]))
        for (who, _), result in results.items()
        for group, part in (("all", result), *result["by_complexity"].items())
    )  # fmt: skip


def test_the_table_of_stages_and_of_tokens(told: tuple[dict[str, Any], Cells]) -> None:
    summary, page = told
    whole = page.tables["Stages of this run"]
    for stage in summary["stages"]:
        row = whole[stage["name"]]
        assert row["source"] == ("cached" if stage["cached"] else "computed")
        assert row["share"] == ("" if stage["cached"] else f"{stage['share']:.1%}")
        assert row["tokens"] == f"{stage['tokens_written']:,} written"
        assert row["tokens/s"] == f"{stage['tokens_per_second']:,.0f} written"
        assert row["fingerprint"] == stage["fingerprint"][:12]
    assert set(whole) - {stage["name"] for stage in summary["stages"]} == {"the rest"}
    tokens = page.tables["Where the tokens went, numbers"]
    keys = (
        *("teacher_prompt_tokens", "teacher_completion_tokens", "unique_rationale_tokens"),
        *("trained_response_tokens", "trained_total_tokens", "evaluation_generated_tokens"),
    )
    assert [row["tokens"] for row in tokens.values()] == [
        f"{summary['cost'][key]:,}" for key in keys
    ]


def test_the_headlines(told: tuple[dict[str, Any], Cells]) -> None:
    summary, page = told
    accuracy, score = summary["accuracy"], summary["score"]
    gain, _, prediction, cost = page.headlines
    same, base, tuned = (
        accuracy["same_mode"]["routed"], accuracy["base"]["routed"], accuracy["tuned"]["routed"],
    )  # fmt: skip
    for text in (
        f"{base['value']:.1%} → {tuned['value']:.1%}",
        f"on the same {same['n']:,} questions: {100 * same['value']:+.1f} points",
        f"at random, is {accuracy['chance']:.1%}",
        f"best mode is answer: {share_in_words(accuracy['base']['answer'])}",
        f"tuned minus that {100 * accuracy['comparison']['value']:+.1f} points",
    ):
        assert text in gain
    main, within = score["roc_auc"]["answer_entropy"], score["within_subjects"]
    for text in (
        f"ROC AUC {area(main)} on {main['n']:,} training questions, {main['incorrect']} answered",
        f"Within subjects {area(within)}",
    ):
        assert text in prediction
    spent = summary["cost"]
    for text in (f"{spent['teacher_calls']} teacher calls", f"${spent['teacher_usd']:.4f}"):
        assert text in cost
    # All tables were compared: those that are left come from the rows and not from the summary.
    assert set(page.tables) == {
        "Estimates and their ROC AUC", "AUC by subject",
        "Accuracy by model and mode", "Replies without a readable answer", "Accuracy by subject",
        "Accuracy by class, numbers", "Stages of this run", "Where the tokens went, numbers",
        "Classes", "Rejected rationales", "Rationales by class",
        *(name for name in page.tables
          if re.search("by answer entropy|ROC|Calibration|Learning", name)),
    }  # fmt: skip
