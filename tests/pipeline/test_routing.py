"""What it costs to know which questions are hard, for every kind of estimator."""

from __future__ import annotations

import pytest

from caft.data import QuestionSplits
from caft.evaluate.config import RoutedBy
from caft.evaluate.predictions import Routing
from caft.pipeline.results import Scored
from caft.pipeline.routing import route_base_model, route_tuned_model
from caft.records import Chain, Judgement, Prediction, Question, SampledReply
from caft.split import SplitResult
from caft.split.config import EntropySplitConfig, RandomSplitConfig, SplitConfig

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
    scores=(),
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


def route_model(
    who: str, config: SplitConfig, by: RoutedBy = RoutedBy.base, held_out_by: str = ""
) -> Routing:
    if who == "base":
        return route_base_model(config, split(held_out_by), SCORED, HELD_OUT)
    return route_tuned_model(config, by, split(held_out_by), SCORED, QUESTIONS, answers())


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
        # From the answer's own pass.
        ("base", by("probe"), "", {}, True),
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


@pytest.mark.parametrize("who", ["base", "tuned"])
def test_a_chain_of_thought_costs_every_token_of_it(who: str) -> None:
    routing = route_model(who, by("cot_mean_entropy"))
    assert routing.tokens == {name: 30 + number for number, name in enumerate(HELD_OUT)}


@pytest.mark.parametrize(
    ("estimator", "hard"),
    [
        # A quarter of the training questions is hard: the cut lies below one validation question.
        ("answer_entropy", {"v4", "x1", "x2"}),
        ("top1_margin", {"v1"}),
        ("cot_mean_entropy", {"v4", "x1", "x2"}),
    ],
)
def test_the_tuned_models_own_estimates_route_with_a_cut_of_their_own(
    estimator: str, hard: set[str]
) -> None:
    routing = route_model("tuned", by(estimator), RoutedBy.tuned)
    assert routing.hard == hard
    assert (routing.tokens, routing.by_own_answer) == ({}, True)
    # The base model never routes by another model's estimates.
    base = route_model("base", by(estimator))
    assert base.hard == {"v1", "x2"}
