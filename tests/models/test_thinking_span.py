"""Which span a template has, and what a reply's span costs and becomes, token by token."""

from __future__ import annotations

from typing import Any

import pytest

from caft.errors import UserError
from caft.models.chat_template import render_turns, template_switches
from caft.models.reply_rules import ReplyRules, has_ended
from caft.models.thinking_cap import SpanWatch, reply_text, thinking_rules
from caft.models.thinking_span import ThinkingSpan, ends_open, find_span, refuse_thinking
from thinking_families import FAMILIES, Family, make_thinking_tokenizer, tokenizer_with

NAMES = [family.name for family in FAMILIES]
TURNS = [{"role": "user", "content": "2 + 2?"}]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_prompts_end_as_the_mode_wants_and_the_span_is_known(family: Family) -> None:
    tokenizer = make_thinking_tokenizer(family)
    asked, not_asked = (render_turns(tokenizer, TURNS, thinking=each) for each in (True, False))
    assert asked.endswith(family.asked)
    assert not_asked.endswith(family.not_asked)
    for text, opened in ((asked, family.opens_in_prompt), (not_asked, False)):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert ends_open(tokenizer, ids) is opened
    span = find_span(tokenizer)
    assert span == ThinkingSpan(family.opens, family.bridge)
    refuse_thinking(tokenizer, "evaluation.thinking", chat=True)


@pytest.mark.parametrize("tokens", [(), ("<think>", "</think>")], ids=["plain", "vocabulary"])
def test_a_template_without_a_span_is_refused(tokens: tuple[str, ...]) -> None:
    """The instruct models of a family have the marks in their vocabulary, too."""
    tokenizer = tokenizer_with(CHATML, tokens)
    assert find_span(tokenizer) is None
    assert thinking_rules(tokenizer) is None
    with pytest.raises(UserError, match=r"score.chain.thinking is true.*no thinking span"):
        refuse_thinking(tokenizer, "score.chain.thinking", chat=True)
    with pytest.raises(UserError, match="prompts are completions"):
        refuse_thinking(make_thinking_tokenizer(FAMILIES[0]), "evaluation.thinking", chat=False)


def test_a_template_that_only_cuts_thinking_off_has_a_span() -> None:
    """The first templates of the R1 distillates: the model opens the span by itself."""
    template = CHATML.replace("{{ m.content }}", "{{ m.content.split('</think>')[-1] }}")
    span = find_span(tokenizer_with(template, ("<think>", "</think>")))
    assert span is not None
    assert (span.opens, span.closing) == ("<think>", "\n</think>\n\n")


def test_the_switch_that_some_templates_call_thinking_is_on_only_when_asked() -> None:
    template = CHATML.replace("assistant\n{%", "assistant\n{% if thinking %}<think>{% endif %}{%")
    tokenizer = tokenizer_with(template)
    assert render_turns(tokenizer, TURNS, thinking=True).endswith("assistant\n<think>")
    assert render_turns(tokenizer, TURNS).endswith("assistant\n")
    assert "thinking" not in template_switches()


# Token by token


def put_all(family: Family, text: str, **dials: Any) -> tuple[str, SpanWatch]:
    """The text that comes of a model's own text, and the watch at its end."""
    tokenizer = make_thinking_tokenizer(family)
    rules = thinking_rules(tokenizer, **dials)
    assert rules is not None
    watch = SpanWatch(tokenizer, rules, "" if family.opens_in_prompt else None)
    written = [watch.put(token) for token in tokenizer(text, add_special_tokens=False).input_ids]
    while watch.is_forced:
        written.append(watch.put(0))
    assert watch.written == len(written)
    return reply_text(tokenizer, written, rules), watch


def count(family: Family, text: str) -> int:
    return len(make_thinking_tokenizer(family)(text, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_the_tokens_of_a_span_are_counted_with_their_marks(family: Family) -> None:
    thought, answer = f"{family.lead}One and two. [[A]]{family.bridge}", "So [[B]]"
    text, watch = put_all(family, thought + answer)
    assert text == thought + answer
    assert watch.open_mark is None
    # What follows the mark that closes belongs to the answer: two line breaks, or a channel's name.
    marks = ("<|end|>", "</think>", "[/THINK]")
    closed = next(thought.index(mark, 9) + len(mark) for mark in marks if mark in thought[9:])
    assert watch.thinking_tokens == count(family, thought[:closed])
    nothing, watch = put_all(family, answer)
    assert (nothing, watch.thinking_tokens > 0) == (answer, family.opens_in_prompt)


@pytest.mark.parametrize("family", FAMILIES, ids=NAMES)
def test_a_span_at_its_cap_is_closed_as_the_template_writes_it(family: Family) -> None:
    cap = 12
    text, watch = put_all(family, family.lead + "one two " * 9, max_tokens=cap)
    thought, closing, rest = text.partition(family.bridge)
    assert count(family, thought) == cap
    assert closing == family.bridge
    assert rest  # the model goes on, and may answer
    assert watch.thinking_tokens == cap + len(watch.rules.closing_ids)
    assert watch.answer_of(range(99)) == range(99)[watch.thinking_tokens :]
    assert watch.rules.most_tokens == watch.thinking_tokens


def test_marks_that_are_no_tokens_are_found_where_their_last_token_comes() -> None:
    tokenizer = tokenizer_with(CHATML.replace("assistant\n{%", "assistant\n<think>\n{%"))
    rules = thinking_rules(tokenizer)
    assert rules is not None
    for text, opened in (("Hm.</think>\n\nSo [[A]]", True), ("<think>Hm.</think> A", False)):
        watch = SpanWatch(tokenizer, rules, "" if opened else None)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        for token in ids:
            watch.put(token)
        thought = tokenizer.decode(ids[: watch.thinking_tokens])
        assert thought.rstrip("\n").endswith("</think>")
        assert watch.answer_of(ids) == ids[watch.thinking_tokens :]
        assert watch.open_mark is None


def test_a_model_that_opens_spans_without_end_comes_to_an_end() -> None:
    family, rounds = FAMILIES[0], 200
    tokenizer = make_thinking_tokenizer(family)
    thinking = thinking_rules(tokenizer, 5)
    assert thinking is not None
    rules = ReplyRules(max_new_tokens=4, end_ids=(), thinking=thinking)
    watch, written = SpanWatch(tokenizer, thinking, None), []
    (opening,) = tokenizer("<think>", add_special_tokens=False).input_ids
    while len(written) < rounds:
        written.append(watch.put(opening))
        if has_ended(tokenizer, written, rules, watch):
            break
    assert len(written) <= rules.most_tokens + len(thinking.closing_ids)
