"""The teachers' settings: sources of rationales, and limits of their cost."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated, Any, ClassVar, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from caft.dials import (
    MOST,
    Count,
    CountOrNone,
    MinP,
    Range,
    Seed,
    Temperature,
    Text,
    TopP,
    Usd,
    check_dials,
    refuse_idle_filters,
)
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


Attempts: TypeAlias = Annotated[int, Range(1, 1000)]


class Keep(Enum):
    """Which rationales may be trained on.

    `correct`: those whose [[answer]] agrees with gold. `all`: every reply that is no loop, no
    attack and not known to be unfinished; a wrong one, or one without an answer, is marked. An
    unknown finish reason counts as finished here only.
    """

    correct = "correct"
    all = "all"


class Unanswered(Enum):
    """What happens if a request fails even after all retries.

    `stop` keeps every other reply and ends with exit 2, so that the next run asks again; `drop`
    continues without the question, which counts as refused.
    """

    stop = "stop"
    drop = "drop"


class MaxTokensField(Enum):
    """The request's field for the reply's length: OpenAI's reasoning models need the longer one."""

    max_tokens = "max_tokens"
    max_completion_tokens = "max_completion_tokens"


@dataclass(kw_only=True, slots=True)
class TeacherConfig:
    """What every teacher shares. `group` is the config group of its settings, for messages."""

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
    """Existing rationales: JSON lines with `question_id` and `text`, and maybe `reasoning`.

    Several rows of one question are its attempts, in the file's order. A row may name its
    `finish_reason`; without one it counts as finished.
    """

    kind: str = "file"
    path: Text | None = None


@dataclass(kw_only=True, slots=True)
class LocalModelTeacherConfig(TeacherConfig):
    """A Hugging Face causal LM in this process: free but for its time.

    `id` and `revision` name a hub repository, `path` a local folder that is used instead.

    Temperature 0 takes the likeliest token. Above it, tokens are drawn: of the `top_k` likeliest
    (0: all), then of the likeliest with a mass of `top_p`, then of those with at least `min_p` of
    the likeliest one's probability. Up to `attempts` replies are written for a question, the next
    one where the last was refused: the first at `temperature`, later ones, which are other draws of
    the same `seed`, at `reask_temperature`. The run's own seed changes no reply.
    """

    kind: str = "local_model"
    id: Text | None = None
    revision: Text = "main"
    path: Text | None = None
    max_tokens: Count = 1024
    batch_size: Count = 8
    temperature: Temperature = 0.0
    top_p: TopP = 1.0
    top_k: CountOrNone = 0
    min_p: MinP = 0.0
    seed: Seed = 0
    attempts: Attempts = 1
    reask_temperature: Temperature = 0.7

    def __post_init__(self) -> None:
        TeacherConfig.__post_init__(self)
        _refuse_same_reply(self.group, self.attempts, self.reask_temperature)
        if self.attempts == 1 and not self.temperature:
            refuse_idle_filters(self.group, top_p=self.top_p, top_k=self.top_k, min_p=self.min_p)

    def temperature_of(self, attempt: int) -> float:
        """Of the first attempt (0), or of a later one."""
        return self.reask_temperature if attempt else self.temperature


@dataclass(kw_only=True, slots=True)
class PriceConfig:
    """USD per million tokens."""

    prompt: Usd = 0.0
    completion: Usd = 0.0


PACE_AND_PRICE = (
    "api_key_env", "timeout_seconds", "concurrency", "requests_per_minute", "tokens_per_minute",
    "retries", "backoff_seconds", "grace_seconds", "prices", "usd_per_million_prompt_tokens",
    "usd_per_million_completion_tokens", "budget_usd", "max_calls", "batch", "batch_price_factor",
    "probe_replies",
)  # fmt: skip
"""Settings of an endpoint that change how it is asked and what that costs, and no reply."""


