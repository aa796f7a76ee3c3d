"""Replies and scores become Predictions: what counts as an answer, and what it cost."""

from __future__ import annotations

import math

import pytest

from caft.evaluate.predictions import (
    Routing,
    fit_cut,
    read_reply,
    read_single_token,
    route,
)
from caft.evaluate.stage import was_cut
from caft.models.generation import GeneratedReply
from caft.models.reply_rules import ReplyRules
from caft.models.thinking_cap import ThinkingRules
from caft.models.thinking_span import ThinkingSpan
from caft.records import AnswerScore, Prediction, Question, Unread, WrittenReply
from caft.text.config import OptionIds, PromptConfig

COLOURS = Question(id="q1", text="Which?", options=("red", "blue", "green"), gold_index=1)


@pytest.mark.parametrize(
    ("text", "parsed", "unread", "marked"),
    [
        ("It is blue. [[B]]", "B", None, None),
        ("First [[B]], but no: [[A]]", "A", None, None),
        ("It is [[ D ]]", None, Unread.outside, "D"),
        ("The answer is B", None, Unread.no_marker, None),
        ("It is [[B", None, Unread.no_marker, None),
        ("It is [[ ]]", None, Unread.no_marker, None),
        (f"It is [[{'B or C ' * 99}]]", None, Unread.no_marker, None),
        ("<think>So [[D]]", None, Unread.no_marker, None),
        ("", None, Unread.no_marker, None),
    ],
)
def test_only_the_last_marker_of_a_reply_counts_and_what_is_missing_is_named(
    text: str, parsed: str | None, unread: Unread | None, marked: str | None
) -> None:
    prediction = read_reply(COLOURS, GeneratedReply(text, (0,) * 9), PromptConfig())
    assert prediction == Prediction(
        question_id="q1", text=text, parsed=parsed, correct=parsed == "B", generated_tokens=9,
        unread=unread, marked=marked,
    )  # fmt: skip
    # Where a limit ended it, only a reply without a marker was cut.
    cut = read_reply(COLOURS, GeneratedReply(text, (0,) * 9), PromptConfig(), cut=True)
    assert cut.unread is (Unread.cut if unread is Unread.no_marker else unread)


@pytest.mark.parametrize(
    ("tokens", "thinking", "ids", "cap", "cut"),
    [
        (8, 0, (4,) * 8, None, True),
        (7, 0, (4,) * 7, None, False),
        # It ended by itself with the last token that it had.
        (8, 0, (*(4,) * 7, 2), None, False),
        # A server that tells no ids.
        (8, 0, (), None, True),
        (7, 0, (), None, False),
        # A span with a cap of its own does not count towards the limit.
        (11, 3, (), 5, True),
        (10, 3, (), 5, False),
        (11, 3, (), None, True),
    ],
)
def test_a_reply_was_cut_if_it_has_all_its_tokens_and_no_end(
    tokens: int, thinking: int, ids: tuple[int, ...], cap: int | None, cut: bool
) -> None:
    opened = ThinkingSpan(opens="<think>", closing="</think>")
    span = ThinkingRules(span=opened, closing_ids=(3,), max_tokens=cap) if cap else None
    rules = ReplyRules(max_new_tokens=8, end_ids=(2,), thinking=span)
    reply = WrittenReply("q1", "So it is", tokens, ids, thinking_tokens=thinking)
    assert was_cut(reply, rules) is cut


@pytest.mark.parametrize(
    ("text", "opened", "asked", "obeyed"),
    [
        ("<think>Hm.</think> [[B]]", False, True, True),
        ("Hm.</think> [[B]]", True, True, True),
        ("Hm.<channel|>[[B]]", True, True, True),
        # An empty span, none at all, and one that is never closed.
        ("<think></think> [[B]]", False, True, False),
        ("[[B]]", False, True, False),
        ("Hm. [[B]]", True, True, False),
        ("<think>Hm. [[B]]", False, True, False),
        ("[[B]]", False, False, True),
        ("<think></think> [[B]]", False, False, False),
        ("<think>Hm.</think> [[B]]", False, None, None),
    ],
)
def test_who_is_asked_to_think_obeys_with_a_closed_span_that_says_something(
    text: str, opened: bool, asked: bool | None, obeyed: bool | None
) -> None:
    reply = WrittenReply("q1", text, 9, thinking_tokens=4)
    told = read_reply(COLOURS, reply, PromptConfig(), opened=opened, asked_to_think=asked)
    assert (told.obeyed, told.thinking_tokens) == (obeyed, 4)


