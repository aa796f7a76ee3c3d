"""Where complexity scores come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, ClassVar

from caft.dials import Count, Range, Text, check_dials
from caft.estimators import find_estimator
from caft.models.config import tokens_of_a_pass
from caft.models.sampling import SamplingConfig
from caft.teachers.config import EndpointConfig
from caft.text.prompts import Wanted


@dataclass(kw_only=True, slots=True)
class ScoreConfig:
    """What every source of scores shares."""

    kind: str

    def __post_init__(self) -> None:
        check_dials(self, "score")


class Fallback(Enum):
    """When the fallback prompt lets the model reply 0; the paper tried both.

    Where it is not certain of the answer, or where it does not know it.
    """

    certain = "certain"
    known = "known"

    @property
    def wanted(self) -> Wanted:
        """The prompt with this wording."""
        return Wanted[f"fallback_{self.name}"]


@dataclass(kw_only=True, slots=True)
class ChainConfig:
    """The student's own chains of thought, for the estimators cot_* and those of `samples`.

    `thinking` opens the thinking span of models that have one; the estimates are then those of
    the span's tokens, as they are if a template opens one unasked.
    """

    max_new_tokens: Count = 512
    batch_size: Count = 32
    thinking: bool = False

    def __post_init__(self) -> None:
        check_dials(self, "score.chain")


@dataclass(kw_only=True, slots=True)
class SamplesConfig(SamplingConfig):
    """`count` drawn chains of thought a question: for answer_frequency, pass_rate, own_rationale.

    They are as long as `score.chain` says, and drawn with the run's seed.
    """

    place: ClassVar[str] = "score.samples"

    count: Annotated[int, Range(2, 1000)] = 8
    temperature: Annotated[float, Range(0, 10, above=True)] = 1.0


@dataclass(kw_only=True)
class JudgeConfig(EndpointConfig):
    """The endpoint that judges questions, with a budget of its own."""

    group: ClassVar[str] = "score.judge"

    max_tokens: Count = 512


@dataclass(kw_only=True, slots=True)
class ModelScoreConfig(ScoreConfig):
    """The student answers every question with one token; one forward pass a question.

    `estimators` are gathered and validated in addition to the one that splits; those of the one
    forward pass are always computed. `batch_tokens` bounds the tokens of one forward pass, in which
    rows are packed without padding; None is as many as keep the device busy: 2,048 on a CPU, 16,384
    elsewhere. It changes entropies by rounding alone (docs/decisions/0033-what-rounding-moves.md).
    `free_answer_tokens` bounds a free-text answer, which is written out to check whether it is
    right. `judge` is the endpoint for the estimators judge_*, with a budget of its own; without a
    model name there, the teacher's endpoint judges. `teacher_entropies` is a file with the
    teacher's answer entropies for `entropy_gain`; without it, teacher=local_model is scored.
    """

    kind: str = "model"
    estimators: list[str] = field(default_factory=list)
    batch_tokens: Count | None = None
    free_answer_tokens: Count = 16
    fallback: Fallback = Fallback.certain
    chain: ChainConfig = field(default_factory=ChainConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    teacher_entropies: Text | None = None

    def __post_init__(self) -> None:
        ScoreConfig.__post_init__(self)
        for name in self.estimators:
            find_estimator("score.estimators", name)

    def tokens_a_pass(self, device: str) -> int:
        """`batch_tokens`, or what keeps `device` busy."""
        return self.batch_tokens or tokens_of_a_pass(device)


@dataclass(kw_only=True, slots=True)
class PublishedScoreConfig(ScoreConfig):
    """Published scores: two columns of the dataset's own files."""

    kind: str = "published"
    entropy_column: Text = "published_entropy_nats"
    correct_column: Text = "published_correct"
