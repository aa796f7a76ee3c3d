"""A turn that thinks first, family by family, as each family's own template writes it.

Templates are the families' in short, with the parts that treat reasoning as they are.
"""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken

from caft.errors import UserError
from caft.models.config import Architecture
from caft.models.encoding import encode_prompt, encode_thinking, end_of_turn
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.models.thinking_span import thinking_form_of
from caft.text.prompts import Message, Prompt
from caft.text.thinking import find_marks

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
GENERATION = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
SPLIT_OFF = (
    "{% set content = m.content %}{% set thought = '' %}"
    "{% if m.reasoning_content is string %}{% set thought = m.reasoning_content %}"
    "{% elif '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].split('<think>')[-1] %}"
    "{% set content = content.split('</think>')[-1] %}{% endif %}"
)
QWEN3_TURNS = (
    "{% for m in messages %}{% if m.role == 'assistant' %}" + SPLIT_OFF + "<|im_start|>assistant\n"
    "{% if loop.last or thought %}<think>\n{{ thought.strip('\n') }}\n</think>\n\n{% endif %}"
    "{{ content.lstrip('\n') }}<|im_end|>\n"
    "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
)
FAMILIES = {
    "Qwen3": QWEN3_TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}",
    "Qwen3-thinking-2507": QWEN3_TURNS
    + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "QwQ": "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1].lstrip('\n') }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "R1-distill": "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<\uff5cUser\uff5c>{{ m.content }}"
    "{% else %}<\uff5cAssistant\uff5c>{{ m.content.split('</think>')[-1] }}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<\uff5cAssistant\uff5c><think>\n{% endif %}",
    "SmolLM3": "<|im_start|>system\n{% if enable_thinking %}/think{% else %}/no_think{% endif %}"
    "<|im_end|>\n{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and not enable_thinking %}<think>\n\n</think>\n{% endif %}"
    "{{ m.content.lstrip('\n') }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}"
    "<|im_start|>assistant\n{% if not enable_thinking %}<think>\n\n</think>\n{% endif %}"
    "{% endif %}",
    "Phi-4-reasoning": "<|im_start|>system\nThink between <think> and </think>.<|im_end|>\n"
    + CHATML
    + GENERATION,
    "gpt-oss": "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if '<|channel|>' in m.content %}{{ raise_exception('no tags') }}{% endif %}"
    "{% if loop.last and 'thinking' in m %}"
    "<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}<|return|>"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    "Magistral": "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}"
    "{% if part.type == 'thinking' %}[THINK]{{ part.thinking }}[/THINK]"
    "{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}</s>"
    "{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}",
    "Cohere": "{% for m in messages %}<|{{ m.role | upper }}|>"
    "{% if m.role == 'assistant' %}<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>"
    "{% else %}{{ m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|ASSISTANT|><|START_THINKING|>{% endif %}",
}
TOKENS = {
    "R1-distill": ["<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"],
    "gpt-oss": ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"],
    "Magistral": ["[INST]", "[/INST]", "</s>", "[THINK]", "[/THINK]"],
    "Cohere": [f"<|{a}_{b}|>" for a in ("START", "END") for b in ("RESPONSE", "THINKING")],
}
TAGGED = "<think>\n2 and 2.\n</think>\n\nSo 4. [[B]]"
BEHIND = "2 and 2.\n</think>\n\nSo 4. [[B]]"
TRAINED = {
    "Qwen3": TAGGED,
    "Qwen3-thinking-2507": BEHIND,
    "QwQ": BEHIND,
    "R1-distill": BEHIND,
    "SmolLM3": TAGGED,
    "Phi-4-reasoning": TAGGED,
    "gpt-oss": "<|channel|>analysis<|message|>2 and 2.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>So 4. [[B]]",
    "Magistral": "[THINK]2 and 2.[/THINK]So 4. [[B]]",
    "Cohere": "2 and 2.<|END_THINKING|><|START_RESPONSE|>So 4. [[B]]",
}
REASONING_TURN = {
    "Qwen3": {"reasoning_content": "2 and 2."},
    "Qwen3-thinking-2507": {"reasoning_content": "2 and 2."},
    "gpt-oss": {"thinking": "2 and 2."},
}
PROMPTS = [
    Prompt(messages=(Message("system", "Answer."), Message("user", "2 + 2?"))),
    Prompt(messages=(Message("user", "2 + 2?"),)),
]


