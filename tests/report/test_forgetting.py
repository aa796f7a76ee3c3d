"""Did tuning make the model forget: numbers by hand, and what page, card and terminal say."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from caft.pipeline.tracking import headline_numbers
from caft.records import Mode, Prediction, Question
from caft.report.check import check_summary
from caft.report.forgetting import (
    NOT_TUNED,
    NOTHING_TO_LOSE,
    list_changes,
    measure_forgetting,
    warn_of_forgetting,
)
from caft.report.headlines import Headline, Tone, find_headlines
from caft.report.parts import ForgettingPart
from caft.report.run.caveats import find_warnings
from caft.report.run.html import render_report
from caft.report.tables import ReportTables

DIGITS = tuple("123456789")
ASKED = "Did tuning make the model forget?"


def answer(right: Sequence[bool], *, readable: bool = True) -> list[Prediction]:
    return [
        Prediction(
            question_id=f"q{place}",
            text="",
            parsed="1" if good or readable else None,
            correct=good,
            generated_tokens=1,
        )
        for place, good in enumerate(right)
    ]


def a_set(
    base: Sequence[bool],
    tuned: Sequence[bool] | None,
    *,
    free: bool = False,
    readable: bool = True,
    mode: Mode = Mode.answer,
) -> ReportTables:
    replies = {("base", mode): answer(base)}
    if tuned is not None:
        replies["tuned", mode] = answer(tuned, readable=readable)
    asked = {
        f"q{place}": Question(
            id=f"q{place}", text=f"{place}?", answer_set=() if free else DIGITS, gold_text="1"
        )
        for place in range(len(base))
    }
    return ReportTables(questions=asked, predictions=replies)


def measure(*, left_out: int = 0, **sets: ReportTables) -> ForgettingPart:
    found = measure_forgetting(sets, dict.fromkeys(sets, left_out), 0.95)
    assert found is not None
    return found


LOSES_NINE = ([True] * 60 + [False] * 40, [False] * 9 + [True] * 52 + [False] * 39)
"""Nine are lost and one is won: McNemar's p is 2 * (1 + 10) / 2**10."""
ALIKE = ([True] * 600 + [False] * 400,) * 2


def test_the_change_is_paired_and_its_p_is_corrected_over_sets_and_modes() -> None:
    part = measure(a=a_set(*LOSES_NINE), b=a_set(*ALIKE))
    lost, kept = part["tests"]
    assert lost["change"] is not None
    assert kept["change"] is not None
    assert lost["change"]["value"] == pytest.approx(-0.08)
    assert (lost["change"]["only_base"], lost["change"]["only_tuned"]) == (9, 1)
    assert lost["change"]["p_value"] == pytest.approx(22 / 1024)
    assert lost["change"]["p_adjusted"] == pytest.approx(44 / 1024)
    assert kept["change"]["p_adjusted"] == 1.0
    assert lost["chance"] == pytest.approx(1 / 9)
    assert [test["verdict"] for test in part["tests"]] == ["yes", "no"]
    assert part["verdict"] == "yes"


def test_a_third_test_takes_the_certainty_away() -> None:
    part = measure(a=a_set(*LOSES_NINE), b=a_set(*ALIKE), c=a_set(*ALIKE))
    assert part["tests"][0]["verdict"] == part["verdict"] == "not enough data"


def test_no_needs_enough_questions_to_rule_the_margin_out() -> None:
    assert measure(a=a_set(*ALIKE))["verdict"] == "no"
    few = ([True] * 60 + [False] * 40,) * 2
    assert measure(a=a_set(*few))["verdict"] == "not enough data"
    # Of resamples alone, none of which has a loss, it would be no.
    one_won = [True] * 11 + [False] * 9, [True] * 12 + [False] * 8
    assert measure(a=a_set(*one_won))["verdict"] == "not enough data"


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (a_set([True] * 60 + [False] * 40, None), NOT_TUNED),
        (a_set([True] * 12 + [False] * 88, [False] * 12 + [True] * 12 + [False] * 76),
         NOTHING_TO_LOSE),
        (a_set([False] * 100, [False] * 100, free=True), NOTHING_TO_LOSE),
    ],
)  # fmt: skip
def test_without_anything_to_lose_there_is_no_verdict(tables: ReportTables, reason: str) -> None:
    part = measure(a=tables)
    assert (part["verdict"], part["tests"][0]["reason"]) == ("undefined", reason)
    # What is defined decides.
    assert measure(a=tables, b=a_set(*ALIKE))["verdict"] == "no"