@dataclass(kw_only=True)
class EndpointConfig:
    """Any endpoint with the OpenAI chat protocol. `group` is the config group of its settings.

    The key is read from the environment variable `api_key_env` only; loopback needs none.

    `prices` maps model names to USD per million tokens; each `usd_per_million_*` setting overrides
    its part of it. Loopback is free unless a price is given; any other endpoint must have both (0
    where it really costs nothing), since a budget without prices is no budget. `budget_usd` and
    `max_calls` cap everything that the ledger ever bought from this model, over all runs. Every
    request sent is a call, also a retry. One without a reply counts as what the server says it
    used, and one without a response as charged in full. A cost that the server reports is taken
    over the price, but none of 0 where there is a price.

    `requests_per_minute` and `tokens_per_minute` are shared, in equal parts, by all processes that
    ask the model through the same ledger at the same time. A null `temperature` or `seed` is not
    sent. `extra` is added to the request's body unchanged; it never holds a key.

    `retries` counts repeats after 408, 409, 429, 5xx, timeouts, dropped connections and replies
    that are no JSON, each after a jittered wait that doubles from `backoff_seconds` and is never
    shorter than the server's Retry-After. After ten failed calls in a row all calls pause for 30
    seconds (doubling up to ten minutes), and then one tries again; the fifth pause without a reply
    stops the run. Ten permanent refusals stop it at once if nothing was ever answered; else each
    refused request is left out.

    After SIGTERM or Ctrl-C no more calls are sent, and those in flight, which are paid for, are
    waited for up to `grace_seconds`; a second signal ends at once.
    """

    group: ClassVar[str] = "teacher"

    base_url: Text | None = None
    model: Text | None = None
    api_key_env: str = "OPENAI_API_KEY"
    temperature: Temperature | None = 0.0
    top_p: TopP | None = None
    seed: Seed | None = 0
    max_tokens: Count = 2048
    max_tokens_field: MaxTokensField = MaxTokensField.max_tokens
    extra: dict[str, Any] = field(default_factory=dict)
    timeout_seconds: Annotated[float, Range(0, _DAY, above=True)] = 120.0
    concurrency: Annotated[int, Range(1, 10_000)] = 8
    requests_per_minute: Annotated[float, Range(0.001, MOST)] | None = None
    tokens_per_minute: Annotated[float, Range(1, 1000 * MOST)] | None = None
    retries: Annotated[int, Range(0, 1000)] = 8
    backoff_seconds: Annotated[float, Range(0, _DAY)] = 0.5
    unanswered: Unanswered = Unanswered.stop
    grace_seconds: Annotated[float, Range(0, _DAY)] = 25.0
    prices: dict[str, PriceConfig] = field(default_factory=dict)
    usd_per_million_prompt_tokens: Usd | None = None
    usd_per_million_completion_tokens: Usd | None = None
    budget_usd: Usd | None = None
    max_calls: CountOrNone | None = None

    def __post_init__(self) -> None:
        check_dials(self, self.group)
        for name in ("model", "messages", "stream", "n"):
            if name in self.extra:
                raise UserError(
                    f"{self.group}.extra sets {name}, which CAFT sets itself; leave it out"
                )
        self._refuse_bad_address()
        self._refuse_secrets()
        self._refuse_unreadable_limits()

    def _refuse_bad_address(self) -> None:
        try:
            if self.base_url is not None:
                read_address(self.base_url)
        except ValueError as error:
            such = "give one such as https://HOST/v1 or http://127.0.0.1:8000/v1"
            raise UserError(f"{self.group}.base_url {error}; {such}") from error

    def _refuse_secrets(self) -> None:
        # Before the config is written down. None of these messages repeats what was given.
        if not _VARIABLE.fullmatch(self.api_key_env):
            raise UserError(
                f"{self.group}.api_key_env is not the name of an environment variable; give the "
                "NAME of the one that holds the key, such as OPENAI_API_KEY, never the key itself"
            )
        if problem := self._find_secret():
            raise UserError(
                f"{self.group}.{problem}; keys come from the environment variable that "
                f"{self.group}.api_key_env names"
            )

    def _refuse_unreadable_limits(self) -> None:
        # What a reply can cost, and whether it was cut, is told by the limit that is sent.
        for name in (each.value for each in MaxTokensField if each.value in self.extra):
            limit = self.extra[name]
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
                raise UserError(
                    f"{self.group}.extra.{name} is {limit!r} and must be a whole number from 1; "
                    f"give one, or leave it out and set {self.group}.max_tokens"
                )

    def _find_secret(self) -> str:
        """What holds a secret, by its name, its form, or as a value of the environment."""
        url = urlsplit(self.base_url or "")
        query = [name for name, _ in parse_qsl(url.query, keep_blank_values=True)]
        # Azure's functions call their key `code`.
        secret = any(is_secret_name(name) or name.casefold() == "code" for name in query)
        if "@" in url.netloc or secret or url.fragment:
            return "base_url holds a user, a password, a key or a fragment"
        if name := next(filter(is_secret_name, _names_in(self.extra)), ""):
            return f"extra sets {name}, and what it holds is written down"
        named = {name: getattr(self, name, None) for name in ("name", "model", "base_url")}
        texts = [*texts_in(named), *texts_in(self.extra, "extra")]
        place, variable = find_held(texts, environment_secrets(os.environ, self.api_key_env))
        if place:
            what = f"what the environment variable {variable} holds"
            return f"{place} holds {what}, and a config is written down"
        # A host may be called sk-2-prod.example.com, and that is no secret.
        shaped = (at for at, text in texts if has_key_shape(text.replace(url.netloc, "", 1)))
        place = next(shaped, "")
        return f"{place} holds a key, and a config is written down" if place else ""


@dataclass(kw_only=True)
class OpenAITeacherConfig(EndpointConfig, TeacherConfig):
    """An endpoint that writes rationales.

    Up to `attempts` replies are bought for a question, the next one where the last was refused:
    the first is drawn at `temperature`, later ones at `reask_temperature`; attempt k sends the
    seed `seed + k`.

    If the first `probe_replies` replies are all refused for one reason other than a wrong answer,
    nothing more is bought (0: no such check).

    With `batch` the requests are sent through the provider's batch interface (/v1/files and
    /v1/batches), which answers within 24 hours; the first `probe_replies` are still asked live. A
    batch's tokens cost `batch_price_factor` of the live price; null is 0.5 at api.openai.com. A
    request without a result, for which money may be taken each time, is sent again `retries` times
    over all runs.
    """

    kind: str = "openai"
    attempts: Attempts = 1
    reask_temperature: Temperature = 0.7
    probe_replies: Annotated[int, Range(0, 10_000)] = 20
    batch: bool = False
    batch_price_factor: Annotated[float, Range(0, 1)] | None = None

    def __post_init__(self) -> None:
        EndpointConfig.__post_init__(self)
        if self.temperature is not None:
            _refuse_same_reply(self.group, self.attempts, self.reask_temperature)


def _refuse_same_reply(group: str, attempts: int, reask_temperature: float) -> None:
    if attempts > 1 and reask_temperature == 0:
        raise UserError(
            f"{group}.attempts is {attempts} with {group}.reask_temperature=0, "
            "which would buy the same reply again; give a temperature above 0, such as 0.7"
        )


def _names_in(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        yield from map(str, value)
        value = list(value.values())
    for inner in value if isinstance(value, list) else ():
        yield from _names_in(inner)
