"""Renders turns with a model's chat template, for every prompt of every stage.

Three things can spoil it:
- A template may open a thinking span whatever its switches say, or leave the reply's own mark to
  the model (gpt-oss: `<|channel|>final<|message|>`). The next token is then not an answer, and a
  trained reply would be inside the span. The span is closed, in the template's own form if it has
  one.
- A clock or a random draw changes the text of the same question from day to day: both are pinned.
- It is a program from outside: it may raise anything, lose turns, or never end.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from caft.errors import UserError
from caft.models.time_limit import within
from caft.protocols import Tokenizer
from caft.text.thinking import (
    closing_marks,
    find_marks,
    find_open_mark,
    is_plain_tag,
    opens_thinking,
)

TEMPLATE_DATE = datetime(2024, 7, 26, 12)
"""The date that templates get: the default of Llama 3's template."""

SECONDS_ALLOWED = 20.0
"""For the first text that a template makes; an ordinary one takes milliseconds."""

_QUESTION, _REPLY, _OTHER = "caft probe", "caft reply", "another text"
_LONGEST_ENDING = 200
_DIRECTIVES = "aAbBcdDeFgGhHIjklmMnpPrRsSTuUVwWxXyYzZ"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Form:
    """How a template ends a prompt: its own `ending`, and the `bridge` from there to a reply."""

    ending: str
    bridge: str


