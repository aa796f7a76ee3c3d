"""Templates in the style of real families: where a reply begins, and what the clock says.

Each template is its family's in short: the marks and the order of things are the real ones.
"""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any

import pytest
from tokenizers import AddedToken

from caft.errors import UserError
from caft.models import chat_template
from caft.models.chat_template import TEMPLATE_DATE, has_working_template, pinned_date, render_turns
from caft.models.config import Architecture
from caft.models.encoding import encode_answer_prompt, encode_reply, end_of_turn
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.text.prompts import Message, Prompt

TURNS = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "2 + 2?"}]
PROMPT = Prompt(messages=tuple(Message(**turn) for turn in TURNS))
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
)
CHATML_START = (
    "<|im_start|>system\nAnswer.<|im_end|>\n<|im_start|>user\n2 + 2?<|im_end|>\n"
    "<|im_start|>assistant\n"
)

QWQ = CHATML + "<think>\n{% endif %}"
QWEN3_THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)
QWEN3 = CHATML + (
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
DEEPSEEK_R1 = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}"
    "{% elif m.role == 'user' %}<\uff5cUser\uff5c>{{ m.content }}"
    "{% else %}<\uff5cAssistant\uff5c>{{ m.content.split('</think>')[-1] }}<|im_end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<\uff5cAssistant\uff5c><think>\n{% endif %}"
)
GPT_OSS = (
    "{% for m in messages %}<|start|>{{ m.role }}"
    "{% if m.role == 'assistant' %}<|channel|>final{% endif %}<|message|>{{ m.content }}"
    "{% if m.role == 'assistant' and loop.last %}<|return|>{% else %}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
GPT_OSS_ANALYSIS = GPT_OSS.replace(
    "<|start|>assistant{% endif %}", "<|start|>assistant<|channel|>analysis<|message|>{% endif %}"
)
COHERE = (
    "{% for m in messages %}<|START_OF_TURN_TOKEN|><|{{ m.role | upper }}_TOKEN|>"
    "{% if m.role == 'assistant' %}<|START_RESPONSE|>{{ m.content }}<|END_RESPONSE|>"
    "{% else %}{{ m.content }}{% endif %}<|END_OF_TURN_TOKEN|>{% endfor %}"
    "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|ASSISTANT_TOKEN|>"
    "<|START_THINKING|>{% endif %}"
)
MISTRAL = (
    "{% for m in messages %}{% if m.role == 'assistant' %} {{ m.content }}</s>"
    "{% else %}[INST] {{ m.content }} [/INST]{% endif %}{% endfor %}"
)
MAGISTRAL = MISTRAL + "{% if add_generation_prompt %}[THINK]{% endif %}"
SEED_OSS = (
    "{% for m in messages %}<seed:bos>{{ m.role }}\n{{ m.content }}<seed:eos>{% endfor %}"
    "{% if add_generation_prompt %}<seed:bos>assistant\n<seed:think>{% endif %}"
)
GEMMA4 = (
    "{% for m in messages %}<|turn>{{ m.role }}\n{{ m.content }}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n<|channel>thought\n{% endif %}"
)
KIMI = CHATML + "\u25c1think\u25b7{% endif %}"
NO_GENERATION_PROMPT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)

TOKENS = {
    DEEPSEEK_R1: ["<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<think>", "</think>"],
    GPT_OSS: ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"],
    GPT_OSS_ANALYSIS: ["<|start|>", "<|channel|>", "<|message|>", "<|end|>", "<|return|>"],
    COHERE: [
        *(f"<|START_{name}|>" for name in ("OF_TURN_TOKEN", "RESPONSE", "THINKING")),
        *(f"<|END_{name}|>" for name in ("OF_TURN_TOKEN", "RESPONSE", "THINKING")),
    ],
    MISTRAL: ["[INST]", "[/INST]", "</s>"],
    MAGISTRAL: ["[INST]", "[/INST]", "</s>", "[THINK]", "[/THINK]"],
    GEMMA4: ["<|turn>", "<turn|>", "<|channel>", "<channel|>"],
}


