"""From the next token to an AnswerScore: what was said, and was it right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from caft.models.encoding import end_of_turn
from caft.models.generation import generate_replies
from caft.records import AnswerScore
from caft.score.module import NextToken
from caft.score.prepare import ScoringRow
from caft.text.parsing import answers_agree

_FREE_TEXT_BATCH = 32


def read_answers(
    rows: Sequence[ScoringRow],
    said: Mapping[str, NextToken],
    model: Any,
    tokenizer: Any,
    free_answer_tokens: int,
) -> list[AnswerScore]:
    """A score for every row, in order. Free text is written out greedily to see if it is right."""
    free = [row for row in rows if not row.labels]
    written = _write_free_answers(free, model, tokenizer, free_answer_tokens)
    return [
        _read_free_text(row, said[row.question_id], written[row.question_id])
        if row.question_id in written
        else _read_label(row, said[row.question_id], tokenizer)
        for row in rows
    ]


def _read_label(row: ScoringRow, said: NextToken, tokenizer: Any) -> AnswerScore:
    label_of = dict(zip(row.label_ids, row.labels, strict=True))
    label = label_of.get(said.token)
    return AnswerScore(
        question_id=row.question_id,
        predicted=tokenizer.decode([said.token]).strip() if label is None else label,
        valid=label is not None,
        correct=label == row.gold,
        estimates=said.estimates,
    )


def _read_free_text(row: ScoringRow, said: NextToken, reply: str) -> AnswerScore:
    answer = first_line(reply)
    return AnswerScore(
        question_id=row.question_id,
        predicted=answer,
        valid=bool(answer),
        correct=bool(answer) and answers_agree(answer, row.gold),
        estimates=said.estimates,
    )


def first_line(reply: str) -> str:
    """A bare free-text answer: what stands before the first line break."""
    stripped = reply.strip()
    return stripped.splitlines()[0].strip() if stripped else ""


def _write_free_answers(
    rows: Sequence[ScoringRow], model: Any, tokenizer: Any, most_tokens: int
) -> dict[str, str]:
    if not rows:
        return {}
    # A completion may end like a text or, where the model knows turns, like a turn.
    styles = {False, bool(tokenizer.chat_template)}
    ends = sorted({end_of_turn(tokenizer, chat=chat) for chat in styles})
    written: dict[str, str] = {}
    for start in range(0, len(rows), _FREE_TEXT_BATCH):
        batch = rows[start : start + _FREE_TEXT_BATCH]
        replies = generate_replies(
            model,
            tokenizer,
            [row.prompt_ids for row in batch],
            max_new_tokens=most_tokens,
            end_ids=ends,
            stop_after_marker=False,
        )
        for row, reply in zip(batch, replies, strict=True):
            written[row.question_id] = reply.text
    return written
