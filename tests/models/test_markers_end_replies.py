"""Writing stops where the parser would read an answer, and nowhere else."""

from __future__ import annotations

from random import Random

import pytest

from caft.models.config import Architecture
from caft.models.reply_rules import (
    _MARKER_TOKENS,
    ReplyRules,
    _closes_marker,
    has_ended,
)
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.text.parsing import has_closed_marker, parse_answer


@pytest.mark.parametrize(
    ("tail", "closed"),
    [
        ("so [[A]]", True),
        ("[[[B]]] then", True),
        ("[[A]", False),
        ("the matrix [[1, 2], [3, 4]]", False),
        ("2], [3, 4]] and a list x[y[0]]", False),
        ("the matrix [[1, 2], [3, 4]] has rank [[2]]", True),
        ("[[[0,1)]]", True),
        ("[[(0,1]]]", True),
    ],
)
def test_a_marker_is_closed_where_the_parser_reads_one(tail: str, closed: bool) -> None:
    assert has_closed_marker(tail) is closed
    assert (parse_answer(tail, ()) is not None) is closed


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("so [[[1,2]]].", "so [[[1,2]]]"),
        ("so [[(1,2]]].", "so [[(1,2]]]"),
        ("[[(1,2]].", "[[(1,2]]."),
        ("[[(1,2)]].", "[[(1,2)]]"),
        ("[[[B]]].", "[[[B]]"),
        ("[[A]] [[B].", "[[A]]"),
    ],
)
def test_a_third_bracket_is_awaited_where_it_is_the_answers(text: str, written: str) -> None:
    ends = (end for end in range(1, len(text) + 1) if has_closed_marker(text[:end]))
    assert text[: next(ends)] == written


@pytest.mark.parametrize("architecture", Architecture)
@pytest.mark.parametrize("lead", ["", "First, the task.\n", "So:\n\n", "[[not]\n> one\n"])
def test_a_quoted_marker_ends_no_reply_however_long_its_line(
    architecture: Architecture, lead: str
) -> None:
    quote = (
        "> Think step by step, and then write the letter of the right option in double brackets, "
        "such as [[A]], and nothing that you do not know to be true, at the end of your reply."
    )
    tokenizer, rules = make_tokenizer(architecture), ReplyRules(max_new_tokens=999, end_ids=(2,))
    text = f"{lead}{quote}\nThe answer is [[C]]"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    ended = [has_ended(tokenizer, ids[:end], rules) for end in range(1, len(ids) + 1)]
    assert ended == [False] * (len(ids) - 1) + [True]
    assert parse_answer(tokenizer.decode(ids), "ABC") == "C"


@pytest.mark.parametrize("architecture", Architecture)
def test_tails_without_a_bracket_need_no_decoding(architecture: Architecture) -> None:
    """Also where a bracket leaves the tail again; a marker counts that no quoted line hides."""
    tokenizer, random = make_tokenizer(architecture), Random(3)
    pieces = ["[", "]", "[[", "]]", " A", "\n> ", "2, 3", " so", "]]]", "\u00e9]", "[[7]]", "\n"]
    closed = hidden = 0
    for _ in range(120):
        text = "".join(random.choices(pieces, k=25))
        ids = tokenizer(text, add_special_tokens=False).input_ids
        for end in range(1, len(ids) + 1):
            tail = tokenizer.decode(ids[:end][-_MARKER_TOKENS:])
            seen = has_closed_marker(tail)
            expected = seen and has_closed_marker(tokenizer.decode(ids[:end]))
            assert _closes_marker(tokenizer, ids[:end]) is expected
            hidden += seen and not expected
            if expected:
                closed += 1
                break
    assert closed > 20
    assert hidden > 20
