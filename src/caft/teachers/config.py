"""Who writes the rationales, and what that may cost."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from caft.errors import UserError


class Keep(Enum):
    """Which rationales may be trained on: those that agree with gold, or every parsable one."""

    correct = "correct"
    all = "all"


@dataclass(kw_only=True, slots=True)
class TeacherConfig:
    """What every teacher shares."""

    kind: str
    name: str
    keep: Keep = Keep.correct


@dataclass(kw_only=True, slots=True)
class WorkedTeacherConfig(TeacherConfig):
    """The dataset's own worked solutions: free, and named as such in the report."""

    kind: str = "worked"


@dataclass(kw_only=True, slots=True)
class OpenAITeacherConfig(TeacherConfig):
    """Any endpoint that speaks the OpenAI chat protocol.

    The key is read from the environment variable `api_key_env` and from nowhere else; an
    endpoint on loopback needs none. Prices are USD per million tokens.
    """

    kind: str = "openai"
    base_url: str | None = None
    model: str | None = None
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float = 0.0
    max_tokens: int = 2048
    timeout_seconds: float = 120.0
    concurrency: int = 8
    attempts: int = 1
    retries: int = 4
    usd_per_million_prompt_tokens: float = 0.0
    usd_per_million_completion_tokens: float = 0.0
    budget_usd: float | None = None
    max_calls: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "concurrency", "attempts"):
            if getattr(self, name) < 1:
                raise UserError(f"teacher.{name} is {getattr(self, name)}; give 1 or more")
        for name in ("budget_usd", "max_calls"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UserError(f"teacher.{name} is {value}; give 0 or more, or null for no cap")