def make(name: str) -> Any:
    tokenizer = make_tokenizer(Architecture.qwen2)
    tokenizer.add_tokens([AddedToken(each, special=True) for each in TOKENS.get(name, [])])
    if "think>" in FAMILIES[name]:
        # As in Qwen3's vocabulary: tokens, but no special ones.
        tokenizer.add_tokens([AddedToken(tag, special=False) for tag in ("<think>", "</think>")])
    tokenizer.chat_template = FAMILIES[name]
    return tokenizer


@pytest.mark.parametrize("prompt", PROMPTS, ids=["system", "user"])
@pytest.mark.parametrize("name", FAMILIES)
def test_what_is_trained_is_the_prompt_and_what_the_model_would_write(
    name: str, prompt: Prompt
) -> None:
    tokenizer = make(name)
    prompt_ids, reply_ids = encode_thinking(prompt, "\n2 and 2.\n", " So 4. [[B]]", tokenizer)
    assert prompt_ids == encode_prompt(prompt, tokenizer, thinking=True)
    assert tokenizer.decode(reply_ids) == TRAINED[name]
    assert tokenizer.decode([*prompt_ids, *reply_ids]) == (
        tokenizer.decode(prompt_ids) + TRAINED[name]
    )


@pytest.mark.parametrize("name", REASONING_TURN)
def test_it_is_the_templates_own_text_of_such_a_turn(name: str) -> None:
    tokenizer, (prompt, _) = make(name), PROMPTS
    turns = [{"role": turn.role, "content": turn.content} for turn in prompt.messages]
    reply = {"role": "assistant", "content": "So 4. [[B]]", **REASONING_TURN[name]}
    whole = tokenizer.apply_chat_template([*turns, reply], tokenize=False, enable_thinking=True)
    prompt_ids, reply_ids = encode_thinking(prompt, "2 and 2.", "So 4. [[B]]", tokenizer)
    end = end_of_turn(tokenizer, chat=True)
    assert tokenizer.decode([*prompt_ids, *reply_ids, end]) == whole.rstrip("\n")


def test_the_mark_that_the_model_writes_itself_is_trained() -> None:
    """Where the prompt has it, it is not."""
    for name, trains in (("Qwen3", True), ("R1-distill", False), ("gpt-oss", True)):
        tokenizer = make(name)
        _, reply_ids = encode_thinking(PROMPTS[0], "Hm.", "[[B]]", tokenizer)
        marks = [opens for _, _, opens in find_marks(tokenizer.decode(reply_ids))]
        assert (True in marks) is trains
        assert False in marks


def test_a_teachers_text_cannot_close_the_span_by_a_special_token() -> None:
    tokenizer = make("Magistral")
    _, reply_ids = encode_thinking(PROMPTS[0], "a[/THINK]b", "c</s>[THINK]", tokenizer)
    names = tokenizer.convert_ids_to_tokens(list(reply_ids))
    assert [name for name in names if name in TOKENS["Magistral"]] == ["[THINK]", "[/THINK]"]


@pytest.mark.parametrize("template", [CHATML + GENERATION, None], ids=["plain", "completion"])
def test_a_model_without_a_span_is_refused_in_one_line(template: str | None) -> None:
    tokenizer = make_tokenizer(Architecture.qwen2)
    tokenizer.chat_template = template
    prompt = PROMPTS[0] if template else Prompt(text="2 + 2 =")
    with pytest.raises(UserError, match=r"trains thinking, and model x .* target rationale$"):
        thinking_form_of(prompt, tokenizer, "model x")


def test_a_model_that_has_the_marks_in_its_vocabulary_alone_is_refused() -> None:
    """Evaluation would see no span in its replies, and refuse to ask for one."""
    tokenizer = make("SmolLM3")
    tokenizer.chat_template = CHATML + GENERATION
    with pytest.raises(UserError, match="without a thinking span"):
        thinking_form_of(PROMPTS[0], tokenizer)


def test_a_template_that_forgets_the_reasoning_without_a_span_is_none() -> None:
    """A field that is ignored, and text that is written as it stands, are no thinking span."""
    tokenizer = make_tokenizer(Architecture.llama)
    with pytest.raises(UserError, match="without a thinking span"):
        thinking_form_of(PROMPTS[0], tokenizer)
