"""An assistant's turn that thinks first, in the very form of the model's chat template.

Templates differ in how they take the reasoning of a turn: as a field (`reasoning_content` of Qwen3,
`thinking` of gpt-oss), as a part of the content (Magistral), or between tags in the content
(SmolLM3, Phi-4-reasoning). Some drop it (DeepSeek-R1), and a prompt may have opened the span
already. Every way is tried with two probe texts, and the one that writes both behind the prompt is
the form; where none does, the span that the prompt opens is closed as for an answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache

from caft.errors import UserError
from caft.models.chat_template import bridge_behind_span, render_turns, render_whole, template_text
from caft.protocols import Tokenizer
from caft.text.thinking import (
    closing_marks,
    find_marks,
    find_open_mark,
    is_plain_tag,
    opens_thinking,
)

_QUESTION, _REASONING, _REPLY = "caft probe", "caft thought", "caft reply"
_FIELDS = ("reasoning_content", "thinking", "reasoning")


@dataclass(frozen=True, slots=True)
class ThinkingForm:
    """What stands around the reasoning and the reply: `lead` reasoning `bridge` reply.

    `lead` follows the prompt with thinking on; it is empty where the prompt opens the span.
    """

    lead: str
    bridge: str

    def write(self, reasoning: str, reply: str) -> str:
        """The text of a turn behind its prompt, up to its end mark."""
        return f"{self.lead}{reasoning.strip()}{self.bridge}{reply.strip()}"


def find_thinking_form(tokenizer: Tokenizer, *, has_system: bool) -> ThinkingForm | None:
    """The form of the tokenizer's own chat template; None if it has no thinking span."""
    return _find_form(tokenizer, template_text(tokenizer), has_system)


@lru_cache(maxsize=64)
def _find_form(tokenizer: Tokenizer, _template: str, has_system: bool) -> ThinkingForm | None:
    roles = ["system", "user"] if has_system else ["user"]
    turns = [{"role": role, "content": _QUESTION} for role in roles]
    prompt = render_turns(tokenizer, turns, thinking=True)
    for reply in _ways_to_think(tokenizer):
        with suppress(UserError):
            form = _read_form(prompt, render_whole(tokenizer, [*turns, reply]))
            if form:
                return form
    if not opens_thinking(prompt):
        return None
    return ThinkingForm("", bridge_behind_span(tokenizer, prompt.rpartition(_QUESTION)[2], roles))


def _ways_to_think(tokenizer: Tokenizer) -> Iterator[Mapping[str, object]]:
    """The assistant's turn, as one template or another takes it."""
    for name in _FIELDS:
        yield {"role": "assistant", "content": _REPLY, name: _REASONING}
    thought = {"type": "thinking", "thinking": _REASONING}
    yield {"role": "assistant", "content": [thought, {"type": "text", "text": _REPLY}]}
    for opened, closed in _tags_of(tokenizer):
        # As most models write it: each tag in a line of its own, and an empty line behind.
        gap, end = ("\n", "\n\n") if is_plain_tag(opened) else ("", "")
        content = f"{opened}{gap}{_REASONING}{gap}{closed}{end}{_REPLY}"
        yield {"role": "assistant", "content": content}


def _tags_of(tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """Pairs of tags that the vocabulary has as tokens, or that the template names."""
    added = list(tokenizer.get_added_vocab())
    text = template_text(tokenizer)
    names = [*added, *(text[start:end] for start, end, _ in find_marks(text))]
    for opened in dict.fromkeys(names):
        if find_open_mark(opened) == opened:
            closed = next((mark for mark in closing_marks(opened) if mark in names), None)
            if closed:
                yield opened, closed


def _read_form(prompt: str, whole: str) -> ThinkingForm | None:
    """The form of a whole rendered turn; None if it does not continue the prompt with a span."""
    written = whole.removeprefix(prompt)
    if written == whole or not (_once(_REASONING, written) and _once(_REPLY, written)):
        return None
    lead, _, rest = written.partition(_REASONING)
    bridge, found, _ = rest.partition(_REPLY)
    # One mark opens the span, be it the prompt's or the turn's own, and the last one closes it.
    opens = [mark[2] for mark in find_marks(lead)] == ([] if opens_thinking(prompt) else [True])
    closes = bool(find_marks(bridge)) and find_open_mark(bridge) is None
    return ThinkingForm(lead, bridge) if found and opens and closes else None


def _once(text: str, whole: str) -> bool:
    return whole.count(text) == 1
