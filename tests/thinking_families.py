"""Every family of chat templates with a thinking span, in short: small tokenizers in their form.

Each is known by what its template does, and differs from the others in who opens the span, what
the switch does, what becomes of earlier thinking, and which marks are special tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tokenizers import AddedToken

from caft.models.config import Architecture
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.text.config import SystemTurn

_TURNS = (
    "{% for m in messages %}{% if m.role != 'assistant' %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% else %}"
)
_ASSISTANT = "<|im_start|>assistant\n"
# Thinking is kept only in the last turn, whether it is a field or stands in the content.
_QWEN3_REPLY = (
    "{% set parts = m.content.split('</think>') %}"
    "{% set thought = m.reasoning_content or (parts[0].split('<think>')[-1] if parts|length > 1) %}"
    "<|im_start|>assistant\n{% if loop.last %}<think>\n{{ (thought or '').strip('\n') }}\n</think>"
    "\n\n{% endif %}{{ parts[-1].lstrip('\n') }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)


@dataclass(frozen=True)
class Family:
    """A template, and what its prompts and replies are expected to be.

    `asked` and `not_asked` end a prompt with thinking on and off, `lead` is what the model itself
    then writes to open the span, `bridge` what closes it. `tokens` are marks of the vocabulary,
    special if the family's are.
    """

    name: str
    template: str
    asked: str
    not_asked: str
    lead: str
    bridge: str
    tokens: tuple[str, ...] = ("<think>", "</think>")
    special: bool = False
    system_turn: SystemTurn = SystemTurn.separate

    @property
    def opens(self) -> str:
        """The mark that opens the span."""
        return (self.lead or "<think>").removesuffix("\n").removesuffix("<|message|>")

    @property
    def opens_in_prompt(self) -> bool:
        """Whether the template opens the span."""
        return not self.lead


FAMILIES = [
    Family(
        "switch, empty span when off (Qwen3)",
        _TURNS + _QWEN3_REPLY + "{% if enable_thinking is defined and enable_thinking is false %}"
        "<think>\n\n</think>\n\n{% endif %}{% endif %}",
        _ASSISTANT,
        _ASSISTANT + "<think>\n\n</think>\n\n",
        "<think>\n",
        "\n</think>\n\n",
    ),
    Family(
        "always opened (Qwen3-thinking-2507)",
        _TURNS + _QWEN3_REPLY + "<think>\n{% endif %}",
        _ASSISTANT + "<think>\n",
        _ASSISTANT + "<think>\n\n</think>\n\n",
        "",
        "\n</think>\n\n",
    ),
    Family(
        "always opened, thinking cut off turns (DeepSeek-R1 distillates)",
        _TURNS + _ASSISTANT + "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
        _ASSISTANT + "<think>\n",
        _ASSISTANT + "<think>\n\n</think>\n\n",
        "",
        "\n</think>\n\n",
    ),
    Family(
        "channels (gpt-oss)",
        "{% for m in messages %}{% if m.role != 'assistant' %}<|start|>{{ m.role }}<|message|>"
        "{{ m.content }}<|end|>{% else %}{% if m.thinking and loop.last %}<|start|>assistant"
        "<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}<|start|>assistant"
        "<|channel|>final<|message|>{{ m.content }}"
        "{% if loop.last %}<|return|>{% else %}<|end|>{% endif %}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
        "<|start|>assistant",
        "<|start|>assistant<|channel|>final<|message|>",
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
        ("<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"),
        special=True,
    ),
    Family(
        "told by a system prompt (Phi-4-reasoning)",
        "<|im_start|>system\nUse two sections: <think> {Thought} </think> {Solution}<|im_end|>\n"
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{{ m.content }}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        _ASSISTANT,
        _ASSISTANT,
        "<think>\n",
        "\n</think>\n\n",
        special=True,
        system_turn=SystemTurn.in_user_turn,
    ),
    Family(
        "flags in the system turn (SmolLM3)",
        "{% set flag = '/think' if enable_thinking is not defined or enable_thinking else "
        "'/no_think' %}{% for m in messages %}{% if m.role == 'system' %}<|im_start|>system\n"
        "Reasoning Mode: {{ flag }}\n{{ m.content }}<|im_end|>\n{% elif m.role == 'user' %}"
        "<|im_start|>user\n{{ m.content }}<|im_end|>\n{% else %}<|im_start|>assistant\n"
        "{% if flag == '/no_think' %}<think>\n\n</think>\n{% endif %}{{ m.content }}<|im_end|>\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if flag == '/no_think' %}<think>\n\n</think>\n{% endif %}{% endif %}",
        _ASSISTANT,
        _ASSISTANT + "<think>\n\n</think>\n",
        "<think>\n",
        "\n</think>\n\n",
    ),
    Family(
        "a part of the content (Mistral)",
        "{% for m in messages %}{% if m.role == 'assistant' %}{% if m.content is string %}"
        "{{ m.content }}{% else %}{% for part in m.content %}{% if part.type == 'thinking' %}"
        "[THINK]{{ part.thinking }}[/THINK]{% else %}{{ part.text }}{% endif %}{% endfor %}"
        "{% endif %}</s>{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}",
        "[/INST]",
        "[/INST]",
        "[THINK]",
        "[/THINK]",
        ("[INST]", "[/INST]", "</s>", "[THINK]", "[/THINK]"),
        special=True,
    ),
]


@lru_cache
def make_thinking_tokenizer(family: Family) -> Any:
    """The family's tokenizer; one object, since nobody changes it."""
    return tokenizer_with(family.template, family.tokens, special=family.special)


def tokenizer_with(template: str, tokens: tuple[str, ...] = (), *, special: bool = False) -> Any:
    """A small tokenizer with a chat template and further tokens."""
    tokenizer = make_tokenizer(Architecture.qwen2)
    tokenizer.add_tokens([AddedToken(token, special=special) for token in tokens])
    tokenizer.chat_template = template
    return tokenizer
