"""What writes replies: our own generator, an engine in this process, or a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from caft.dials import Count, Range, Share, Text, check_dials
from caft.errors import UserError
from caft.teachers.config import EndpointConfig

_EVERYWHERE = {"dtype": "model.dtype", "trust_remote_code": "model.trust_remote_code"}
_OURS = {
    "vllm": {
        **_EVERYWHERE,
        **dict.fromkeys(("model", "tokenizer", "enable_lora", "max_lora_rank", "max_loras")),
        "gpu_memory_utilization": "engine.memory_share",
    },
    "sglang": {
        **_EVERYWHERE,
        **dict.fromkeys(("model_path", "tokenizer_path", "lora_paths")),
        "mem_fraction_static": "engine.memory_share",
    },
}
"""By kind, the arguments that are not the user's; with the setting that stands for one, if any."""
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `max_lora_rank`, the largest rank of an adapter that it applies."""


@dataclass(kw_only=True, slots=True)
class GateConfig:
    """Before an engine's replies count, `questions` of them are compared with our own.

    `agreement` is the least share of equal answers.
    """

    questions: Count = 32
    agreement: Share = 0.9

    def __post_init__(self) -> None:
        check_dials(self, "engine.gate")


@dataclass(kw_only=True, slots=True)
class EngineConfig:
    """What every engine shares."""

    kind: str

    def __post_init__(self) -> None:
        check_dials(self, "engine")


@dataclass(kw_only=True, slots=True)
class OwnEngineConfig(EngineConfig):
    """Our own generator."""

    kind: str = "own"


@dataclass(kw_only=True, slots=True)
class OtherEngineConfig(EngineConfig):
    """Any engine but our own."""

    gate: GateConfig = field(default_factory=GateConfig)


@dataclass(kw_only=True, slots=True)
class InProcessEngineConfig(OtherEngineConfig):
    """An engine in this process, on CUDA.

    `memory_share` is the share of the device's memory that it takes. `extra` is added to the
    arguments of the engine's class unchanged.
    """

    memory_share: Annotated[float, Range(0, 1, above=True)] = 0.85
    extra: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        EngineConfig.__post_init__(self)
        for name, setting in _OURS[self.kind].items():
            if name in self.extra:
                instead = f" and set {setting}" if setting else ""
                raise UserError(
                    f"engine.extra sets {name}, which CAFT sets itself; leave it out{instead}"
                )


@dataclass(kw_only=True, slots=True)
class VllmEngineConfig(InProcessEngineConfig):
    """vLLM's class LLM."""

    kind: str = "vllm"


@dataclass(kw_only=True, slots=True)
class SglangEngineConfig(InProcessEngineConfig):
    """SGLang's class Engine."""

    kind: str = "sglang"


class _Address(EndpointConfig):
    """Where a server is, with an endpoint's checks of addresses and secrets."""

    group: ClassVar[str] = "engine"


@dataclass(kw_only=True, slots=True)
class ServerEngineConfig(OtherEngineConfig):
    """A server of the OpenAI protocol that has the base model, or the tuned one, or both.

    `model` is the base model's name there, `tuned_model` the tuned one's; null is caft- and the
    tuned weights' fingerprint. The key, if it needs one, is in the environment variable
    `api_key_env`.
    """

    kind: str = "server"
    base_url: Text | None = None
    model: Text | None = None
    tuned_model: Text | None = None
    api_key_env: Text = "CAFT_LOCAL_KEY"
    concurrency: Annotated[int, Range(1, 10_000)] = 32
    timeout_seconds: Annotated[float, Range(0, 86_400, above=True)] = 600.0

    def __post_init__(self) -> None:
        EngineConfig.__post_init__(self)
        # It refuses addresses that are none, and secrets.
        _ = self.address

    @property
    def address(self) -> EndpointConfig:
        """Where the server is."""
        return _Address(
            base_url=self.base_url,
            model=self.model,
            api_key_env=self.api_key_env,
            timeout_seconds=self.timeout_seconds,
            # Our names of tuned models are no secrets, but other texts may be.
            extra={"tuned_model": self.tuned_model} if self.tuned_model else {},
        )
