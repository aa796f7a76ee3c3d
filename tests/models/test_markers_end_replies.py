"""Writing stops where the parser would read an answer, and nowhere else."""

from __future__ import annotations

from random import Random

import pytest

from caft.models.config import Architecture
from caft.models.reply_rules import _MARKER_TOKENS, _closes_marker, has_closed_marker
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.text.parsing import parse_answer


@pytest.mark.parametrize(
    ("tail", "closed"),
    [
        ("so [[A]]", True),
        ("[[[B]]] then", True),
        ("[[A]", False),
        ("the matrix [[1, 2], [3, 4]]", False),
        ("2], [3, 4]] and a list x[y[0]]", False),
        ("the matrix [[1, 2], [3, 4]] has rank [[2]]", True),
    ],
)
def test_a_marker_is_closed_where_the_parser_reads_one(tail: str, closed: bool) -> None:
    assert has_closed_marker(tail) is closed
    assert (parse_answer(tail, ()) is not None) is closed


@pytest.mark.parametrize("architecture", Architecture)
def test_tails_without_a_bracket_need_no_decoding(architecture: Architecture) -> None:
    """Also where a quote or a bracket leaves the tail again, which makes a marker visible."""
    tokenizer, random = make_tokenizer(architecture), Random(3)
    pieces = ["[", "]", "[[", "]]", " A", "\n> ", "2, 3", " so", "]]]", "\u00e9]", "[[7]]"]
    closed = 0
    for _ in range(60):
        text = "".join(random.choices(pieces, k=25))
        ids = tokenizer(text, add_special_tokens=False).input_ids
        for end in range(1, len(ids) + 1):
            expected = has_closed_marker(tokenizer.decode(ids[:end][-_MARKER_TOKENS:]))
            assert _closes_marker(tokenizer, ids[:end]) is expected
            closed += expected
    assert closed > 20
