"""Who writes the rationales, and what that may cost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from caft.dials import MOST, Count, CountOrNone, Range, Seed, Text, Usd, check_dials
from caft.errors import UserError
from caft.teachers.address import read_address
from caft.teachers.secrets import (
    environment_secrets,
    find_held,
    has_key_shape,
    is_secret_name,
    texts_in,
)

_VARIABLE = re.compile("[A-Z_][A-Z0-9_]*")
_DAY = 86_400


class Keep(Enum):
    """Which rationales may be trained on.

    `correct`: those whose [[answer]] agrees with gold. `all`: every reply that is no loop, no
    attack and not known to be unfinished; one that is wrong, or names no answer at all, is marked
    as such. A reply that ended for a reason nobody knows counts as finished here only.
    """

    correct = "correct"
    all = "all"


class Unanswered(Enum):
    """What happens when the endpoint fails on a question even after all retries.

    `stop` keeps every other reply and ends with exit 2, so that the next run asks again; `drop`
    goes on without the question, counted as refused.
    """

    stop = "stop"
    drop = "drop"


class MaxTokensField(Enum):
    """The request's name for the reply's length: OpenAI's reasoning models want the longer one."""

    max_tokens = "max_tokens"
    max_completion_tokens = "max_completion_tokens"


Temperature: TypeAlias = Annotated[float, Range(0, 10)]


@dataclass(kw_only=True, slots=True)
class TeacherConfig:
    """What every teacher shares. `group` is where its dials stand, for messages."""

    group: ClassVar[str] = "teacher"

    kind: str
    name: Text
    keep: Keep = Keep.correct

    def __post_init__(self) -> None:
        check_dials(self, self.group)


@dataclass(kw_only=True, slots=True)
class WorkedTeacherConfig(TeacherConfig):
    """The dataset's own worked solutions: free, and named as such in the report."""

    kind: str = "worked"


@dataclass(kw_only=True, slots=True)
class FileTeacherConfig(TeacherConfig):
    """Rationales that somebody already has: JSON lines with `question_id` and `text`.

    Several rows of one question are its attempts, in the file's order. A row may name its
    `finish_reason`; without one it counts as finished.
    """

    kind: str = "file"
    path: Text | None = None


@dataclass(kw_only=True, slots=True)
class LocalModelTeacherConfig(TeacherConfig):
    """A Hugging Face causal LM in this process, decoded greedily: free but for its time.

    `id` and `revision` name a hub repository, `path` a local folder that is taken instead.
    """

    kind: str = "local_model"
    id: Text | None = None
    revision: Text = "main"
    path: Text | None = None
    max_tokens: Count = 1024
    batch_size: Count = 8


@dataclass(kw_only=True, slots=True)
class PriceConfig:
    """USD per million tokens."""

    prompt: Usd = 0.0
    completion: Usd = 0.0


