"""Questions as token rows that end where the answer is due. Pure but for the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caft.errors import UserError
from caft.models.encoding import encode_answer_prompt, encode_prompt, uses_chat_template
from caft.protocols import Tokenizer
from caft.records import Question
from caft.text.answers import answer_labels, gold_label
from caft.text.config import PromptConfig
from caft.text.prompts import DECLINED, Prompt, Wanted, write_prompt


@dataclass(frozen=True, slots=True)
class ScoringRow:
    """One question, ready for one forward pass. Free text has no labels.

    If the model may decline, `DECLINED` is the last label.
    """

    question_id: str
    prompt_ids: tuple[int, ...]
    labels: tuple[str, ...]
    label_ids: tuple[int, ...]
    gold: str


def prepare_rows(
    questions: Sequence[Question],
    config: PromptConfig,
    tokenizer: Tokenizer,
    shots: Sequence[Question],
    wanted: Wanted = Wanted.answer,
) -> list[ScoringRow]:
    """A row for every question, in order; `wanted` is the answer or one of the fallbacks."""
    chat = uses_chat_template(config.style, tokenizer)
    rows = []
    for question in questions:
        prompt = write_prompt(question, config, wanted, chat=chat, shots=shots)
        labels = answer_labels(question, config.option_ids)
        if wanted.may_decline:
            labels = _with_declining(question, labels)
        gold = gold_label(question, config.option_ids)
        rows.append(_encode_row(question, prompt, labels, gold, tokenizer))
    return rows


def _encode_row(
    question: Question, prompt: Prompt, labels: tuple[str, ...], gold: str, tokenizer: Tokenizer
) -> ScoringRow:
    if not labels:
        return ScoringRow(question.id, encode_prompt(prompt, tokenizer), (), (), gold)
    encoded = encode_answer_prompt(prompt, tokenizer, labels, listed=bool(question.options))
    return ScoringRow(question.id, encoded.prompt_ids, labels, encoded.label_ids, gold)


def _with_declining(question: Question, labels: tuple[str, ...]) -> tuple[str, ...]:
    assert labels, "free text is refused before"
    if DECLINED in labels:
        raise UserError(
            f"question {question.id} has {DECLINED} among its answers, which is how the fallback "
            "prompt lets a model decline; use another estimator than fallback_*"
        )
    return (*labels, DECLINED)
