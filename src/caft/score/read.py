"""From the next token to an AnswerScore: the answer, and whether it is right. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean

from caft.grading import is_right
from caft.models.encoding import token_pieces
from caft.protocols import Tokenizer
from caft.records import AnswerScore, Chain, Question, SampledReply, WrittenReply
from caft.score.module import NextToken
from caft.score.prepare import ScoringRow
from caft.text.answers import answer_labels
from caft.text.config import OptionIds, PromptConfig
from caft.text.parsing import first_line, parse_answer


def read_answers(
    rows: Sequence[ScoringRow],
    questions: Sequence[Question],
    predicted: Mapping[str, NextToken],
    written: Mapping[str, WrittenReply],
    tokenizer: Tokenizer,
) -> list[AnswerScore]:
    """A score for every row, in order, each of one of the `questions`.

    `written` are the free-text answers, end tokens left out.
    """
    by_id = {question.id: question for question in questions}
    return [
        _read_free_text(
            by_id[row.question_id],
            predicted[row.question_id],
            written[row.question_id],
            tokenizer,
        )
        if row.question_id in written
        else _read_label(row, predicted[row.question_id], tokenizer)
        for row in rows
    ]


def _read_label(row: ScoringRow, first: NextToken, tokenizer: Tokenizer) -> AnswerScore:
    label_of = dict(zip(row.label_ids, row.labels, strict=True))
    label = label_of.get(first.token)
    gold = dict(zip(row.labels, first.label_log_p, strict=False)).get(row.gold)
    return AnswerScore(
        question_id=row.question_id,
        predicted=tokenizer.decode([first.token]).strip() if label is None else label,
        valid=label is not None,
        correct=label == row.gold,
        estimates={**first.estimates, "gold_cross_entropy": None if gold is None else -gold},
        option_probabilities=tuple(math.exp(log_p) for log_p in first.label_log_p),
    )


def _read_free_text(
    question: Question, first: NextToken, reply: WrittenReply, tokenizer: Tokenizer
) -> AnswerScore:
    pieces = token_pieces(reply.ids, tokenizer)
    answer = first_line("".join(pieces))
    return AnswerScore(
        question_id=question.id,
        predicted=answer,
        valid=bool(answer),
        correct=is_right(answer or None, question, OptionIds.letters),
        estimates={**first.estimates, **estimate_answer(reply, answer_span(pieces))},
        generated_tokens=reply.tokens,
    )


def estimate_answer(reply: WrittenReply, span: slice) -> dict[str, float | None]:
    """Estimates at the answer's own tokens: the first one's, and mean and sum over all (nats).

    Empty for a reply without an answer: the estimates of the forward pass are then kept.
    """
    entropies = reply.entropies[span]
    if not entropies:
        return {}
    return {
        "answer_entropy": entropies[0],
        "top1_probability": reply.top1[span][0],
        "top1_margin": reply.margins[span][0],
        "answer_mean_entropy": fmean(entropies),
        "answer_sum_entropy": sum(entropies),
    }


def answer_span(pieces: Sequence[str]) -> slice:
    """The tokens of a bare answer: its first line that is not blank, without the line break.

    Tokens of white space before the answer are not the answer: their entropy says whether the
    model likes line breaks.
    """
    first = next((place for place, piece in enumerate(pieces) if piece.strip()), len(pieces))
    stop = first
    while stop < len(pieces):
        begun = pieces[stop].lstrip() if stop == first else pieces[stop]
        if begun.startswith(("\n", "\r")):
            break
        stop += 1
        if "\n" in begun or "\r" in begun:
            break
    return slice(first, stop)


def read_chain(
    question: Question,
    reply: WrittenReply,
    prompt: PromptConfig,
    tokenizer: Tokenizer,
    *,
    opened: bool,
) -> Chain:
    """A reply as a chain of thought, with the answer at its end.

    `opened` as in `Chain`: text in the span is not an answer, even if the reply is cut there.
    """
    pieces = token_pieces(reply.ids, tokenizer)
    labels = answer_labels(question, prompt.option_ids)
    parsed = parse_answer("".join(pieces), labels, opened=opened)
    return Chain(
        question_id=question.id,
        pieces=pieces,
        entropies=tuple(reply.entropies),
        margins=tuple(reply.margins),
        generated_tokens=reply.tokens,
        parsed=parsed,
        correct=is_right(parsed, question, prompt.option_ids),
        opened=opened,
    )


def read_sample(
    question: Question,
    reply: WrittenReply,
    prompt: PromptConfig,
    tokenizer: Tokenizer,
    *,
    opened: bool,
) -> SampledReply:
    """A drawn reply, with the answer at its end; `opened` as in `Chain`."""
    chain = read_chain(question, reply, prompt, tokenizer, opened=opened)
    return SampledReply(
        question_id=question.id,
        sample=reply.sample,
        text=chain.text,
        parsed=chain.parsed,
        correct=chain.correct,
        generated_tokens=reply.tokens,
    )


def without_end(reply: WrittenReply, end_ids: Collection[int]) -> WrittenReply:
    """The reply without its end token."""
    if not reply.ids or reply.ids[-1] not in end_ids:
        return reply
    return reply._replace(
        ids=reply.ids[:-1],
        entropies=reply.entropies[:-1],
        top1=reply.top1[:-1],
        margins=reply.margins[:-1],
    )
