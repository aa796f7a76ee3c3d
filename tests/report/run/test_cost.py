"""The cost of a run, added up by hand."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from caft.records import Judgement, Prediction, Rationale, TuningNumbers
from caft.report.headlines import find_headlines
from caft.report.run.cost import count_cost, training_flops
from caft.report.wording import tell_batches

tuned = partial(TuningNumbers, examples=0, dropped=[], curve=[])
ANSWERS = tuned(
    epochs=4,
    prompt_tokens=400,
    trained_tokens=40,
    trained_rationale_tokens=0,
    rationale_tokens={},
    parameters=1000,
    trainable_parameters=30,
)
RATIONALES = tuned(
    epochs=2,
    prompt_tokens=100,
    trained_tokens=400,
    trained_rationale_tokens=400,
    rationale_tokens={"a": 80, "b": 120},
    parameters=1000,
    trainable_parameters=30,
)


def bought(name: str, refusal: str = "", **numbers: float) -> Rationale:
    return Rationale(
        question_id=name, text="", answer=None, agrees=False, refusal=refusal, **numbers
    )


def reply(tokens: int) -> Prediction:
    return Prediction(question_id="a", text="", parsed=None, correct=False, generated_tokens=tokens)


def test_flops_of_one_stage_by_hand():
    # 4 epochs x 110 tokens x (2 N forward + 2 N backward + 2 N' for the adapter's gradients)
    assert training_flops(ANSWERS) == 440 * (4 * 1000 + 2 * 30)


def test_full_tuning_costs_the_usual_six_n_a_token():
    full = tuned(
        epochs=1,
        prompt_tokens=3,
        trained_tokens=4,
        trained_rationale_tokens=0,
        rationale_tokens={},
        parameters=10,
        trainable_parameters=10,
    )
    assert training_flops(full) == 6 * 10 * 7


def test_every_count_by_hand():
    replies = [
        bought("a", prompt_tokens=10, completion_tokens=20, usd=0.25),
        bought("b", "cut off", prompt_tokens=11, completion_tokens=40, usd=0.5),
    ]
    assert count_cost(replies, [ANSWERS, RATIONALES], [reply(1), reply(7)]) == {
        "teacher_calls": 2,
        "teacher_prompt_tokens": 21,
        "teacher_completion_tokens": 60,
        "teacher_usd": pytest.approx(0.75),
        "judge_calls": 0,
        "judge_prompt_tokens": 0,
        "judge_completion_tokens": 0,
        "judge_usd": 0.0,
        "unique_rationale_tokens": 200,
        "trained_rationale_tokens": 2 * 200,
        "trained_response_tokens": 4 * 10 + 2 * 200,
        "trained_total_tokens": 4 * 110 + 2 * 250,
        "train_flops": 440 * 4060 + 500 * 4060,
        "evaluation_generated_tokens": 8,
    }


def test_calls_of_batches_are_told_apart_from_live_ones():
    replies = [
        bought("a", completion_tokens=20, usd=0.25, ledger_key="k1", seconds=0.1),
        bought("b", completion_tokens=20, usd=0.125, ledger_key="k2"),
        bought("c", "cut off", completion_tokens=30, usd=0.5, ledger_key="k3"),
        bought("d", "no_reply: HTTP 400"),
    ]
    cost = count_cost(replies, [], [])
    assert (cost["teacher_calls"], cost["teacher_usd"]) == (3, 0.875)
    assert (cost["teacher_batch_calls"], cost["teacher_batch_usd"]) == (2, 0.625)
    assert tell_batches(cost) == " (1 live for $0.25, 2 in batches for $0.62)"
    assert tell_batches(count_cost(replies[:1], [], [])) == ""


def test_calls_without_a_reply_are_no_part_of_the_bill_and_named_beside_it():
    replies = [
        bought("a", completion_tokens=20, usd=0.25),
        bought("b", "no_reply: sent 9 times without a result", usd=0.5),
    ]
    cost = count_cost(replies, [], [])
    assert (cost["teacher_calls"], cost["teacher_usd"], cost["unsure_usd"]) == (1, 0.25, 0.5)
    assert "unsure_usd" not in count_cost(replies[:1], [], [])
    (card,) = find_headlines({"cost": cost})
    assert "Up to $0.50 more may be charged for calls that brought no reply" in card.detail


def test_worked_solutions_are_no_calls_and_cost_nothing():
    cost = count_cost([bought("a"), bought("b")], [RATIONALES], [])
    assert (cost["teacher_calls"], cost["teacher_usd"]) == (0, 0.0)
    assert cost["unique_rationale_tokens"] == 200


def test_a_rationale_counts_once_however_many_stages_train_it():
    middle = replace(ANSWERS, rationale_tokens={"c": 30, "d": 40})
    both = replace(RATIONALES, rationale_tokens={"b": 120, "c": 30})
    cost = count_cost([], [middle, RATIONALES, both], [])
    assert cost["unique_rationale_tokens"] == 80 + 120 + 30 + 40


def test_an_untuned_base_model_costs_its_evaluation_only():
    cost = count_cost([], [], [reply(3)])
    assert cost.pop("evaluation_generated_tokens") == 3
    assert set(cost.values()) == {0}


def test_a_judge_is_counted_apart_from_the_teacher():
    judged = [
        Judgement(question_id="a", estimator="judge_steps", value=3.0, text="[[3]]",
                  prompt_tokens=30, completion_tokens=5, usd=0.125),
        Judgement(question_id="b", estimator="judge_steps", value=None, text="refused"),
    ]  # fmt: skip
    cost = count_cost([], [], [], judged)
    assert (cost["judge_calls"], cost["judge_usd"], cost["teacher_usd"]) == (1, 0.125, 0.0)
    assert (cost["judge_prompt_tokens"], cost["judge_completion_tokens"]) == (30, 5)
