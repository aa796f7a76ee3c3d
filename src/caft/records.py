"""The records that rooms exchange: plain frozen dataclasses that import nothing of ours.

Every room takes and returns records; the store keeps them as tables, one row a record, whose
columns are named after the fields.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import NamedTuple

COMPLEXITIES = ("easy", "middle", "hard")
"""The paper's classes, easiest first. A split may define other names, in the same order."""


class Target(Enum):
    """What a training row teaches: the bare answer, or a text that ends in it.

    `rationale` is the teacher's reply, `short_rationale` the shortest one that it finds sufficient.
    `own_rationale` is a chain of thought that the base student drew itself and that is right.
    `thinking` is both that a teacher writes: its reasoning becomes the student's thinking span, and
    its reply follows behind.
    """

    answer = "answer"
    rationale = "rationale"
    short_rationale = "short_rationale"
    own_rationale = "own_rationale"
    thinking = "thinking"

    @property
    def reasons(self) -> bool:
        """Whether it is a text that leads to the answer, whoever writes it."""
        return self is not Target.answer

    @property
    def taught(self) -> bool:
        """Whether a teacher writes it."""
        return self not in (Target.answer, Target.own_rationale)


class Mode(Enum):
    """How a model is asked at test time.

    `answer` takes the answer at once, `rationale` lets it write first, and `routed` picks one of
    the two for every question by its complexity.
    """

    answer = "answer"
    rationale = "rationale"
    routed = "routed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question as read from its source, before any prompt is made of it.

    A question has listed `options` (shown to the model under option ids), or an `answer_set` (a
    closed set of replies that is not shown, such as the digits), or neither: free text.
    `grader` names who decides whether a free answer is right, with its version; empty: our rules.
    `gold_index` is an index into whichever of the two exists, and is None for free text. `origin`
    names file and line for messages.
    """

    id: str
    text: str
    options: tuple[str, ...] = ()
    answer_set: tuple[str, ...] = ()
    gold_index: int | None = None
    gold_text: str = ""
    subject: str = ""
    rationale: str | None = None
    origin: str = ""
    grader: str = ""


def describe_content(question: Question, *, graded: bool = True, solved: bool = False) -> str:
    """Everything that a prompt, a target or a result may depend on, as one line of ASCII.

    The same rows in another file are the same questions. What nothing is `graded` for does not
    depend on the grader, and only what shows or teaches `solved` questions on their solutions.
    """
    left_out = {"origin"} if graded and question.grader else {"origin", "grader"}
    left_out |= set() if solved else {"rationale"}
    names = [part.name for part in fields(question) if part.name not in left_out]
    return json.dumps([getattr(question, name) for name in names])


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerScore:
    """A model's answer to one question, given at once.

    `predicted` is the greedy token's text, stripped; `valid` says whether it is one of the
    allowed answers. `estimates` maps estimator names to values, entropies in nats; an estimate
    that does not exist for the question (option entropy of free text) is None.
    `option_probabilities` are the allowed answers' shares of the full vocabulary, in order; empty
    for free text. `generated_tokens` are those of a free-text answer as it was written, the end
    token included; a label is one.
    """

    question_id: str
    predicted: str
    valid: bool
    correct: bool
    estimates: Mapping[str, float | None] = field(default_factory=dict)
    option_probabilities: tuple[float, ...] = ()
    generated_tokens: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A student's own chain of thought for one question, token by token.

    `pieces` are the tokens' texts without the end token; `entropies` (nats, full vocabulary) and
    `margins` (top-1 minus top-2 probability) are those of the distribution that each token was
    taken from. `parsed` is the answer at its end, None if none can be read; `generated_tokens`
    includes the end token. `opened` says that the prompt had already opened the thinking span.
    """

    question_id: str
    pieces: tuple[str, ...]
    entropies: tuple[float, ...]
    margins: tuple[float, ...]
    parsed: str | None
    correct: bool
    generated_tokens: int = 0
    opened: bool = False

    @property
    def text(self) -> str:
        """The reply as it was written."""
        return "".join(self.pieces)


