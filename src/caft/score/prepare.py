"""Questions as token rows that end where the answer is due. Pure but for the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caft.models.encoding import asks_in_chat, encode_answer_prompt, encode_prompt
from caft.records import Question
from caft.text.answers import answer_labels, gold_label
from caft.text.config import PromptConfig
from caft.text.prompts import Wanted, write_prompt


@dataclass(frozen=True, slots=True)
class ScoringRow:
    """One question, ready for one forward pass. Free text has no labels."""

    question_id: str
    prompt_ids: tuple[int, ...]
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]
    gold: str


def prepare_rows(
    questions: Sequence[Question],
    config: PromptConfig,
    tokenizer: Any,
    shots: Sequence[Question],
) -> list[ScoringRow]:
    """A row for every question, in order."""
    chat = asks_in_chat(config.style, tokenizer)
    return [_prepare(question, config, tokenizer, shots, chat) for question in questions]


def _prepare(
    question: Question,
    config: PromptConfig,
    tokenizer: Any,
    shots: Sequence[Question],
    chat: bool,
) -> ScoringRow:
    prompt = write_prompt(question, config, Wanted.answer, chat=chat, shots=shots)
    labels = answer_labels(question, config.option_ids)
    gold = gold_label(question, config.option_ids)
    if not labels:
        return ScoringRow(question.id, encode_prompt(prompt, tokenizer), (), (), gold)
    encoded = encode_answer_prompt(prompt, tokenizer, labels)
    return ScoringRow(question.id, encoded.prompt_ids, labels, encoded.label_ids, gold)
