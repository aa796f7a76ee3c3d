"""Validation accuracy between epochs: every question is asked as its class is trained.

An answer costs one forward pass, and all questions are asked; a written reply costs as many as it
has tokens, and only some are. Validation rows alone decide which epoch is best.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from caft.kernels.packed_attention import packed_attention
from caft.kernels.packing import pack_rows, packed_logits, plan_packs
from caft.models.encoding import encode_answer_prompt, encode_prompt
from caft.models.generation import generate_replies
from caft.records import Question
from caft.signals import end_if_asked
from caft.text.answers import answer_labels, gold_label
from caft.text.config import PromptConfig
from caft.text.parsing import answers_agree, parse_answer
from caft.text.prompts import Wanted, write_prompt

_REPLIES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A validation question as tokens. `gold_token` is None where the reply is written out."""

    question: Question
    wanted: Wanted
    prompt_ids: tuple[int, ...]
    gold_token: int | None


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """What a model is asked after every epoch, and how long its replies may be (tokens)."""

    asked: tuple[AskedQuestion, ...]
    prompt: PromptConfig
    max_new_tokens: int
    end_ids: tuple[int, ...]
    tokens_a_pass: int


def ask(
    question: Question, wanted: Wanted, config: PromptConfig, tokenizer: Any, *, chat: bool
) -> AskedQuestion:
    """The prompt of evaluation, without shots: tuned models never see them."""
    prompt = write_prompt(question, config, wanted, chat=chat)
    labels = answer_labels(question, config.option_ids)
    if wanted is not Wanted.answer or not labels:
        return AskedQuestion(question, wanted, encode_prompt(prompt, tokenizer), None)
    encoded = encode_answer_prompt(prompt, tokenizer, labels, listed=bool(question.options))
    gold = encoded.label_ids[labels.index(gold_label(question, config.option_ids))]
    return AskedQuestion(question, wanted, encoded.prompt_ids, gold)


def choose_asked(
    questions: Sequence[tuple[Question, Wanted]], config: PromptConfig, most_replies: int
) -> list[tuple[Question, Wanted]]:
    """All that are answered in one pass, and at most `most_replies` others, evenly chosen."""
    written = [item for item in questions if not _is_one_pass(item, config)]
    kept = written
    if len(written) > most_replies:
        kept = [written[n * len(written) // most_replies] for n in range(most_replies)]
    names = {question.id for question, _ in kept}
    return [item for item in questions if _is_one_pass(item, config) or item[0].id in names]


def _is_one_pass(item: tuple[Question, Wanted], config: PromptConfig) -> bool:
    question, wanted = item
    return wanted is Wanted.answer and bool(answer_labels(question, config.option_ids))


def count_correct(
    model: Any, tokenizer: Any, examination: ValidationSet, asked: Sequence[AskedQuestion]
) -> int:
    """How many of `asked` the model answers right; greedy, so nothing is drawn at random."""
    at_once = [item for item in asked if item.gold_token is not None]
    written = [item for item in asked if item.gold_token is None]
    with torch.inference_mode():
        right = _count_at_once(model, at_once, examination.tokens_a_pass)
        return right + _count_written(model, tokenizer, written, examination)


def _count_at_once(model: Any, asked: Sequence[AskedQuestion], tokens_a_pass: int) -> int:
    right = 0
    with packed_attention(model):
        for members in plan_packs([len(item.prompt_ids) for item in asked], tokens_a_pass):
            end_if_asked()
            rows = [asked[index] for index in members]
            pack = pack_rows([row.prompt_ids for row in rows])
            ends = [
                start + len(row.prompt_ids) - 1
                for start, row in zip(pack.starts, rows, strict=True)
            ]
            logits = packed_logits(model, pack.to(model.device), torch.tensor(ends))
            said = logits.argmax(dim=-1).tolist()
            right += sum(token == row.gold_token for token, row in zip(said, rows, strict=True))
    return right


def _count_written(
    model: Any, tokenizer: Any, asked: Sequence[AskedQuestion], examination: ValidationSet
) -> int:
    right = 0
    for bare in (True, False):
        group = [item for item in asked if (item.wanted is Wanted.answer) is bare]
        for start in range(0, len(group), _REPLIES_AT_ONCE):
            batch = group[start : start + _REPLIES_AT_ONCE]
            replies = generate_replies(
                model,
                tokenizer,
                [item.prompt_ids for item in batch],
                max_new_tokens=examination.max_new_tokens,
                end_ids=examination.end_ids,
                stop_after_marker=not bare,
                names=[item.question.id for item in batch],
            )
            right += sum(
                is_right(item, reply.text, examination.prompt)
                for item, reply in zip(batch, replies, strict=True)
            )
    return right


def is_right(item: AskedQuestion, reply: str, prompt: PromptConfig) -> bool:
    """A bare answer is its first line, every other reply its last [[...]]. Pure."""
    if item.wanted is Wanted.answer:
        lines = reply.strip().splitlines()
        said = lines[0].strip() if lines else None
    else:
        said = parse_answer(reply, answer_labels(item.question, prompt.option_ids))
    return answers_agree(said or None, gold_label(item.question, prompt.option_ids))
