"""From replies and scores to Predictions. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from caft.records import AnswerScore, Prediction, Question
from caft.text.answers import answer_labels, gold_label
from caft.text.config import PromptConfig
from caft.text.parsing import answers_agree, parse_answer


class Written(Protocol):
    """What a model wrote, and the tokens it took."""

    @property
    def text(self) -> str:
        """The reply without special tokens."""

    @property
    def tokens(self) -> int:
        """Generated tokens, the end token included."""


def read_reply(question: Question, reply: Written, prompt: PromptConfig) -> Prediction:
    """The last [[...]] of the reply; one that cannot be read is wrong."""
    parsed = parse_answer(reply.text, answer_labels(question, prompt.option_ids))
    return Prediction(
        question_id=question.id,
        text=reply.text,
        parsed=parsed,
        correct=answers_agree(parsed, gold_label(question, prompt.option_ids)),
        generated_tokens=reply.tokens,
    )


def read_single_token(score: AnswerScore) -> Prediction:
    """A score is an answer too: one forward pass, counted as one generated token."""
    return Prediction(
        question_id=score.question_id,
        text=score.predicted,
        parsed=score.predicted if score.valid else None,
        correct=score.correct,
        generated_tokens=1,
        estimates=score.estimates,
    )


def route(
    answers: Sequence[Prediction],
    rationales: Sequence[Prediction],
    hard: Collection[str],
    *,
    routing_tokens: int,
) -> list[Prediction]:
    """The rationale reply for the questions in `hard`, the answer for all others.

    `routing_tokens` is what deciding cost for every question: 1 where a model other than the
    answering one was asked for its entropy, 0 where the answer's own pass told.
    """
    chosen = []
    for answer, rationale in zip(answers, rationales, strict=True):
        assert answer.question_id == rationale.question_id
        # The tuned model's own entropy costs its answer pass even where a rationale follows.
        taken = rationale if answer.question_id in hard else answer
        wasted = 1 if taken is rationale and routing_tokens == 0 else 0
        tokens = taken.generated_tokens + routing_tokens + wasted
        chosen.append(replace(taken, generated_tokens=tokens))
    return chosen


def refit_cut(values: Mapping[str, float], hard_share: float) -> float:
    """The value from which on `hard_share` of the rows lie: the cut for another model's entropy."""
    ordered = sorted(values.values())
    if not ordered:
        return float("inf")
    position = round((1.0 - hard_share) * len(ordered))
    return ordered[position] if position < len(ordered) else float("inf")
