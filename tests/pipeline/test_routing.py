"""What it costs to know which questions are hard, for every kind of estimator."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import inf

import pytest

from caft.data import QuestionSplits
from caft.evaluate.predictions import Routing, fit_cut, route
from caft.pipeline.results import FittedCut, Scored
from caft.pipeline.routing import (
    place_by_classes,
    place_by_validation,
    route_base_model,
    route_tuned_model,
    tell_cut,
)
from caft.records import AnswerScore, Chain, Judgement, Prediction, Question, SampledReply
from caft.split import SplitResult
from caft.split.config import EntropySplitConfig, Match, RandomSplitConfig, SplitConfig

TRAIN, VALIDATION, TEST = ("t1", "t2", "t3", "t4"), ("v1", "v2", "v3", "v4"), ("x1", "x2")
HELD_OUT = VALIDATION + TEST
HARD = {"t4", "v1", "x2"}


def questions(names: tuple[str, ...]) -> tuple[Question, ...]:
    return tuple(Question(id=name, text="?", gold_text="1") for name in names)


QUESTIONS = QuestionSplits(
    train=questions(TRAIN), validation=questions(VALIDATION), test=questions(TEST)
)


def split(held_out_by: str = "") -> SplitResult:
    placed = {name: "hard" if name in HARD else "easy" for name in TRAIN + HELD_OUT}
    return SplitResult(complexity_of=placed, thresholds=(), held_out_by=held_out_by)


SCORED = Scored(
    scores=[
        AnswerScore(question_id=name, predicted="1", valid=True, correct=True) for name in HELD_OUT
    ],
    chains=[
        Chain(question_id=name, pieces=(), entropies=(), margins=(), parsed=None, correct=False,
              generated_tokens=30 + number)
        for number, name in enumerate(HELD_OUT)
    ],
    samples=[
        SampledReply(question_id=name, sample=sample, text="", parsed=None, correct=False,
                     generated_tokens=10 + sample)
        for name in HELD_OUT
        for sample in range(4)
    ],
    judgements=[
        Judgement(
            question_id=name, estimator=estimator, value=1.0, text="1", completion_tokens=cost
        )
        for estimator, cost in (("judge_steps", 7), ("judge_education", 9))
        for name in HELD_OUT
    ],
)  # fmt: skip


def route_model(who: str, config: SplitConfig, held_out_by: str = "") -> Routing:
    placed = place_by_classes(config, split(held_out_by), HELD_OUT)
    return (route_base_model if who == "base" else route_tuned_model)(placed, SCORED, HELD_OUT)


def answers() -> list[Prediction]:
    return [
        Prediction(
            question_id=name, text="1", parsed="1", correct=True, generated_tokens=1,
            estimates={"answer_entropy": float(number), "top1_margin": float(number)},
        )
        for number, name in enumerate(HELD_OUT)
    ]  # fmt: skip


def by(estimator: str) -> SplitConfig:
    return EntropySplitConfig(estimator=estimator)


ONE_EACH = dict.fromkeys(HELD_OUT, 1)


@pytest.mark.parametrize(
    ("who", "config", "held_out_by", "tokens", "by_own_answer"),
    [
        ("base", by("answer_entropy"), "", {}, True),
        ("tuned", by("answer_entropy"), "", ONE_EACH, False),
        ("base", by("fallback_entropy"), "", ONE_EACH, False),
        # From the prompt's pass, which an answer takes anyway.
        ("base", by("probe"), "", dict.fromkeys(["v1", "x2"], 1), False),
        ("tuned", by("probe"), "", ONE_EACH, False),
        # The base model's answer, and one more token about it.
        ("base", by("p_true"), "", ONE_EACH, True),
        ("tuned", by("verbalized"), "", dict.fromkeys(HELD_OUT, 2), False),
        ("base", by("judge_steps"), "", dict.fromkeys(HELD_OUT, 7), False),
        ("tuned", by("judge_education"), "", dict.fromkeys(HELD_OUT, 9), False),
        ("tuned", by("answer_frequency"), "", dict.fromkeys(HELD_OUT, 10 + 11 + 12 + 13), False),
        ("base", by("pass_rate"), "answer_entropy", {}, True),
        # Not known at test time: the stand-in placed them, and that is one token.
        ("base", by("rationale_length"), "answer_entropy", {}, True),
        ("base", by("entropy_gain"), "answer_entropy", {}, True),
        ("tuned", by("rationale_length"), "answer_entropy", ONE_EACH, False),
        ("base", RandomSplitConfig(), "", {}, False),
        ("tuned", RandomSplitConfig(), "", {}, False),
    ],
)
def test_the_classes_route_at_their_estimators_price(
    who: str, config: SplitConfig, held_out_by: str, tokens: dict[str, int], by_own_answer: bool
) -> None:
    routing = route_model(who, config, held_out_by=held_out_by)
    assert routing.hard == {"v1", "x2"}
    assert (routing.tokens, routing.by_own_answer) == (tokens, by_own_answer)


@pytest.mark.parametrize(
    ("who", "estimator", "tokens"),
    [
        # Base answers of 5, 6, ... 10 tokens, tuned ones of 2; v1 and x2 get a rationale of 100.
        ("base", "answer_entropy", [105, 6, 7, 8, 9, 110]),
        ("base", "p_true", [106, 7, 8, 9, 10, 111]),
        ("base", "probe", [101, 6, 7, 8, 9, 101]),
        ("tuned", "answer_entropy", [105, 8, 9, 10, 11, 110]),
        ("tuned", "p_true", [106, 9, 10, 11, 12, 111]),
        ("tuned", "probe", [101, 3, 3, 3, 3, 101]),
    ],
)
def test_a_free_text_answer_that_decides_costs_all_that_was_written(
    who: str, estimator: str, tokens: list[int]
) -> None:
    placed = place_by_classes(by(estimator), split(), HELD_OUT)
    scored = replace(SCORED, scores=[
        replace(row, generated_tokens=5 + number) for number, row in enumerate(SCORED.scores)
    ])  # fmt: skip
    routing = (route_base_model if who == "base" else route_tuned_model)(placed, scored, HELD_OUT)
    own = {"base": [5 + n for n in range(6)], "tuned": [2] * 6}[who]
    written = [replace(row, generated_tokens=n) for row, n in zip(answers(), own, strict=True)]
    rationales = [replace(row, generated_tokens=100) for row in answers()]
    assert [row.generated_tokens for row in route(written, rationales, routing)] == tokens


@pytest.mark.parametrize("who", ["base", "tuned"])
def test_a_chain_of_thought_costs_every_token_of_it(who: str) -> None:
    routing = route_model(who, by("cot_mean_entropy"))
    assert routing.tokens == {name: 30 + number for number, name in enumerate(HELD_OUT)}


@pytest.mark.parametrize(
    ("answers", "rationales", "cut"),
    [
        # Entropies 1, 2, 3, 3, 4. Every answer right: no rationale is worth writing.
        ("11111", "11111", inf),
        ("00000", "11111", 1.0),
        # The answers are right below 3: rationales begin there.
        ("11000", "00111", 3.0),
        # One of the two at 3 is lost by it and one won: the cut above writes fewer rationales.
        ("11100", "00011", 4.0),
        # What is lost at 4 is more than made good below it.
        ("00001", "01110", 2.0),
        ("", "", inf),
    ],
)
def test_the_cut_with_most_right_replies_and_then_fewest_rationales(
    answers: str, rationales: str, cut: float
) -> None:
    values = [1.0, 2.0, 3.0, 3.0, 4.0][: len(answers)]
    right = [[sign == "1" for sign in signs] for signs in (answers, rationales)]
    assert fit_cut(values, *right) == cut


@pytest.mark.parametrize("config", [by("answer_entropy"), by("gold_cross_entropy"),
                                    RandomSplitConfig()])  # fmt: skip
def test_validation_questions_alone_fit_the_cut_and_test_questions_fall_by_it(
    config: SplitConfig,
) -> None:
    # v3 and v4 are won by a rationale; at test, where answers are right as well, x1 and x2 lie
    # above them. A random split and an estimate that needs the gold answer route by answer entropy.
    scores = [answer_score(name, float(number)) for number, name in enumerate(HELD_OUT)]
    written = [replace(row, correct=row.question_id[0] == "x" or number < 2)
               for number, row in enumerate(answers())]  # fmt: skip
    scored = Scored(scores=scores)
    place = partial(place_by_validation, config, scored, QUESTIONS, tuned=False)
    placed = place(written, answers())
    assert placed.hard == {"v3", "v4", "x1", "x2"}
    assert tell_cut(placed, QUESTIONS.test) == FittedCut("answer_entropy", 2.0, 1.0)
    none_is_worth_it = place(answers(), written)
    assert tell_cut(none_is_worth_it, QUESTIONS.test) == FittedCut("answer_entropy", None, 0.0)
    assert tell_cut(place_by_classes(config, split(), HELD_OUT), QUESTIONS.test) is None


def test_a_tuned_model_is_routed_by_its_own_answers_where_they_tell() -> None:
    # The base model finds v1 hardest and the tuned one v4; a rationale wins v3 and v4 alone.
    scores = [answer_score(name, -float(number)) for number, name in enumerate(HELD_OUT)]
    right = {"v1", "v2"}
    written = [replace(row, correct=row.question_id in right) for row in answers()]
    place = partial(place_by_validation, by("answer_entropy"), Scored(scores=scores), QUESTIONS)
    placed = place(written, answers(), tuned=True)
    assert placed.hard == {"v3", "v4", "x1", "x2"}
    assert tell_cut(placed, QUESTIONS.test) == FittedCut("answer_entropy", 2.0, 1.0, by_tuned=True)
    # Its answer's pass decides: no other model is asked.
    assert route_tuned_model(placed, SCORED, HELD_OUT) == Routing(placed.hard, by_own_answer=True)

    # By the base model's estimate, v3 and v4 are the easiest of the validation questions.
    assert place(written, answers(), tuned=False).hard == set(VALIDATION)
    # A written answer tells nothing of its own.
    silent = [replace(row, estimates={}) for row in written]
    unknown = place(silent, answers(), tuned=True)
    assert (unknown.hard, unknown.by_tuned) == (set(VALIDATION), False)
    assert route_tuned_model(unknown, SCORED, HELD_OUT).tokens == ONE_EACH


def test_a_control_is_routed_like_the_rule_whose_budget_it_has() -> None:
    scores = [answer_score(name, float(number)) for number, name in enumerate(HELD_OUT)]
    scored = Scored(scores=[
        replace(row, estimates={**row.estimates, "top1_margin": row.estimates["answer_entropy"]})
        for row in scores
    ])  # fmt: skip
    config = RandomSplitConfig(match=Match.tokens, reference="top1_margin")
    placed = place_by_validation(config, scored, QUESTIONS, answers(), answers(), tuned=False)
    assert placed.estimator == "top1_margin"


def test_an_unreadable_estimate_is_as_hard_as_the_hardest() -> None:
    # The chain of v4 and of x1 cannot be read: the split would put them into the last class.
    lengths = {"v1": 1.0, "v2": 2.0, "v3": 3.0, "v4": None, "x1": None, "x2": 0.5}
    scores = [
        replace(answer_score(name, 0.0), estimates={"cot_mean_entropy": value})
        for name, value in lengths.items()
    ]
    written = [replace(row, correct=row.question_id in ("v1", "v2")) for row in answers()]
    placed = place_by_validation(
        by("cot_mean_entropy"), Scored(scores=scores), QUESTIONS, written, answers(), tuned=True
    )
    assert placed.hard == {"v3", "v4", "x1"}
    assert placed.cut == 3.0


def answer_score(name: str, entropy: float) -> AnswerScore:
    return AnswerScore(
        question_id=name,
        predicted="1",
        valid=True,
        correct=True,
        estimates={"answer_entropy": entropy, "gold_cross_entropy": -entropy},
    )
