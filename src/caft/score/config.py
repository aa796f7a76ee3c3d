"""Where complexity scores come from."""

from __future__ import annotations

from dataclasses import dataclass

from caft.errors import UserError


@dataclass(kw_only=True, slots=True)
class ScoreConfig:
    """What every source of scores shares."""

    kind: str


@dataclass(kw_only=True, slots=True)
class ModelScoreConfig(ScoreConfig):
    """The student answers every question with one token; one forward pass a question.

    `batch_tokens` bounds the tokens of one forward pass; rows are packed without padding.
    `free_answer_tokens` bounds a free-text answer, which is written out to see if it is right.
    """

    kind: str = "model"
    batch_tokens: int = 2048
    free_answer_tokens: int = 16

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "free_answer_tokens"):
            if getattr(self, name) < 1:
                raise UserError(f"score.{name} is {getattr(self, name)}; give 1 or more")


@dataclass(kw_only=True, slots=True)
class PublishedScoreConfig(ScoreConfig):
    """Scores that somebody published: two columns of the dataset's own files."""

    kind: str = "published"
    entropy_column: str = "published_entropy_nats"
    correct_column: str = "published_correct"