def has_chat_template(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer has a chat template."""
    return bool(getattr(tokenizer, "chat_template", None))


def has_working_template(tokenizer: Tokenizer) -> bool:
    """Whether it has one that can write a turn; a broken one counts as none."""
    if has_chat_template(tokenizer):
        with suppress(UserError):
            render_closed_turn(tokenizer)
            return True
    return False


def template_switches(*, thinking: bool = False) -> dict[str, bool | str]:
    """What chat templates get besides the turns; a server of the model must pass the same.

    A clock would make scores depend on the day, and an open thinking span would hold the answer's
    position. Some templates call the switch `thinking`, and take it to be off by default.
    """
    asked = {"thinking": True} if thinking else {}
    date = TEMPLATE_DATE.strftime("%d %b %Y")
    return {"enable_thinking": thinking, **asked, "date_string": date}


def pinned_date(tokenizer: Tokenizer) -> str | None:
    """The date that the template gets, as ISO 8601; None if its text depends on no date."""
    reads = _reads_clock(template_text(tokenizer))
    return TEMPLATE_DATE.date().isoformat() if reads else None


def reply_bridge(tokenizer: Tokenizer) -> str | None:
    """The text between the template's own ending and a reply; None for most models."""
    for has_system in (False, True):  # one of them may be refused
        with suppress(UserError):
            return _study(tokenizer, template_text(tokenizer), has_system, False).bridge or None
    return None


def render_turns(
    tokenizer: Tokenizer,
    turns: Sequence[Mapping[str, str]],
    *,
    thinking: bool = False,
    closed: bool = True,
) -> str:
    """The text of the turns, up to where the reply's own text begins.

    With `thinking`, or not `closed`, a span that the template opens stays open. UserError if
    the template refuses the turns, loses one, does not end, or opens what cannot be closed.
    """
    has_system = bool(turns) and turns[0]["role"] == "system"
    form = _study(tokenizer, template_text(tokenizer), has_system, thinking)
    rendered = _apply(tokenizer, turns, add_generation_prompt=True, thinking=thinking)
    if thinking or not closed:
        return rendered
    if rendered.endswith(form.ending):
        return rendered + form.bridge
    # A few templates look for switches in the turns' text, such as /think.
    ending = rendered[-_LONGEST_ENDING:]
    return rendered + (_close(ending, "", tokenizer) if opens_thinking(ending) else "")


def render_closed_turn(tokenizer: Tokenizer) -> str:
    """What the template writes after the reply of an assistant's turn."""
    turns = [_turn("user", _QUESTION), _turn("assistant", _REPLY)]
    rendered = _apply(tokenizer, turns, add_generation_prompt=False, thinking=False)
    return rendered.rpartition(_REPLY)[2] if _REPLY in rendered else ""


def render_whole(tokenizer: Tokenizer, turns: Sequence[Mapping[str, object]]) -> str:
    """The text of turns that end in the assistant's, from which the template is to drop nothing.

    UserError if the template refuses them.
    """
    return _apply(tokenizer, turns, add_generation_prompt=False, thinking=True)


def bridge_behind_span(tokenizer: Tokenizer, ending: str, roles: Sequence[str]) -> str:
    """The text between a thinking span, which a prompt's `ending` has opened, and the reply.

    `roles` are those of the prompt's turns. UserError if nothing closes the span.
    """
    return _close(ending, _before_reply(tokenizer, roles), tokenizer)


@lru_cache(maxsize=64)
def _study(tokenizer: Tokenizer, template: str, has_system: bool, thinking: bool) -> _Form:
    """Computed once for every template, before the first prompt is made with it."""
    try:
        form = within(SECONDS_ALLOWED, lambda: _probe(tokenizer, has_system, thinking))
    except TimeoutError:
        raise UserError(
            f"the model's chat template has not ended after {SECONDS_ALLOWED:g} s; use another "
            "one, or dataset.prompt.style=completion"
        ) from None
    if _reads_clock(template):
        log.info(
            "the chat template asks for the date, and gets %s in every stage",
            TEMPLATE_DATE.date().isoformat(),
        )
    if form.bridge.strip():
        log.info(
            "the chat template ends in %r; %r is added, so that the reply itself follows",
            form.ending[-_LONGEST_ENDING:],
            form.bridge,
        )
    return form


def _probe(tokenizer: Tokenizer, has_system: bool, thinking: bool) -> _Form:
    roles = ["system", "user"] if has_system else ["user"]

    def render(*changed: str) -> str:
        turns = [_turn(role, _OTHER if role in changed else _QUESTION) for role in roles]
        return _apply(tokenizer, turns, add_generation_prompt=True, thinking=thinking)

    rendered = render()
    for role in roles:
        if render(role) == rendered:
            raise _lost(role)
    found = _QUESTION in rendered
    ending = rendered.rpartition(_QUESTION)[2] if found else rendered[-_LONGEST_ENDING:]
    if thinking:
        return _Form(ending, "")
    return _Form(ending, _close(ending, _before_reply(tokenizer, roles), tokenizer))


def _before_reply(tokenizer: Tokenizer, roles: Sequence[str]) -> str:
    """What the template itself writes between a question and a reply; empty if unknown."""
    turns = [*(_turn(role, _QUESTION) for role in roles), _turn("assistant", _REPLY)]
    try:
        whole = _apply(tokenizer, turns, add_generation_prompt=False, thinking=False)
    except UserError:
        return ""
    before, found, _ = whole.rpartition(_REPLY)
    return before.rpartition(_QUESTION)[2] if found and _QUESTION in before else ""


def _close(ending: str, before_reply: str, tokenizer: Tokenizer) -> str:
    """The text between a prompt's `ending` and a reply's own text; mostly empty.

    It is what the template's own turns have before a reply, beyond the `ending`.
    UserError if a thinking span would stay open.
    """
    marks = [mark for mark in tokenizer.get_added_vocab() if mark.strip()]
    shared = _shared_length(ending, before_reply, marks)
    ahead, left = before_reply[shared:], ending[shared:]
    # White space, as before every reply of Mistral, is left to the model.
    leads_on = bool(find_marks(ahead)) or any(mark in ahead for mark in marks)
    leads_on = leads_on and find_open_mark(ahead) is None
    opened = find_open_mark(ending)
    if not left and leads_on and find_open_mark(ending + ahead) is None:
        return ahead
    if opened is None:
        return ""
    closing = closing_of(opened, ending, marks)
    return closing + ahead if left and leads_on and not closing.endswith(ahead) else closing


def _shared_length(ending: str, before_reply: str, marks: Sequence[str]) -> int:
    """The common beginning of both texts, without a partial mark at its end."""
    pairs = enumerate(zip(ending, before_reply, strict=False))
    most = min(len(ending), len(before_reply))
    length = next((place for place, (one, other) in pairs if one != other), most)
    for text in (ending, before_reply):
        spans = [span[:2] for span in find_marks(text)]
        found = [re.finditer(re.escape(mark), text) for mark in marks if mark in text]
        spans += [match.span() for matches in found for match in matches]
        length = min([start for start, end in spans if start < length < end], default=length)
    return length


def closing_of(opened: str, ending: str, marks: Sequence[str]) -> str:
    """The text that closes a span which `opened` opens, behind `ending`.

    `marks` are the tokenizer's own. UserError if none of them does.
    """
    known = [mark for mark in closing_marks(opened) if mark in marks]
    # A span that is opened by text is closed by text; one opened by a token needs a closing token
    # that the model has learnt.
    as_text = is_plain_tag(opened) or (opened not in marks and "|" not in opened)
    if not known and (as_text or opened.startswith("<|channel|>")):
        known = [closing_marks(opened)[0]]
    if not known:
        raise UserError(
            f"the model's chat template opens a thinking span with {opened!r} in any case, "
            "and the tokenizer has no mark that closes it, so no answer can be read there; use a "
            "chat template with enable_thinking (chat_template.jinja in the model's folder), or "
            "dataset.prompt.style=completion"
        )
    if not is_plain_tag(opened):
        return known[0]
    # As Qwen3 writes an empty span: <think>, an empty line, </think>, an empty line.
    return ("\n" if ending.endswith("\n") else "\n\n") + known[0] + "\n\n"


def _apply(
    tokenizer: Tokenizer,
    turns: Sequence[Mapping[str, object]],
    *,
    add_generation_prompt: bool,
    thinking: bool,
) -> str:
    """UserError for whatever a template raises."""
    text = template_text(tokenizer)
    try:
        with _nothing_is_drawn(text):
            return str(
                tokenizer.apply_chat_template(
                    list(turns),
                    tokenize=False,
                    add_generation_prompt=add_generation_prompt,
                    chat_template=_PINNED_CLOCK + text if "strftime_now" in text else None,
                    **template_switches(thinking=thinking),
                )
            )
    except Exception as error:
        raise _refused(error) from error


def _refused(error: Exception) -> UserError:
    from jinja2 import TemplateError

    reason = " ".join(str(error).split())[:300]
    if not isinstance(error, TemplateError):
        reason = f"{type(error).__name__}: {reason}"
    return UserError(
        f"the model's chat template refuses the prompt: {reason}; "
        "try dataset.prompt.system_turn=in_user_turn or dataset.prompt.style=completion"
    )


def _lost(role: str) -> UserError:
    way_out = {
        "system": "dataset.prompt.system_turn=in_user_turn",
        "user": "dataset.prompt.style=completion, or another chat template",
    }
    return UserError(
        f"the model's chat template leaves out the {role} turn: it writes the same text whatever "
        f"it contains; use {way_out[role]}"
    )


def _reads_clock(template: str) -> bool:
    return "strftime_now" in template or "date_string" in template


def template_text(tokenizer: Tokenizer) -> str:
    """The source of the chat template; empty if there is none."""
    template = getattr(tokenizer, "chat_template", None) or ""
    return str(template.get("default", "") if isinstance(template, dict) else template)


def _turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _write_pinned_clock() -> str:
    """Jinja that replaces `strftime_now`: transformers passes no function of ours to templates."""
    values = {"%%": "\0"}
    for letter in _DIRECTIVES:
        for flag in ("", "-"):
            values[f"%{flag}{letter}"] = TEMPLATE_DATE.strftime(f"%{flag}{letter}")
    values["%f"], values["\0"] = "000000", "%"
    steps = "".join(f"|replace({_quote(old)},{_quote(new)})" for old, new in values.items())
    # The line break is taken by trim_blocks: the template's own first one stays.
    return f"{{%- macro strftime_now(format) -%}}{{{{ format{steps} }}}}{{%- endmacro %}}\n"


def _quote(text: str) -> str:
    return '"' + text.replace("\n", "\\n").replace("\t", "\\t") + '"'


_PINNED_CLOCK = _write_pinned_clock()


@contextmanager
def _nothing_is_drawn(template: str) -> Iterator[None]:
    """Jinja's `random` and `lipsum` draw on Python's generator, whose state is restored."""
    if "random" not in template and "lipsum" not in template:
        yield
        return
    before = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(before)
