"""What is read from a forward pass and from a reply, field by field and by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from caft.records import AnswerScore, Chain, Question, SampledReply, WrittenReply
from caft.score.module import NextToken
from caft.score.prepare import ScoringRow
from caft.score.read import (
    answer_span,
    estimate_answer,
    read_answers,
    read_chain,
    read_sample,
    without_end,
)
from caft.text.config import OptionIds, PromptConfig

WORDS = ("</s>", "\n", " Jane", " Austen", "A", "B", "[[", "]]", "Z", "2")
END, BREAK, JANE, AUSTEN, A, B, OPEN, CLOSE, Z, TWO = range(len(WORDS))


class Vocabulary:
    """What reading needs of a tokenizer: a text for every id."""

    def decode(self, token_ids: Sequence[int], **_options: bool) -> str:
        return "".join(WORDS[each] for each in token_ids)


TOKENIZER: Any = Vocabulary()
CLOSED = Question(id="closed", text="Which?", options=("red", "blue"), gold_index=1)
FREE = Question(id="free", text="Who?", gold_text="Jane Austen")
ROW = ScoringRow(
    question_id="closed", prompt_ids=(1,), labels=("A", "B"), label_ids=(A, B), gold="B"
)
FREE_ROW = ScoringRow(question_id="free", prompt_ids=(1,), labels=(), label_ids=(), gold="")


def write(*ids: int, question: str = "free", sample: int = 0) -> WrittenReply:
    """Each token's spread tells its place."""
    places = range(len(ids))
    return WrittenReply(
        question, "", len(ids) + 1, ids, [1.0 + place for place in places],
        [0.5 + place / 16 for place in places], [place / 16 for place in places], sample=sample,
    )  # fmt: skip


def test_the_scores_of_a_label_and_of_a_free_answer() -> None:
    first = NextToken("closed", A, {"answer_entropy": 0.5}, (math.log(0.75), math.log(0.125)))
    again = NextToken("free", JANE, {"answer_entropy": 9.0, "top1_margin": 9.0, "other": 3.0})
    reply = write(BREAK, JANE, AUSTEN, BREAK, A)
    wrong, right = read_answers(
        [ROW, FREE_ROW], [FREE, CLOSED], {"closed": first, "free": again}, {"free": reply},
        TOKENIZER,
    )  # fmt: skip
    assert wrong.option_probabilities == pytest.approx((0.75, 0.125))
    assert wrong.estimates["gold_cross_entropy"] == pytest.approx(math.log(8))
    assert replace(wrong, option_probabilities=(), estimates={}) == AnswerScore(
        question_id="closed", predicted="A", valid=True, correct=False, estimates={}
    )
    # The line break before the answer does not count, and what was written decides, if anything.
    assert right == AnswerScore(
        question_id="free", predicted="Jane Austen", valid=True, correct=True,
        estimates={
            "other": 3.0, "answer_entropy": 2.0, "top1_probability": 0.5625, "top1_margin": 0.0625,
            "answer_mean_entropy": 2.5, "answer_sum_entropy": 5.0,
        },
        # Five tokens and the end.
        generated_tokens=6,
    )  # fmt: skip
    mute = read_answers([FREE_ROW], [FREE], {"free": again}, {"free": write(BREAK)}, TOKENIZER)
    assert mute == [
        AnswerScore(
            question_id="free", predicted="", valid=False, correct=False,
            estimates=again.estimates, generated_tokens=2,
        )
    ]  # fmt: skip
    assert estimate_answer(write(), slice(0, 0)) == {}


def test_the_gold_label_of_a_row_whose_last_label_was_not_asked_for() -> None:
    declined = replace(ROW, labels=("A", "B", "?"), label_ids=(A, B, Z), gold="B")
    said = NextToken("closed", Z, {}, (math.log(0.5), math.log(0.25)))
    (score,) = read_answers([declined], [CLOSED], {"closed": said}, {}, TOKENIZER)
    assert (score.predicted, score.valid, score.correct) == ("?", True, False)
    assert score.estimates["gold_cross_entropy"] == pytest.approx(math.log(4))


def test_a_token_that_is_no_label_is_shown_as_it_is_written() -> None:
    said = NextToken("closed", JANE, {"answer_entropy": 0.5})
    assert read_answers([ROW], [CLOSED], {"closed": said}, {}, TOKENIZER) == [
        AnswerScore(
            question_id="closed", predicted="Jane", valid=False, correct=False,
            estimates={"answer_entropy": 0.5, "gold_cross_entropy": None},
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pieces", "span"),
    [
        (["42"], slice(0, 1)),
        (["4", "2\n", "x"], slice(0, 2)),
        (["\n4", "2", "\n"], slice(0, 2)),
        (["4", "\nQ", "2"], slice(0, 1)),
        (["a", "b"], slice(0, 2)),
        ([" ", "\r\n", "a", " b", "\n", "c"], slice(2, 4)),
        (["a", "\rb"], slice(0, 1)),
        (["a\r", "b"], slice(0, 1)),
        (["\r\ra", "b"], slice(0, 2)),
        (["a\nb", "c"], slice(0, 1)),
        (["a", "b\n", "c"], slice(0, 2)),
        (["\n"], slice(1, 1)),
        ([], slice(0, 0)),
    ],
)
def test_the_tokens_of_a_bare_answer(pieces: list[str], span: slice) -> None:
    assert answer_span(pieces) == span


def test_a_chain_and_a_drawn_reply_have_all_that_was_written() -> None:
    digits = PromptConfig(option_ids=OptionIds.digits)
    written = write(JANE, OPEN, TWO, CLOSE, question="closed", sample=3)
    assert read_chain(CLOSED, written, digits, TOKENIZER, opened=False) == Chain(
        question_id="closed", pieces=(" Jane", "[[", "2", "]]"), entropies=(1.0, 2.0, 3.0, 4.0),
        margins=(0.0, 0.0625, 0.125, 0.1875), parsed="2", correct=True, generated_tokens=5,
    )  # fmt: skip
    assert read_sample(CLOSED, written, digits, TOKENIZER, opened=False) == SampledReply(
        question_id="closed", sample=3, text=" Jane[[2]]", parsed="2", correct=True,
        generated_tokens=5,
    )  # fmt: skip
    # Under letters "2" names nothing.
    lettered = read_chain(CLOSED, written, PromptConfig(), TOKENIZER, opened=False)
    assert (lettered.parsed, lettered.correct) == (None, False)
    right = write(OPEN, B, CLOSE, question="closed")
    assert read_chain(CLOSED, right, PromptConfig(), TOKENIZER, opened=False).correct
    assert read_sample(CLOSED, right, PromptConfig(), TOKENIZER, opened=True).parsed is None


def test_only_the_end_token_is_left_out() -> None:
    ended = write(END, JANE, AUSTEN, END)
    kept = without_end(ended, {END})
    assert (kept.ids, kept.entropies) == ((END, JANE, AUSTEN), [1.0, 2.0, 3.0])
    assert (kept.top1, kept.margins) == ([0.5, 0.5625, 0.625], [0.0, 0.0625, 0.125])
    assert without_end(write(END, JANE), {END}) == write(END, JANE)
    assert without_end(write(), {END}) == write()