class WrittenReply(NamedTuple):
    """A reply: its text, and how many tokens it took, which are `ids`, the end token included.

    `ids` are empty where a server tells the text alone. If the spread was requested, also each
    token's distribution: its entropy (nats), top-1 probability and top-2 margin. `thinking_tokens`
    are those of thinking spans; `sample` is the number of the reply among those of its question.
    Lightning refuses frozen dataclasses here.
    """

    question_id: str
    text: str
    tokens: int
    ids: Sequence[int] = ()
    entropies: Sequence[float] = ()
    top1: Sequence[float] = ()
    margins: Sequence[float] = ()
    thinking_tokens: int = 0
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledReply:
    """One of several drawn replies of a student to a question; `sample` is its number, from 0.

    `parsed` is the answer at its end, None if none can be read; `generated_tokens` includes the end
    token.
    """

    question_id: str
    sample: int
    text: str
    parsed: str | None
    correct: bool
    generated_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A judge's reply to one question for one estimator; `value` None if unreadable.

    For `option_entropy_gain` the teacher's entropy over the options, None where it is not known.
    `batched`: it was bought in a provider's batch.
    """

    question_id: str
    estimator: str
    value: float | None
    text: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    batched: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rationale:
    """A chain of thought for one question, accepted or not: a teacher's, or the student's own.

    `target` is what it was asked for, `attempt` the number of the try, from 0. `reasoning` is what
    the teacher thought before it wrote the `text`, None if it shows nothing of that.
    `refusal` is empty when the rationale may be trained on, else the reason it may not.
    Token counts and `usd` are what the teacher charged; a worked solution costs nothing. `seconds`
    are those of the call, 0 in a batch. `ledger_key` names the row of the ledger that has the
    unchanged reply and the request.
    """

    question_id: str
    text: str
    answer: str | None
    agrees: bool
    refusal: str = ""
    source: str = ""
    finish_reason: str = ""
    attempt: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usd: float = 0.0
    seconds: float = 0.0
    ledger_key: str = ""
    target: Target = Target.rationale
    reasoning: str | None = None

    @property
    def accepted(self) -> bool:
        """Whether a student may be trained on this text."""
        return not self.refusal

    @property
    def batched(self) -> bool:
        """Whether it was bought in a provider's batch, which does not time its rows."""
        return bool(self.ledger_key) and not self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One training row: token ids of the prompt, and of the completion that is trained.

    `weight` is that of each of its trained tokens in the loss.
    """

    question_id: str
    target: Target
    complexity: str
    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    weight: float = 1.0

    @property
    def length(self) -> int:
        """Tokens of the whole row."""
        return len(self.prompt_ids) + len(self.completion_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningNumbers:
    """What a stage trained on and how its loss went. Token counts are of all epochs.

    `examples` are the rows that any epoch trained. `trained_tokens` are completion tokens, and
    `trained_rationale_tokens` those of a teacher's texts. `rationale_tokens` counts each text once,
    by question id (other targets: "TARGET of ID"), since two stages may train the same one.
    `epochs` are those that were run, which patience may have cut short. `curve` has one row an
    optimizer step: step, epoch, loss (nats a token), gradient_norm, learning_rate; and one an
    epoch with validation_accuracy and validation_questions.
    """

    examples: int
    dropped: list[str]
    epochs: int
    prompt_tokens: int
    trained_tokens: int
    trained_rationale_tokens: int
    rationale_tokens: dict[str, int]
    parameters: int
    trainable_parameters: int
    curve: list[dict[str, float]]


class Unread(Enum):
    """Why no answer could be read from a reply.

    `outside`: it names an answer in the form that was asked for, which is none of the allowed ones.
    `cut`: it was still going on at the limit of its tokens. `no_marker`: it ended without one.
    """

    no_marker = "no marker"
    outside = "outside the allowed answers"
    cut = "cut at the limit"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A model's reply to one question in one mode.

    `parsed` is None if no allowed answer could be read from the reply: that counts as wrong, and is
    never dropped. `unread` then says why, and `marked` what stands in its last marker, or as its
    single token, if anything does. `generated_tokens` counts every token the reply cost (1 for a
    single-pass answer), `thinking_tokens` those of thinking spans among them. `obeyed` says whether
    the model thought or not as it was asked to; None if it was asked for neither. `estimates` are
    the model's own, in answer mode only.
    """

    question_id: str
    text: str
    parsed: str | None
    correct: bool
    generated_tokens: int
    estimates: Mapping[str, float | None] = field(default_factory=dict)
    thinking_tokens: int = 0
    obeyed: bool | None = None
    unread: Unread | None = None
    marked: str | None = None
