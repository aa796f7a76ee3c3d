"""From replies and scores to Predictions. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from caft.grading import is_right
from caft.protocols import Written
from caft.records import AnswerScore, Prediction, Question, Unread
from caft.text.answers import answer_labels
from caft.text.config import PromptConfig
from caft.text.parsing import LONGEST_ANSWER, last_marker, parse_answer
from caft.text.thinking import drop_thinking, find_spoken_marks, find_thinking


def read_reply(
    question: Question,
    reply: Written,
    prompt: PromptConfig,
    *,
    opened: bool = False,
    asked_to_think: bool | None = None,
    cut: bool = False,
) -> Prediction:
    """The last [[...]] after the reply's thinking; one that cannot be read counts as wrong.

    `opened`: the prompt has opened the thinking span. `cut`: the limit of tokens ended the reply.
    """
    labels = answer_labels(question, prompt.option_ids)
    parsed = parse_answer(reply.text, labels, opened=opened)
    marked = _find_marked(reply.text, opened) if parsed is None else None
    missing = Unread.outside if marked else Unread.cut if cut else Unread.no_marker
    return Prediction(
        question_id=question.id,
        text=reply.text,
        parsed=parsed,
        correct=is_right(parsed, question, prompt.option_ids),
        generated_tokens=reply.tokens,
        thinking_tokens=reply.thinking_tokens,
        obeyed=_has_obeyed(reply.text, opened, asked_to_think),
        unread=missing if parsed is None else None,
        marked=marked,
    )


def _find_marked(text: str, opened: bool) -> str | None:
    """What stands in the marker that counts; None if there is none, or none that is an answer."""
    marker = last_marker(drop_thinking(text, opened=opened) or "")
    content = marker.content.strip() if marker else ""
    return content if 0 < len(content) <= LONGEST_ANSWER else None


def _has_obeyed(text: str, opened: bool, asked_to_think: bool | None) -> bool | None:
    """Asked to think: whether a span with something in it is closed. Asked not to: no span."""
    if asked_to_think is None:
        return None
    if not asked_to_think:
        return not find_spoken_marks(text)
    return (
        bool(find_thinking(text, opened=opened)) and drop_thinking(text, opened=opened) is not None
    )


def read_single_token(score: AnswerScore) -> Prediction:
    """A score is an answer too: of one token, or of those that its free text has."""
    missing = Unread.outside if score.predicted else Unread.no_marker
    return Prediction(
        question_id=score.question_id,
        text=score.predicted,
        parsed=score.predicted if score.valid else None,
        correct=score.correct,
        generated_tokens=score.generated_tokens,
        estimates=score.estimates,
        unread=None if score.valid else missing,
        marked=None if score.valid else score.predicted or None,
    )


@dataclass(frozen=True, slots=True)
class Routing:
    """Which questions are hard, and what it cost to decide that.

    `tokens` are those generated only to decide, by question: those of another model's answer, one
    of a pass whose answer is not taken, or the length of a chain of thought or of a judge's reply.
    If the answer itself decided (`by_own_answer`), it counts even if a rationale follows. What was
    written to decide also counts if the reply repeats it.
    """

    hard: Collection[str]
    tokens: Mapping[str, int] = field(default_factory=dict)
    by_own_answer: bool = False


def route(
    answers: Sequence[Prediction],
    rationales: Sequence[Prediction],
    routing: Routing,
) -> list[Prediction]:
    """The rationale reply for the hard questions, the answer for all others.

    Their tokens include the cost of deciding.
    """
    chosen = []
    for answer, rationale in zip(answers, rationales, strict=True):
        name = answer.question_id
        assert name == rationale.question_id
        taken = rationale if name in routing.hard else answer
        tokens = taken.generated_tokens + routing.tokens.get(name, 0)
        if taken is rationale and routing.by_own_answer:
            tokens += answer.generated_tokens
        chosen.append(replace(taken, generated_tokens=tokens))
    return chosen


def fit_cut(values: Sequence[float], answers: Sequence[bool], rationales: Sequence[bool]) -> float:
    """The cut with most right replies, where rows at or above it get a rationale.

    `values` rise with difficulty; `answers` and `rationales` say which replies are right. The
    highest of equal cuts, which writes fewest rationales; infinite: none is worth writing.
    """
    gained: dict[float, int] = {}
    for value, answer, rationale in zip(values, answers, rationales, strict=True):
        gained[value] = gained.get(value, 0) + rationale - answer
    best, most, gain = math.inf, 0, 0
    for value in sorted(gained, reverse=True):
        gain += gained[value]
        if gain > most:
            best, most = value, gain
    return best


def pick_best_mode(validation: Mapping[str, Sequence[Prediction]]) -> str:
    """The mode that got most validation rows right; the cheaper one of equals.

    Never looks at test rows: a mode chosen there would flatter the model.
    """

    def merit(mode: str) -> tuple[int, int]:
        rows = validation[mode]
        return sum(row.correct for row in rows), -sum(row.generated_tokens for row in rows)

    return max(validation, key=merit)