def make(template: str, tokens: list[str] | None = None) -> Any:
    tokenizer = make_tokenizer(Architecture.qwen2)
    special = TOKENS.get(template, []) if tokens is None else tokens
    tokenizer.add_tokens([AddedToken(token, special=True) for token in special])
    tokenizer.chat_template = template
    return tokenizer


ENDINGS = {
    "QwQ": (QWQ, "<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    "Qwen3-thinking-2507": (QWEN3_THINKING, "assistant\n<think>\n\n</think>\n\n"),
    "Qwen3": (QWEN3, "assistant\n<think>\n\n</think>\n\n"),
    "DeepSeek-R1": (DEEPSEEK_R1, "2 + 2?<\uff5cAssistant\uff5c><think>\n\n</think>\n\n"),
    "gpt-oss": (GPT_OSS, "<|start|>assistant<|channel|>final<|message|>"),
    "gpt-oss in analysis": (
        GPT_OSS_ANALYSIS,
        "<|channel|>analysis<|message|><|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    "Cohere": (COHERE, "<|ASSISTANT_TOKEN|><|START_THINKING|><|END_THINKING|><|START_RESPONSE|>"),
    "Mistral": (MISTRAL, "[INST] 2 + 2? [/INST]"),
    "Magistral": (MAGISTRAL, "[INST] 2 + 2? [/INST][THINK][/THINK]"),
    "Seed-OSS": (SEED_OSS, "<seed:bos>assistant\n<seed:think>\n\n</seed:think>\n\n"),
    "Gemma 4": (GEMMA4, "<|turn>model\n<|channel>thought\n<channel|>"),
    "Kimi": (KIMI, "assistant\n\u25c1think\u25b7\u25c1/think\u25b7"),
    "no generation prompt": (NO_GENERATION_PROMPT, "?<|im_end|>\n<|im_start|>assistant\n"),
    "ChatML": (CHATML + "{% endif %}", "?<|im_end|>\n<|im_start|>assistant\n"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_prompt_ends_where_the_replys_own_words_begin(name: str) -> None:
    template, ending = ENDINGS[name]
    assert render_turns(make(template), TURNS).endswith(ending)


@pytest.mark.parametrize("name", ENDINGS)
def test_every_row_of_every_stage_begins_with_that_text(name: str) -> None:
    """What is scored, asked and trained are one prompt: the span cannot be open in one of them."""
    template, ending = ENDINGS[name]
    tokenizer = make(template)
    scored = encode_answer_prompt(PROMPT, tokenizer, tuple("ABCD"))
    trained, reply = encode_reply(PROMPT, "B", tokenizer)
    assert trained == scored.prompt_ids
    assert reply == (scored.label_ids[1],)
    assert tokenizer.decode(trained).endswith(ending)


def test_chains_that_are_to_think_find_the_span_open() -> None:
    tokenizer = make(QWQ)
    assert render_turns(tokenizer, TURNS, thinking=True) == f"{CHATML_START}<think>\n"
    assert render_turns(make(GPT_OSS), TURNS, thinking=True).endswith("<|start|>assistant")


def test_a_reply_in_a_channel_ends_with_the_channels_own_end() -> None:
    tokenizer = make(GPT_OSS)
    assert tokenizer.convert_ids_to_tokens(end_of_turn(tokenizer, chat=True)) == "<|return|>"


def test_marks_in_a_question_are_not_the_templates() -> None:
    turns = [{"role": "user", "content": "What does <think> mean?"}]
    rendered = render_turns(make(CHATML + "{% endif %}"), turns)
    assert rendered.endswith("<think> mean?<|im_end|>\n<|im_start|>assistant\n")


def test_a_span_that_the_turns_words_switch_on_is_closed_too() -> None:
    tokenizer = make(
        CHATML + "{% if '/think' in messages[-1].content %}<think>{% endif %}{% endif %}"
    )
    turns = [{"role": "user", "content": "2 + 2? /think"}]
    assert render_turns(tokenizer, turns).endswith("assistant\n<think>\n\n</think>\n\n")
    assert render_turns(tokenizer, TURNS) == CHATML_START


def test_a_span_that_nothing_closes_is_refused() -> None:
    tokenizer = make(CHATML + "<|thinking|>{% endif %}", ["<|thinking|>"])
    with pytest.raises(
        UserError, match=r"thinking span with '<\|thinking\|>'.*no mark that closes"
    ):
        render_turns(tokenizer, TURNS)
    tokenizer = make(CHATML + "<|thinking|>{% endif %}", ["<|thinking|>", "<|/thinking|>"])
    assert render_turns(tokenizer, TURNS).endswith("<|thinking|><|/thinking|>")


# The clock and the dice


def test_the_clock_is_pinned_wherever_a_template_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = make(
        "{%- macro today() -%}{{ strftime_now('%d %b %Y') }}{%- endmacro -%}"
        "{% if strftime_now is defined %}"
        "{{ strftime_now('%Y-%m-%d %H:%M:%S, 100%%, %-d, %A, %f') }}{% endif %}|{{ today() }}|"
        "{{ date_string }}{{ strftime_now(format='%B') }}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    assert pinned_date(tokenizer) == "2024-07-26"
    assert pinned_date(make(CHATML + "{% endif %}")) is None
    assert render_turns(tokenizer, TURNS) == (
        "2024-07-26 12:00:00, 100%, 26, Friday, 000000|26 Jul 2024|26 Jul 2024JulyAnswer.2 + 2?"
    )


def test_every_directive_says_what_python_says() -> None:
    letters = "aAbBcdDHIjmMpSuUwWxXyYZ"
    tokenizer = make(
        "{{ strftime_now('" + " ".join(f"%{one}" for one in letters) + "') }}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    expected = TEMPLATE_DATE.strftime(" ".join(f"%{one}" for one in letters))
    assert render_turns(tokenizer, TURNS) == f"{expected}Answer.2 + 2?"
    assert isinstance(TEMPLATE_DATE, datetime)


def test_a_pinned_clock_moves_no_other_character() -> None:
    template = "\n  {% if false %}{{ strftime_now('%Y') }}{% endif %}\n" + CHATML + "{% endif %}"
    plain = template.replace("strftime_now('%Y')", "0")
    assert render_turns(make(template), TURNS) == render_turns(make(plain), TURNS)


def test_draws_are_the_same_every_time_and_leave_no_trace() -> None:
    tokenizer = make(
        "{{ range(1000)|list|random }} {{ lipsum(n=1, html=false) }}"
        "{% for m in messages %}{{ m.content }}{% endfor %}"
    )
    random.seed(5)
    first = render_turns(tokenizer, TURNS)
    drawn = random.random()
    assert render_turns(tokenizer, TURNS) == first
    random.seed(5)
    assert random.random() == drawn


# Templates that fail


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ messages[0].content + 1 }}", "TypeError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}", "RecursionError"),
        ("{{ messages[7].content }}", "has no element 7"),
        ("{{ raise_exception('not\nhere') }}", "not here"),
        ("{% if %}", "Expected an expression"),
        ("{{ ''.__class__.__mro__ }}", "unsafe|undefined"),
        ("{{ range(10**9)|length }}", "OverflowError"),
    ],
)
def test_whatever_a_template_raises_is_one_line(template: str, reason: str) -> None:
    tokenizer = make(template)
    with pytest.raises(UserError, match=reason) as caught:
        render_turns(tokenizer, TURNS)
    assert "\n" not in str(caught.value)
    # The way out that is named: nothing of a completion asks the template.
    assert not has_working_template(tokenizer)
    assert has_working_template(make(CHATML + "{% endif %}"))


def test_a_template_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "SECONDS_ALLOWED", 0.2)
    loops = "{% for a in range(99999) %}" * 3 + "{{ messages[0].content }}" + "{% endfor %}" * 3
    with pytest.raises(UserError, match=r"has not ended after 0\.2 s"):
        render_turns(make(loops), TURNS)


def test_a_template_that_ignores_a_turn_is_refused() -> None:
    with pytest.raises(UserError, match="leaves out the user turn"):
        render_turns(make("{{ messages[0].content }}"), TURNS)
    only_users = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}"
    with pytest.raises(UserError, match=r"out the system turn.*system_turn=in_user_turn"):
        render_turns(make(only_users), TURNS)
    assert render_turns(make(only_users), TURNS[1:]) == "2 + 2?"
    with pytest.raises(UserError, match="leaves out the"):
        render_turns(make("always the same"), TURNS[1:])
