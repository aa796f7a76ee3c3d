"""A reply that an engine wrote on and on ends where ours would have ended."""

from __future__ import annotations

from dataclasses import replace

import pytest

from caft.engines.replies import read_ids, read_text
from caft.models.reply_rules import ReplyRules
from caft.models.student import Student
from caft.models.thinking_cap import thinking_rules
from thinking_families import FAMILIES, Family, make_thinking_tokenizer

RULES = ReplyRules(max_new_tokens=500, end_ids=(1, 2))


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("So it is 7. [[7]] Question: what next? [[8]]", "So it is 7. [[7]]"),
        ("The rows [[1, 2], [3, 4]] add up to [[10]] and so on", "The rows [[1, 2], [3, 4]] "
         "add up to [[10]]"),
        ("> [[B]]\nI say [[C]] now", "> [[B]]\nI say [[C]]"),
        ("no marker at all", "no marker at all"),
    ],
)  # fmt: skip
def test_what_follows_the_first_closed_marker_is_cut(
    student: Student, written: str, kept: str
) -> None:
    ids = student.tokenizer(written, add_special_tokens=False).input_ids
    from_ids = read_ids("q", student.tokenizer, ids, RULES)
    from_text = read_text("q", student.tokenizer, written, len(ids), RULES)
    # A token may hold more than the bracket.
    assert from_ids.text.startswith(kept)
    assert len(from_ids.text) <= len(kept) + 1
    assert (from_text.text, from_text.tokens) == (from_ids.text, from_ids.tokens)
    assert student.tokenizer.decode(ids[: from_ids.tokens]) == from_ids.text


def test_an_end_token_counts_and_what_follows_it_does_not(student: Student) -> None:
    ids = student.tokenizer("done", add_special_tokens=False).input_ids
    reply = read_ids("q", student.tokenizer, [*ids, 2, *ids], RULES)
    assert (reply.text, reply.tokens) == ("done", len(ids) + 1)


def test_a_first_line_ends_where_it_is_asked_for(student: Student) -> None:
    rules = replace(RULES, stop_after_marker=False, stop_after_line=True)
    reply = read_text("q", student.tokenizer, "\n 12 apples\nor more", 9, rules)
    assert reply.text.strip() == "12 apples"


def test_half_a_character_costs_no_cut(student: Student) -> None:
    """A replacement character comes back as three tokens, and the cap was kept already."""
    rules = replace(RULES, max_new_tokens=4)
    reply = read_text("q", student.tokenizer, "a \ufffd\ufffd b", 4, rules)
    assert (reply.text, reply.tokens) == ("a \ufffd\ufffd b", 4)


def test_a_count_that_is_missing_is_made(student: Student) -> None:
    count = len(student.tokenizer("well", add_special_tokens=False).input_ids)
    assert read_text("q", student.tokenizer, "well", None, RULES).tokens == count + 1


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_no_marker_inside_a_thinking_span_ends_a_reply(family: Family) -> None:
    tokenizer = make_thinking_tokenizer(family)
    rules = replace(RULES, end_ids=(), thinking=thinking_rules(tokenizer))
    thought = f"{family.lead}is it [[3]]?{family.bridge}"
    ids = tokenizer(f"{thought}No: [[4]] and on", add_special_tokens=False).input_ids
    reply = read_ids("q", tokenizer, ids, rules, opened=family.opens_in_prompt)
    assert reply.text.endswith("No: [[4]]")
    assert 0 < reply.thinking_tokens < reply.tokens < len(ids)
