"""Validation accuracy between epochs: each question is asked in the form its class is trained on.

An answer costs one forward pass, and all questions are asked; a written reply costs as many as it
has tokens, and only some are. Validation rows alone decide which epoch is best.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch

from caft.grading import is_right as is_right_answer
from caft.kernels.packed_attention import packed_attention
from caft.kernels.packing import pack_rows, packed_logits, plan_packs
from caft.kernels.rotary import switch_of
from caft.models.encoding import encode_answer_prompt, encode_prompt
from caft.models.generation import stream_replies
from caft.models.reply_rules import ReplyRules
from caft.models.thinking_span import ends_open
from caft.protocols import CausalLM, Tokenizer
from caft.records import Question
from caft.signals import end_if_asked
from caft.text.answers import answer_labels, gold_label
from caft.text.config import PromptConfig
from caft.text.parsing import first_line, parse_answer
from caft.text.prompts import Wanted, write_prompt

_REPLIES_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class AskedQuestion:
    """A validation question as tokens. `gold_token` is None if the reply is written out.

    `opened` says that its prompt opens a thinking span.
    """

    question: Question
    wanted: Wanted
    prompt_ids: tuple[int, ...]
    gold_token: int | None
    opened: bool = False


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """What a model is asked after every epoch, and when its replies end, as in evaluation.

    `bare` is for free-text answers, `written` for all other replies.
    """

    asked: tuple[AskedQuestion, ...]
    prompt: PromptConfig
    tokens_a_pass: int
    written: ReplyRules
    bare: ReplyRules


def ask(
    question: Question,
    wanted: Wanted,
    config: PromptConfig,
    tokenizer: Tokenizer,
    *,
    chat: bool,
    thinking: bool = False,
) -> AskedQuestion:
    """The prompt of evaluation, without shots: tuned models never see them."""
    prompt = write_prompt(question, config, wanted, chat=chat)
    labels = answer_labels(question, config.option_ids)
    if wanted is not Wanted.answer or not labels:
        prompt_ids = encode_prompt(prompt, tokenizer, thinking=thinking)
        opened = ends_open(tokenizer, prompt_ids)
        return AskedQuestion(question, wanted, prompt_ids, None, opened)
    encoded = encode_answer_prompt(prompt, tokenizer, labels, listed=bool(question.options))
    gold = encoded.label_ids[labels.index(gold_label(question, config.option_ids))]
    return AskedQuestion(question, wanted, encoded.prompt_ids, gold)


def count_correct(
    model: CausalLM,
    tokenizer: Tokenizer,
    validation: ValidationSet,
    asked: Sequence[AskedQuestion],
    answered: Callable[[int], None] = lambda _count: None,
) -> int:
    """How many of `asked` the model answers right; greedy, so nothing is drawn at random.

    `answered` gets the number of questions that are done, whenever it rises.
    """
    at_once = [item for item in asked if item.gold_token is not None]
    written = [item for item in asked if item.gold_token is None]
    graded: list[bool] = []
    with torch.inference_mode():
        for some in chain(
            _grade_at_once(model, at_once, validation.tokens_a_pass),
            _grade_written(model, tokenizer, written, validation),
        ):
            graded += some
            answered(len(graded))
    return sum(graded)


def _grade_at_once(
    model: CausalLM, asked: Sequence[AskedQuestion], tokens_a_pass: int
) -> Iterator[list[bool]]:
    with packed_attention(model):
        lengths = [len(item.prompt_ids) for item in asked]
        for members in plan_packs(lengths, tokens_a_pass, switch=switch_of(model)):
            end_if_asked()
            rows = [asked[index] for index in members]
            pack = pack_rows([row.prompt_ids for row in rows])
            ends = [
                start + len(row.prompt_ids) - 1
                for start, row in zip(pack.starts, rows, strict=True)
            ]
            logits = packed_logits(model, pack.to(model.device), torch.tensor(ends))
            predicted = logits.argmax(dim=-1).tolist()
            pairs = zip(predicted, rows, strict=True)
            yield [token == row.gold_token for token, row in pairs]


def _grade_written(
    model: CausalLM, tokenizer: Tokenizer, asked: Sequence[AskedQuestion], validation: ValidationSet
) -> Iterator[list[bool]]:
    for bare in (True, False):
        group = [item for item in asked if (item.wanted is Wanted.answer) is bare]
        replies = stream_replies(
            model,
            tokenizer,
            [item.prompt_ids for item in group],
            validation.bare if bare else validation.written,
            rows=_REPLIES_AT_ONCE,
            names=[item.question.id for item in group],
        )
        for place, reply in replies:
            yield [is_right(group[place], reply.text, validation.prompt)]


def is_right(item: AskedQuestion, reply: str, prompt: PromptConfig) -> bool:
    """A bare answer is its first line, every other reply its last [[...]]. Pure."""
    answer: str | None
    if item.wanted is Wanted.answer:
        answer = first_line(reply)
    else:
        labels = answer_labels(item.question, prompt.option_ids)
        answer = parse_answer(reply, labels, opened=item.opened)
    return is_right_answer(answer or None, item.question, prompt.option_ids)