def test_who_graded_a_set_is_in_its_row() -> None:
    tables = a_set(*ALIKE, free=True)
    graded = {name: replace(item, grader="mine:f 1a") for name, item in tables.questions.items()}
    part = measure(a=replace(tables, questions=graded), b=tables)
    assert [test["grader"] for test in part["tests"]] == ["mine:f 1a", ""]


def test_without_further_sets_there_is_nothing() -> None:
    assert measure_forgetting({}, {}, 0.95) is None
    assert list(warn_of_forgetting(None)) == []


def test_a_clear_loss_and_rows_that_were_trained_are_caveats() -> None:
    part = measure(left_out=1, a=a_set(*LOSES_NINE, readable=False))
    first, second = warn_of_forgetting(part)
    assert first.startswith("Tuning made the model forget (p after Holm): a in answer mode -8.0 ")
    assert "p = 0.021, n=100; 48 of 100 replies have no readable answer, and 0 had none" in first
    assert second.startswith("1 test question stands in the training questions, too")
    assert "left out of a." in second


@pytest.fixture
def with_loss(finished_run: Any) -> dict[str, Any]:
    summary = copy.deepcopy(finished_run.summary)
    summary["forgetting"] = measure(arithmetic=a_set(*LOSES_NINE), mmlu=a_set(*ALIKE))
    summary["forgetting"]["tests"][1]["grader"] = "mine:f 1a"
    check_summary(summary)
    return summary


def headline_of(summary: Any) -> Headline | None:
    return next((each for each in find_headlines(summary) if each.asked == ASKED), None)


def test_the_headline_names_the_set_that_was_lost(with_loss: Any, finished_run: Any) -> None:
    found = headline_of(with_loss)
    assert found is not None
    assert (found.answer, found.figure, found.tone) == (
        "Yes",
        "-8.0 points, arithmetic",
        Tone.bad,
    )
    assert "a loss of 2 points or more is ruled out (non-inferiority)" in found.detail
    assert headline_of(finished_run.summary) is None
    assert any("made the model forget" in warning for warning in find_warnings(with_loss))


def test_page_and_lines_have_every_set_and_without_any_nothing(
    with_loss: Any, finished_run: Any, page: str
) -> None:
    shown = render_report(with_loss, finished_run.tables, "", "a run")
    assert 'id="forgetting"' in shown
    assert "<bdi>mmlu</bdi>, answer" in shown
    assert shown.count("graded by mine:f 1a") == 1
    assert "forgetting" not in page.lower()
    lines = list(list_changes(with_loss))
    assert lines[0].startswith("arithmetic, answer mode: 60.0% → 52.0%, -8.0 points (")
    assert lines[1].endswith("n=1,000; forgotten: no")
    assert list(list_changes(finished_run.summary)) == []


def test_a_logger_gets_one_number_for_each_set_and_mode(with_loss: Any, finished_run: Any) -> None:
    with_loss["forgetting"]["tests"][0]["change"]["value"] = -0.08
    added = headline_numbers(with_loss).items() - headline_numbers(finished_run.summary).items()
    assert dict(added) == {"forgetting/arithmetic/answer": -0.08, "forgetting/mmlu/answer": 0.0}


def test_the_terminal_has_a_line_for_each_set(with_loss: Any, tmp_path: Path) -> None:
    import io

    from rich.console import Console

    from caft.report.run.terminal import print_summary

    out = io.StringIO()
    print_summary(with_loss, tmp_path, Console(file=out, width=80))
    assert "Also, arithmetic, answer mode: 60.0% → 52.0%" in out.getvalue()
