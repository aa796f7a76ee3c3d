"""Aggregates over token entropies, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caft.models.config import Architecture
from caft.models.encoding import token_pieces
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.records import Chain, Question, WrittenReply
from caft.score.chains import estimate_chain, find_answer_token, find_reasoning, split_sentences
from caft.score.read import read_chain
from caft.text.config import PromptConfig
from caft.text.parsing import parse_answer


def chain(*tokens: tuple[str, float, float]) -> Chain:
    pieces, entropies, margins = zip(*tokens, strict=True) if tokens else ((), (), ())
    return Chain(question_id="q", pieces=pieces, entropies=entropies, margins=margins,
                 parsed=None, correct=False)  # fmt: skip


def test_every_aggregate_by_hand() -> None:
    written = chain(
        ("Add", 1.0, 0.5), (" 3.", 2.0, 0.25), ("5", 0.0, 1.0), (".", 1.0, 0.25),
        (" So", 3.0, 0.0), (" [[", 0.5, 0.5), ("B", 0.25, 0.75), ("]]", 0.25, 0.75),
    )  # fmt: skip
    estimates = estimate_chain(written)
    # Sentences "Add 3.5." (1, 2, 0, 1) and " So [[B]]" (3, 0.5, 0.25, 0.25).
    assert estimates == {
        "cot_answer_entropy": 0.25,
        "cot_answer_margin": 0.75,
        "cot_mean_entropy": 8.0 / 8,
        "cot_max_entropy": 3.0,
        "cot_top_entropy": 3.0,
        "cot_sum_entropy": 8.0,
        "cot_sentence_mean_of_means": (1.0 + 1.0) / 2,
        "cot_sentence_mean_of_max": (2.0 + 3.0) / 2,
        "cot_margin": 4.0 / 8,
    }


def test_the_largest_tenth_is_of_the_span_and_rounded_up() -> None:
    thought = [("a", float(place % 11), 0.5) for place in range(11)]
    written = chain(("<think>", 99.0, 0.0), *thought, ("</think>", 99.0, 0.0))
    # Eleven tokens of 0 to 10 nats: a tenth of them is two.
    assert estimate_chain(written)["cot_top_entropy"] == (10.0 + 9.0) / 2
    assert estimate_chain(chain())["cot_top_entropy"] is None


def test_a_thinking_model_is_measured_inside_its_span() -> None:
    written = chain(
        ("<think>", 9.0, 0.0), ("Hm", 1.0, 0.5), (" [[A]]", 3.0, 0.5), ("</think>", 9.0, 0.0),
        (" Sure", 5.0, 0.1), (" [[", 5.0, 0.1), ("B", 0.75, 0.25), ("]]", 5.0, 0.1),
    )  # fmt: skip
    estimates = estimate_chain(written)
    assert (estimates["cot_mean_entropy"], estimates["cot_sum_entropy"]) == (2.0, 4.0)
    # What looks like an answer among the thoughts is none.
    assert (estimates["cot_answer_entropy"], estimates["cot_answer_margin"]) == (0.75, 0.25)


@pytest.mark.parametrize(
    ("pieces", "span"),
    [
        (["a", "b"], slice(0, 2)),
        (["<think>", "a", "</think>", "b"], slice(1, 2)),
        (["a", "</think>", "b"], slice(0, 1)),
        (["<think>", "a", "b"], slice(1, 3)),
        (["<thi", "nk>", "a", "</", "think>", "b"], slice(2, 3)),
        ([], slice(0, 0)),
    ],
)
def test_the_reasoning_of_a_reply(pieces: list[str], span: slice) -> None:
    assert find_reasoning(pieces) == span


@pytest.mark.parametrize(
    ("pieces", "place"),
    [
        (["So ", "[[", "A", "]]"], 2),
        (["[[", " ", "A", "]]"], 2),
        (["[[A]]", " no, ", "[[B]]"], 2),
        (["no answer"], None),
        (["[[", "]]"], None),
        (["<think>", "[[A]]"], None),
        (["[[A]]", "</think>", "none"], None),
    ],
)
def test_the_token_of_the_answer(pieces: list[str], place: int | None) -> None:
    assert find_answer_token(pieces) == place


@pytest.mark.parametrize(
    ("reply", "parsed"),
    [
        ("Perhaps [[B]], but wait", None),
        ("Perhaps [[B]]. </think> So [[A]]", "A"),
        ("Perhaps [[B]]. </think> So", None),
    ],
)
def test_what_stands_in_a_span_that_the_prompt_opened_is_no_answer(
    reply: str, parsed: str | None
) -> None:
    tokenizer = make_tokenizer(Architecture.llama)
    ids = tokenizer(reply, add_special_tokens=False).input_ids
    spread = [0.5] * len(ids)
    written = WrittenReply("q", reply, len(ids), ids, spread, spread, spread)
    question = Question(id="q", text="?", options=("red", "blue"), gold_index=1)

    def read(*, opened: bool) -> Chain:
        return read_chain(question, written, PromptConfig(), tokenizer, opened=opened)

    assert read(opened=True).parsed == parsed
    estimates = estimate_chain(read(opened=True))
    assert (estimates["cot_answer_entropy"] is None) is (parsed is None)
    # A reply whose own text is all there is goes by that.
    cut = "</think>" not in reply
    assert read(opened=False).parsed == ("B" if cut else parsed)


@pytest.mark.parametrize(
    ("pieces", "bounds"),
    [
        (["One.", " Two"], [(0, 1), (1, 2)]),
        (["3", ".", "5", " is"], [(0, 4)]),
        (["One", ".", "\n\n", "Two", "!"], [(0, 3), (3, 5)]),
        (["a\n", "b\n", "c"], [(0, 1), (1, 2), (2, 3)]),
        (["(Really?)", " Yes"], [(0, 1), (1, 2)]),
        ([], []),
    ],
)
def test_sentences(pieces: list[str], bounds: list[tuple[int, int]]) -> None:
    assert split_sentences(pieces) == bounds


def test_nothing_written_has_no_estimates() -> None:
    assert set(estimate_chain(chain()).values()) == {None}


@pytest.mark.parametrize("architecture", list(Architecture))
def test_pieces_are_the_text_token_by_token(architecture: Architecture) -> None:
    tokenizer = make_tokenizer(architecture)
    text = "First 12 + 7 = 19.\nSo  the answer é 日本 is [[B]]. " * 3
    ids = tokenizer(text, add_special_tokens=False).input_ids
    pieces = token_pieces(ids, tokenizer)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids, clean_up_tokenization_spaces=False)


def test_a_span_that_the_prompt_opened_is_closed_by_its_own_familys_mark() -> None:
    written = chain(
        ("Hm", 1.0, 0.5), (" so", 3.0, 0.5), ("<channel|>", 9.0, 0.0), ("[[", 5.0, 0.1),
        ("A", 0.25, 0.75), ("]]", 5.0, 0.1),
    )  # fmt: skip
    estimates = estimate_chain(replace(written, opened=True))
    assert (estimates["cot_sum_entropy"], estimates["cot_answer_entropy"]) == (4.0, 0.25)
    # Where nothing was opened the mark closes nothing, and all of it counts.
    assert estimate_chain(written)["cot_sum_entropy"] == 23.25


def test_a_sentence_is_one_whatever_tokens_its_end_is_cut_into() -> None:
    assert split_sentences(["He said (no", ".", ")", " Two."]) == [(0, 3), (3, 4)]
    # The character behind the point decides, even if an empty piece stands between.
    assert split_sentences(["3.", "", "5"]) == [(0, 3)]


@pytest.mark.parametrize(
    ("pieces", "bounds"),
    [
        (["One.", " ", "Two."], [(0, 1), (1, 3)]),
        (["One. ", "Two."], [(0, 1), (1, 2)]),  # the space may be in the piece of the point
        (["One", ".", " ", " ", "\n", "Two."], [(0, 5), (5, 6)]),
        # The first bytes of a character have no text of their own, however many they are.
        (["3.", "", "", "", "5 is"], [(0, 5)]),
        (["One.", "", "", "", " Two."], [(0, 1), (1, 5)]),
        (["One.", "", ""], [(0, 3)]),
        # A span that begins with an empty line has no sentence without words.
        (["\n", "One.", " Two."], [(0, 2), (2, 3)]),
        (["", "\n", " ", "One."], [(0, 4)]),
        ([" "], [(0, 1)]),
        (["", "\n"], [(0, 2)]),
    ],
    ids=repr,
)
def test_blanks_and_empty_pieces_make_no_sentence_and_hide_none(
    pieces: list[str], bounds: list[tuple[int, int]]
) -> None:
    assert split_sentences(pieces) == bounds


def test_a_blank_before_the_first_sentence_is_no_mean_of_its_own() -> None:
    written = chain(("\n", 0.0, 1.0), ("One.", 3.0, 0.5), (" Two.", 2.5, 0.5))
    estimates = estimate_chain(written)
    assert estimates["cot_sentence_mean_of_means"] == ((0.0 + 3.0) / 2 + 2.5) / 2
    assert estimates["cot_sentence_mean_of_max"] == (3.0 + 2.5) / 2


@pytest.mark.parametrize(
    ("pieces", "token"),
    [
        (
            ["<think>", "a", "</think>", " [[", "A", "]]", "<think>", " [[", "B", "]]", "</think>"],
            4,
        ),
        (["<think>", "a", "</think>", " [[", "A", "]] ", "<think>", " cut"], None),
        (["<think>x</think>", "[[", "A", "]]", "then </think>", "[[", "C", "]]"], 6),
    ],
)
def test_the_token_is_that_of_the_answer_that_is_graded(
    pieces: list[str], token: int | None
) -> None:
    assert find_answer_token(pieces) == token
    answer = None if token is None else pieces[token]
    assert parse_answer("".join(pieces), ("A", "B", "C")) == answer
