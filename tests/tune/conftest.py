"""A tokenizer whose every token stands here, so that tests can write token ids by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from caft.records import Question
from caft.text.config import PromptConfig

TOKENS = (
    *("<s>", "<stop>", "<end>", "<system>", "<user>", "<assistant>", "<pad>", "<unk>"),
    *("pick", "answer", "brackets", "think", "So", "\n", ".", ":", " ", ": "),
    *("A", "B", " A", " B", " red", " blue", "[[", " [[", "]]", "1", "2", "Answer", "Solution"),
)
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}<{{ turn.role }}>{{ turn.content }}<end>"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
LEADING_SPACES = r" ?[A-Za-z]+| ?\[\[|\]\]|\n|."
GREEDY_COLON = r": ?|" + LEADING_SPACES


def spell(*tokens: str) -> tuple[int, ...]:
    """Token ids of texts that are tokens."""
    return tuple(TOKENS.index(token) for token in tokens)


def write_tokenizer(
    *, chat: bool = True, eos: str = "<stop>", pad: str = "<pad>", pattern: str = LEADING_SPACES
) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(TOKENS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    inner.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B:1", special_tokens=[("<s>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        eos_token=eos,
        pad_token=pad,
        unk_token="<unk>",
        extra_special_tokens=["<end>", "<system>", "<user>", "<assistant>"],
    )
    tokenizer.chat_template = TEMPLATE if chat else None
    return tokenizer


@pytest.fixture(scope="session")
def tokenizer_of() -> Callable[..., Any]:
    return write_tokenizer


@pytest.fixture(scope="session")
def ids_of() -> Callable[..., tuple[int, ...]]:
    return spell


@pytest.fixture
def wording() -> PromptConfig:
    return PromptConfig(
        system_answer="answer",
        system_bracketed="brackets",
        system_rationale="think",
        user="{question}\n{options}",
        completion_answer="{question}\n{options}\nAnswer:",
        completion_bracketed="{question}\n{options}\nAnswer:",
        completion_rationale="{question}\n{options}\nSolution:",
    )


@pytest.fixture
def colours() -> Question:
    """Two options, and B is right."""
    return Question(id="q1", text="pick", options=("red", "blue"), gold_index=1)