@dataclass(kw_only=True, slots=True)
class OpenAITeacherConfig(TeacherConfig):
    """Any endpoint that speaks the OpenAI chat protocol.

    The key is read from the environment variable `api_key_env` and from nowhere else; an
    endpoint on loopback needs none.

    `prices` maps model names to USD per million tokens; the two `usd_per_million_*` dials go
    before it. An endpoint on loopback is free unless a price is given; any other must have one
    (0 where it really costs nothing), since a budget without prices is no budget.

    `budget_usd` and `max_calls` cap everything that the ledger ever bought from this model, by
    whichever run: jobs of a sweep share them, and a later run with a higher cap goes on. Every
    request sent is a call, a retry too. A call that never came back counts as if it had been
    charged in full.

    `requests_per_minute` and `tokens_per_minute` are shared by all who ask the model through the
    same ledger at the same time, in equal parts.

    The first attempt at a question is drawn at `temperature` (null: not sent), later ones at
    `reask_temperature`; attempt k sends the seed `seed + k` (null: not sent). `extra` is put
    into the request's body as it is, such as a provider's routing; it never holds a key.

    `retries` counts repeats after 408, 409, 429, 5xx, timeouts, dropped connections and replies
    that are no JSON, each after a jittered wait that doubles from `backoff_seconds` and is never
    shorter than the server's Retry-After. After `circuit_failures` failed calls in a row nothing
    is sent for `circuit_seconds` (doubling up to ten minutes), then one probe; after
    `circuit_openings` openings without a single reply between them the run stops. So it does, at
    once, where as many requests were refused for good and none was ever answered; an endpoint that
    has answered may refuse as many as it likes, and each is left out.

    Where the first `probe_replies` replies are all refused for one reason other than a wrong
    answer, nothing more is bought (0: never mind).

    After SIGTERM or Ctrl-C no call is sent any more, and those under way, which are paid for, are
    waited for up to `grace_seconds`; a second signal ends at once.
    """

    kind: str = "openai"
    base_url: Text | None = None
    model: Text | None = None
    api_key_env: str = "OPENAI_API_KEY"
    temperature: Temperature | None = 0.0
    reask_temperature: Temperature = 0.7
    top_p: Annotated[float, Range(0, 1, above=True)] | None = None
    seed: Seed | None = 0
    max_tokens: Count = 2048
    max_tokens_field: MaxTokensField = MaxTokensField.max_tokens
    extra: dict[str, Any] = field(default_factory=dict)
    attempts: Annotated[int, Range(1, 1000)] = 1
    probe_replies: Annotated[int, Range(0, 10_000)] = 20
    timeout_seconds: Annotated[float, Range(0, _DAY, above=True)] = 120.0
    concurrency: Annotated[int, Range(1, 10_000)] = 8
    requests_per_minute: Annotated[float, Range(0.001, MOST)] | None = None
    tokens_per_minute: Annotated[float, Range(1, 1000 * MOST)] | None = None
    retries: Annotated[int, Range(0, 1000)] = 8
    backoff_seconds: Annotated[float, Range(0, _DAY)] = 0.5
    unanswered: Unanswered = Unanswered.stop
    circuit_failures: Count = 10
    circuit_seconds: Annotated[float, Range(0, _DAY)] = 30.0
    circuit_openings: Annotated[int, Range(1, 1000)] = 5
    grace_seconds: Annotated[float, Range(0, _DAY)] = 25.0
    prices: dict[str, PriceConfig] = field(default_factory=dict)
    usd_per_million_prompt_tokens: Usd | None = None
    usd_per_million_completion_tokens: Usd | None = None
    budget_usd: Usd | None = None
    max_calls: CountOrNone | None = None

    def __post_init__(self) -> None:
        TeacherConfig.__post_init__(self)
        self._refuse_bad_sampling()
        self._refuse_secrets()
        self._refuse_bad_address()

    def _refuse_bad_address(self) -> None:
        try:
            if self.base_url is not None:
                read_address(self.base_url)
        except ValueError as error:
            raise UserError(
                f"{self.group}.base_url {error}; give one such as https://HOST/v1 or "
                "http://127.0.0.1:8000/v1"
            ) from error

    def _refuse_secrets(self) -> None:
        # Here and not when the endpoint is checked: by then the config has been written down.
        # None of these messages repeats what was given.
        if not _VARIABLE.fullmatch(self.api_key_env):
            raise UserError(
                f"{self.group}.api_key_env is no name of an environment variable; give the NAME of "
                "the one that holds the key, such as OPENAI_API_KEY, and never the key itself"
            )
        self._refuse_secret_address()
        for name in _names_in(self.extra):
            if is_secret_name(name):
                raise UserError(
                    f"{self.group}.extra sets {name}, and what it holds is written down; keys "
                    f"come from the environment variable that {self.group}.api_key_env names"
                )
        self._refuse_secret_values()

    def _refuse_secret_address(self) -> None:
        try:
            address = urlsplit(self.base_url or "")
        except ValueError:  # _refuse_bad_address says what is wrong with it
            return
        named = [name for name, _ in parse_qsl(address.query, keep_blank_values=True)]
        # Azure's functions call their key `code`.
        secret = any(is_secret_name(name) or name.casefold() == "code" for name in named)
        if "@" in address.netloc or secret or address.fragment:
            raise UserError(
                f"{self.group}.base_url holds a user, a password, a key or a fragment; secrets "
                f"come from the environment variable that {self.group}.api_key_env names"
            )

    def _refuse_secret_values(self) -> None:
        """By their shape, or since the environment holds them as a secret."""
        named = {"name": self.name, "model": self.model, "base_url": self.base_url}
        texts = [*texts_in(named), *texts_in(self.extra, "extra")]
        place, variable = find_held(texts, environment_secrets(os.environ, self.api_key_env))
        # A host may be called sk-2-prod.example.com, and that is no secret.
        host = "".join((self.base_url or "").split("/")[2:3])
        shaped = next((p for p, text in texts if has_key_shape(text.replace(host, "", 1))), "")
        if place or shaped:
            what = f"what the environment variable {variable} holds" if place else "a key"
            raise UserError(
                f"{self.group}.{place or shaped} holds {what}, and a config is written down; keys "
                f"come from the environment variable that {self.group}.api_key_env names"
            )

    def _refuse_bad_sampling(self) -> None:
        if self.attempts > 1 and self.reask_temperature == 0 and self.temperature is not None:
            raise UserError(
                f"{self.group}.attempts is {self.attempts} with {self.group}.reask_temperature=0, "
                "which would buy the same reply again; give a temperature above 0, such as 0.7"
            )
        for name in ("model", "messages", "stream", "n"):
            if name in self.extra:
                raise UserError(
                    f"{self.group}.extra sets {name}, which CAFT sets itself; leave it out"
                )


def _names_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _names_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _names_in(inner)
