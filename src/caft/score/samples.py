"""From a student's sampled replies to one question to estimates. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

from caft.grading import agreement_of
from caft.records import Question, SampledReply


def estimate_samples(
    replies: Iterable[SampledReply], questions: Iterable[Question]
) -> dict[str, Mapping[str, float]]:
    """Each estimate by question id; a question's replies follow one another.

    A reply without an answer is not right and agrees with none, but counts as one of them all.
    Which answers are one is decided as `questions` are graded (see `agreement_of`).
    """
    question_of = {question.id: question for question in questions}
    by_question = {
        name: list(rows) for name, rows in groupby(replies, lambda reply: reply.question_id)
    }
    return {
        "answer_frequency": {
            name: largest_agreement([row.parsed for row in rows], agreement_of(question_of[name]))
            / len(rows)
            for name, rows in by_question.items()
        },
        "pass_rate": {
            name: sum(row.correct for row in rows) / len(rows) for name, rows in by_question.items()
        },
    }


def largest_agreement(answers: Sequence[str | None], agree: Callable[[str, str], bool]) -> int:
    """How many of the answers are the most frequent one; 0 where there is none.

    7 and 7.0 are one answer by `agree`: the one of them that came first.
    """
    counts: dict[str, int] = {}
    for answer in answers:
        if answer is not None:
            same = next((k for k in counts if agree(answer, k) or agree(k, answer)), answer)
            counts[same] = counts.get(same, 0) + 1
    return max(counts.values(), default=0)