def test_a_marker_in_a_span_that_the_prompt_opened_is_none() -> None:
    for text, parsed, marked in (
        ("So [[B]]", None, None), ("So [[D]]", None, None), ("Hm.</think> [[D]]", None, "D"),
        ("[[D]]</think> [[B]]", "B", None),
    ):  # fmt: skip
        told = read_reply(COLOURS, WrittenReply("q1", text, 9), PromptConfig(), opened=True)
        assert (told.parsed, told.marked) == (parsed, marked)


def test_the_longest_marker_that_is_shown() -> None:
    for length, marked in ((500, "x" * 500), (501, None)):
        reply = WrittenReply("q1", f"[[{'x' * length}]]", 9)
        assert read_reply(COLOURS, reply, PromptConfig()).marked == marked


def test_option_ids_of_the_prompt_decide_what_is_right():
    digits = PromptConfig(option_ids=OptionIds.digits)
    assert read_reply(COLOURS, GeneratedReply("[[2]]", (0,) * 3), digits).correct
    assert read_reply(COLOURS, GeneratedReply("[[B]]", (0,) * 3), digits).parsed is None


def test_free_text_is_compared_with_the_gold_text():
    free = Question(id="q2", text="How many?", gold_text="1,200")
    assert read_reply(free, GeneratedReply("so [[1200]]", (0,) * 4), PromptConfig()).correct


@pytest.mark.parametrize("written", [{}, {"generated_tokens": 7}], ids=["label", "free text"])
@pytest.mark.parametrize("valid", [True, False])
def test_a_score_is_an_answer_of_one_token_or_of_those_that_were_written(valid, written):
    score = AnswerScore(
        question_id="q1", predicted="B", valid=valid, correct=valid, estimates={"entropy": 0.5},
        **written,
    )  # fmt: skip
    prediction = read_single_token(score)
    assert (prediction.question_id, prediction.text) == ("q1", "B")
    assert prediction.parsed == ("B" if valid else None)
    assert (prediction.unread, prediction.marked) == (
        (None, None) if valid else (Unread.outside, "B")
    )
    assert prediction.correct == valid
    assert prediction.generated_tokens == (7 if written else 1)
    assert prediction.estimates == {"entropy": 0.5}


def test_an_empty_answer_is_none_and_not_one_outside_the_allowed_ones():
    """Free text has no allowed ones, and a token of white space says nothing."""
    score = AnswerScore(question_id="q1", predicted="", valid=False, correct=False, estimates={})
    prediction = read_single_token(score)
    assert (prediction.parsed, prediction.marked) == (None, None)
    assert prediction.unread is Unread.no_marker


def prediction(name: str, text: str, tokens: int) -> Prediction:
    return Prediction(
        question_id=name, text=text, parsed=None, correct=False, generated_tokens=tokens
    )


@pytest.mark.parametrize(
    ("cost", "tokens"),
    [
        # Another model's pass is paid for every question, beside the reply that is taken.
        ({"tokens": {"a": 1, "b": 1, "c": 1}}, [1 + 1, 50 + 1, 1 + 1]),
        # A chain of thought told, of another length for every question.
        ({"tokens": {"a": 30, "b": 40, "c": 20}}, [1 + 30, 50 + 40, 1 + 20]),
        # The own answer pass told: it is the answer, or it comes before the rationale.
        ({"by_own_answer": True}, [1, 50 + 1, 1]),
        # Drawn by lot.
        ({}, [1, 50, 1]),
    ],
)
def test_routing_takes_one_reply_and_counts_every_pass(cost, tokens):
    answers = [prediction(name, "short", 1) for name in "abc"]
    rationales = [prediction(name, "long", 50) for name in "abc"]
    routed = route(answers, rationales, Routing({"b", "elsewhere"}, **cost))
    assert [row.text for row in routed] == ["short", "long", "short"]
    assert [row.generated_tokens for row in routed] == tokens


def test_the_fitted_cut_sends_to_hard_what_gains_most() -> None:
    values, answers = [1.0, 2.0, 3.0, 3.0, 4.0], [True, False, True, False, False]
    # From the top: 4.0 gains one, 3.0 loses one, 2.0 gains one: 4.0 is the highest of equal cuts.
    assert fit_cut(values, answers, [True, True, False, False, True]) == 4.0
    # 3.0 now gains one too, and the row at 1.0 loses its right answer.
    assert fit_cut(values, answers, [False, True, True, True, True]) == 2.0
    assert fit_cut(values, answers, answers) == math.inf
    assert fit_cut([], [], []) == math.inf
