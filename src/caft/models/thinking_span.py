"""Which thinking span a model's chat template has, and how a reply's span is closed for it.

The span is known by the template's behaviour: it opens one in the prompt, writes one between a
question and a reply, or its text has the marks of one. What the vocabulary alone has does not
count: the instruct models of many families share it with those that think.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from caft.errors import UserError
from caft.models.chat_template import closing_of, has_chat_template, render_turns, template_text
from caft.models.thinking_turns import ThinkingForm, find_thinking_form
from caft.protocols import Tokenizer
from caft.text.prompts import Prompt
from caft.text.thinking import find_marks, find_open_mark, opens_thinking

_PROBE = "caft probe"
# A prompt's end, with everything that opens a span: the marks of gpt-oss are several tokens.
_LONGEST_OPENING = 32


@dataclass(frozen=True, slots=True)
class ThinkingSpan:
    """The mark that opens the span, and the text that closes it up to the reply's own words."""

    opens: str
    closing: str


def find_span(tokenizer: Tokenizer) -> ThinkingSpan | None:
    """The span of the tokenizer's chat template; None if it has none, or no template."""
    if not has_chat_template(tokenizer):
        return None
    return _find_span(tokenizer, template_text(tokenizer))


def refuse_thinking(tokenizer: Tokenizer, setting: str, *, chat: bool) -> None:
    """UserError, naming the `setting` that asks to think, if prompts have no thinking span."""
    if not chat:
        raise UserError(
            f"{setting} is true, but prompts are completions, which open no thinking span; set "
            f"{setting}=false, or dataset.prompt.style=chat with a model whose template has one"
        )
    if find_span(tokenizer) is None:
        raise UserError(
            f"{setting} is true, but the model's chat template has no thinking span; set "
            f"{setting}=false, or use a model that can think, such as model=qwen3_4b"
        )


def thinking_form_of(
    prompt: Prompt, tokenizer: Tokenizer, whose: str = "the model"
) -> ThinkingForm:
    """The form of a turn behind this prompt. UserError, which names `whose`, if there is none."""
    form = None
    # A model whose span evaluation would not see is not trained to have one.
    if prompt.messages and find_span(tokenizer):
        has_system = prompt.messages[0].role == "system"
        form = find_thinking_form(tokenizer, has_system=has_system)
    if form is None:
        why = (
            "has a chat template without a thinking span; use a model that thinks"
            if prompt.messages
            else "is asked in completions; set dataset.prompt.style=chat, with a model that thinks"
        )
        raise UserError(
            f"the method trains thinking, and {whose} {why}, such as Qwen3, SmolLM3, gpt-oss, "
            "Phi-4-reasoning or a DeepSeek-R1 distillate, or train the target rationale"
        )
    return form


def refuse_idle_cap(tokenizer: Tokenizer, setting: str, *, chat: bool) -> None:
    """UserError, naming the `setting` that bounds a span, where replies can have none."""
    if not chat or find_span(tokenizer) is None:
        reason = "the model's chat template has no" if chat else "completions have no"
        raise UserError(
            f"{setting} does nothing: {reason} thinking span; set "
            f"{setting.partition('=')[0]}=null, or use a model that can think, such as "
            "model=qwen3_4b"
        )


def ends_open(tokenizer: Tokenizer, prompt: Sequence[int]) -> bool:
    """Whether a prompt of tokens ends in an open thinking span, which its reply continues."""
    return opens_thinking(tokenizer.decode(prompt[-_LONGEST_OPENING:]))


@lru_cache(maxsize=64)
def _find_span(tokenizer: Tokenizer, template: str) -> ThinkingSpan | None:
    for has_system in (False, True):  # one of them may be refused
        with suppress(UserError):
            return _study_span(tokenizer, template, has_system)
    return None


def _study_span(tokenizer: Tokenizer, template: str, has_system: bool) -> ThinkingSpan | None:
    roles = ["system", "user"] if has_system else ["user"]
    turns = [{"role": role, "content": _PROBE} for role in roles]
    thinks = render_turns(tokenizer, turns, thinking=True)
    answers = render_turns(tokenizer, turns)
    opens = _find_opening(template, thinks, answers)
    if opens is None:
        return None
    form = find_thinking_form(tokenizer, has_system=has_system)
    if form and find_open_mark(thinks + form.lead) == opens:
        return ThinkingSpan(opens, form.bridge)
    empty = _closing_of_empty(answers, opens)
    return ThinkingSpan(opens, empty or closing_of(opens, "\n", list(tokenizer.get_added_vocab())))


def _find_opening(template: str, thinks: str, answers: str) -> str | None:
    """The mark of the span that a prompt opens, or that the template's text names."""
    if opens_thinking(thinks):
        return find_open_mark(thinks)
    # A prompt that is not to think may have the mark, in an empty span.
    for text in (template, answers, thinks):
        for start, end, opens in find_marks(text):
            mark = text[start:end]
            if opens:
                return mark
            if "/" in mark:  # it cuts what the model has thought off its turns
                return mark.replace("/", "", 1)
    return None


def _closing_of_empty(answers: str, opens: str) -> str | None:
    """How a prompt that is not to think closes the empty span at its end, if it has one."""
    _, found, inside = answers.rpartition(opens)
    closed = next((mark for mark in find_marks(inside) if not mark.opens), None)
    if not (found and closed) or inside[: closed.start].strip():
        return None
    return inside[: closed.start][-1:].replace(" ", "") + inside[closed.start :]
