"""The interface that this project needs of a causal language model and of its tokenizer.

Every model of transformers with a head for the next token fits, with a PEFT adapter or without;
nothing here imports a framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Protocol, TypeVar, overload

if TYPE_CHECKING:
    import torch

T_co = TypeVar("T_co", covariant=True)


class LMConfig(Protocol):
    """A model's config.json in memory; architectures have further settings of their own."""

    _attn_implementation: str
    sub_configs: Mapping[str, object]

    def to_dict(self) -> dict[str, object]:
        """All settings."""

    def get_text_config(self) -> LMConfig:
        """Its part about text, where the model takes pictures or sound as well; else itself."""


class LMOutput(Protocol):
    """What a forward pass returns."""

    logits: torch.Tensor


class CausalLM(Protocol):
    """A torch module that maps token ids to the logits of the next token."""

    config: LMConfig
    name_or_path: str
    training: bool

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are kept in."""

    def __call__(self, *args: object, **kwargs: object) -> LMOutput:
        """The forward pass; its logits are [rows, tokens, vocabulary]."""

    def train(self) -> CausalLM:
        """Itself, in training mode."""

    def eval(self) -> CausalLM:
        """Itself, in evaluation mode."""

    def float(self) -> CausalLM:
        """Itself, with weights in float32."""

    def to(self, where: torch.device | torch.dtype | str) -> CausalLM:
        """Itself, with its weights on another device or in another dtype."""

    def modules(self) -> Iterator[torch.nn.Module]:
        """Itself and every module in it."""

    def named_modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """`modules`, each with its path."""

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Every weight."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """`parameters`, each with its path."""

    def buffers(self) -> Iterator[torch.Tensor]:
        """Every tensor that is kept with the weights and not trained."""

    def get_output_embeddings(self) -> torch.nn.Module:
        """The head: hidden state to logits."""

    def get_decoder(self) -> torch.nn.Module:
        """Everything in front of the head."""

    def set_attn_implementation(self, name: str) -> object:
        """Choose a registered attention function for all layers."""

    def gradient_checkpointing_enable(self, settings: Mapping[str, bool]) -> object:
        """Keep only the inputs of layers for the backward pass."""

    def enable_input_require_grads(self) -> object:
        """Let gradients reach the first layer where the embedding is frozen."""

    def save_pretrained(self, folder: str | PathLike[str], **options: bool) -> object:
        """Write config and weights."""


class Encoding(Protocol[T_co]):
    """What tokenizing returns: token ids of a text, or of each of several."""

    @property
    def input_ids(self) -> T_co:
        """The token ids."""


class AddedToken(Protocol):
    """A token that was added to the trained vocabulary; `str` gives its text."""

    special: bool


class Tokenizer(Protocol):
    """A tokenizer of transformers."""

    chat_template: str | dict[str, str] | None
    eos_token: str | None
    eos_token_id: int | None
    bos_token: str | None
    bos_token_id: int | None
    pad_token_id: int | None
    all_special_tokens: Sequence[str]
    special_tokens_map: Mapping[str, object]
    added_tokens_decoder: Mapping[int, AddedToken]

    @overload
    def __call__(self, text: str, **options: bool) -> Encoding[list[int]]: ...
    @overload
    def __call__(self, text: list[str], **options: bool) -> Encoding[list[list[int]]]: ...

    def __hash__(self) -> int: ...

    def __len__(self) -> int:
        """How many tokens it has, added ones included."""

    def decode(self, token_ids: int | Sequence[int], **options: bool) -> str:
        """The text of token ids."""

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]: ...

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]:
        """The ids of its own names of tokens."""

    def apply_chat_template(
        self, conversation: Sequence[Mapping[str, object]], **options: object
    ) -> object:
        """Turns rendered as the model was trained on them."""

    def get_vocab(self) -> Mapping[str, int]:
        """Its own names of tokens, with their ids."""

    def get_added_vocab(self) -> Mapping[str, int]:
        """The added ones among them."""

    def save_pretrained(self, folder: str | PathLike[str]) -> object:
        """Write its files."""


class Written(Protocol):
    """What a model wrote."""

    @property
    def text(self) -> str:
        """Without special tokens."""

    @property
    def tokens(self) -> int:
        """How many were generated, the end token included."""

    @property
    def thinking_tokens(self) -> int:
        """How many of them are of thinking spans."""
