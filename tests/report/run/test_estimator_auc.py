"""The validation of scores, by small tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caft.records import AnswerScore, Chain
from caft.report.cells import Cell
from caft.report.run.estimator_auc import ScoreContext, describe_scores
from caft.report.run.estimator_rows import (
    AGAINST,
    difference_cell,
    list_facts,
    tabulate_estimates,
)
from caft.report.schema import ScorePart
from caft.report.wording import name_estimator


def scored(
    name: str, correct: bool, probabilities: tuple[float, ...] = (), **estimates: float | None
) -> AnswerScore:
    return AnswerScore(question_id=name, predicted="A", valid=True, correct=correct,
                       estimates=estimates, option_probabilities=probabilities)  # fmt: skip


ROWS = [
    scored(f"q{n}", n % 3 != 0, (0.6, 0.2), answer_entropy=[0.9, 0.2, 0.5, 0.7][n % 4],
           top1_margin=1.0 - n / 40, judge_steps=None if n % 5 == 0 else float(n % 7),
           option_entropy=None)
    for n in range(40)
]  # fmt: skip


def measure(rows: list[AnswerScore]) -> ScorePart:
    return describe_scores(rows, "answer_entropy", 0.95)


def test_every_estimate_is_measured() -> None:
    part = measure(ROWS)
    areas = part["roc_auc"]
    assert list(areas) == ["answer_entropy", "top1_margin", "judge_steps", "option_entropy"]
    assert areas["option_entropy"]["reason"] == "none of the 40 rows has this score"
    assert (areas["judge_steps"]["n"], areas["answer_entropy"]["n"]) == (32, 40)
    assert all(a["low"] <= a["value"] <= a["high"] for a in areas.values() if a["value"])
    # The one without values is in no pair.
    assert len(part["differences"]) == 3
    assert part["not_compared"] == []
    assert measure(ROWS) == part


def test_pairs_are_compared_over_the_questions_that_have_both() -> None:
    pairs = {(row["first"], row["second"]): row for row in measure(ROWS)["differences"]}
    assert {pair: row["n"] for pair, row in pairs.items()} == {
        ("answer_entropy", "top1_margin"): 40,
        ("answer_entropy", "judge_steps"): 32,
        ("top1_margin", "judge_steps"): 32,
    }
    # A sparse estimate beside two others changes nothing of those two.
    without = [replace(row, estimates={**row.estimates, "judge_steps": None}) for row in ROWS]
    alone = {(row["first"], row["second"]): row for row in measure(without)["differences"]}
    pair = ("answer_entropy", "top1_margin")
    assert pairs[pair] == alone[pair]
    # By hand: areas over the 32 questions, not those over all 40.
    common = [row for row in ROWS if row.estimates["judge_steps"] is not None]
    areas = measure(common)["roc_auc"]
    by_hand = areas["judge_steps"]["value"] - areas["answer_entropy"]["value"]
    assert pairs["answer_entropy", "judge_steps"]["value"] == pytest.approx(by_hand)


def test_two_estimates_without_a_common_area_say_why() -> None:
    rows = [
        scored(f"q{n}", n % 2 == 0, answer_entropy=float(n % 5),
               judge_steps=float(n % 7) if n < 10 else None,
               cot_margin=float(n % 3) if n >= 10 else None,
               cot_mean_entropy=float(n) if n % 2 == 0 or n == 19 else None)
        for n in range(20)
    ]  # fmt: skip
    part = describe_scores(rows, "judge_steps", 0.95)
    assert part["not_compared"] == [
        {"first": "judge_steps", "second": "cot_margin", "n": 0, "reason": "no question has both"},
        {"first": "judge_steps", "second": "cot_mean_entropy", "n": 5,
         "reason": "the 5 questions that have both are all right"},
    ]  # fmt: skip
    assert len(part["differences"]) == 4
    gaps = {row["estimate"]: row[AGAINST] for row in tabulate_estimates(part).texts}
    assert gaps[name_estimator("cot_margin")] == "undefined: no question has both"
    assert gaps["answer entropy"].endswith(", n=10)")


def test_bounds_of_perfect_order_are_no_certainty() -> None:
    rows = [scored(f"q{n}", n < 5, answer_entropy=float(n)) for n in range(10)]
    area = measure(rows)["roc_auc"]["answer_entropy"]
    assert area["value"] == area["high"] == 1.0
    assert area["low"] < 0.95


def test_the_gold_answers_cross_entropy_is_marked() -> None:
    rows = [scored(f"q{n}", n % 2 == 0, gold_cross_entropy=float(n)) for n in range(10)]
    areas = measure(rows)["roc_auc"]
    assert areas["gold_cross_entropy"]["circular"] is True


def test_calibration_by_hand() -> None:
    # Among themselves 0.75 and 0.25; the first is right three times out of four.
    rows = [scored(f"q{n}", True, (0.6, 0.2), answer_entropy=1.0) for n in range(4)]
    gold = {"q0": 0, "q1": 0, "q2": 0, "q3": 1}
    part = describe_scores(rows, "answer_entropy", 0.95, ScoreContext(gold_of=gold))
    calibration = part["calibration"]
    assert calibration["ece"] == pytest.approx(0.0)
    # 0.25^2 * 2 three times, 0.75^2 * 2 once.
    assert calibration["brier"] == pytest.approx((3 * 0.125 + 1.125) / 4)
    assert (calibration["brier_of_guessing"], calibration["n"]) == (0.5, 4)
    assert describe_scores(rows, "answer_entropy", 0.95)["calibration"] is None


def test_subjects_classes_declined_rows_and_chains_are_counted() -> None:
    fallback = [
        AnswerScore(question_id="q1", predicted="0", valid=True, correct=False),
        AnswerScore(question_id="q2", predicted="A", valid=True, correct=True),
        AnswerScore(question_id="q3", predicted="x", valid=False, correct=False),
        AnswerScore(question_id="elsewhere", predicted="0", valid=True, correct=False),
    ]
    chains = [
        Chain(question_id="q1", pieces=("a", "b"), entropies=(1.0, 2.0), margins=(0.1, 0.2),
              parsed=None, correct=False),
        Chain(question_id="q2", pieces=("a",), entropies=(1.0,), margins=(0.1,),
              parsed="A", correct=True),
    ]  # fmt: skip
    context = ScoreContext(
        subject_of={f"q{n}": "even" if n % 2 == 0 else "odd" for n in range(40)},
        complexity_of={f"q{n}": "easy" if n < 30 else "hard" for n in range(40)},
        classes=("easy", "middle", "hard"),
        fallback=fallback,
        fallback_wording="known",
        chains=chains,
    )
    part = describe_scores(ROWS, "answer_entropy", 0.95, context)
    assert {name: area["n"] for name, area in part["by_subject"].items()} == {"even": 20, "odd": 20}
    within = part["within_subjects"]
    assert within is not None
    assert (within["n"], within["incorrect"]) == (40, 14)
    assert within["low"] < within["value"] < within["high"]
    assert measure(ROWS)["within_subjects"] is None
    assert {name: share["n"] for name, share in part["accuracy_by_class"].items()} == {
        "easy": 30, "hard": 10,
    }  # fmt: skip
    assert part["accuracy_by_class"]["easy"]["value"] == pytest.approx(20 / 30)
    assert part["fallback"] == {
        "wording": "known", "n": 3, "declined": 1, "correct": 1, "invalid": 1,
    }  # fmt: skip
    assert part["chain"] == {"n": 2, "correct": 1, "unparsable": 1, "tokens": 3}
    facts = dict(list_facts(part))
    assert facts["Allowed to decline if not known"].startswith("1 of 3 declined")


def test_rows_start_with_the_selected_estimator() -> None:
    part = describe_scores(ROWS, "top1_margin", 0.95)
    rows = tabulate_estimates(part).rows
    assert (rows[0][0].text, rows[0][0].tag) == ("top-1 margin", "selected")
    assert rows[-1][1].text.startswith("undefined: ")
    part["differences"] = [
        {"first": "a", "second": "b", "value": 0.0214, "low": -0.01, "high": 0.05, "n": 1200}
    ]
    assert difference_cell(part, "a", "b").text == "+0.021 (-0.010 to +0.050, n=1,200)"
    assert difference_cell(part, "b", "a") == Cell("-0.021 (-0.050 to +0.010, n=1,200)", -0.0214)
    assert difference_cell(part, "a", "c").text == ""
