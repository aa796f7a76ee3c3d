"""What this project needs of a causal language model and of its tokenizer, and no more.

Every model of transformers with a head for the next token fits, with a PEFT adapter or without;
nothing here imports a framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class CausalLM(Protocol):
    """A torch module that maps token ids to the logits of the next token."""

    config: Any
    generation_config: Any

    @property
    def device(self) -> torch.device:
        """Where its weights lie."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What its weights are kept in."""
        ...

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The forward pass; its result has `logits`, (rows, tokens, vocabulary)."""
        ...

    def train(self) -> CausalLM:
        """Itself, in training mode."""
        ...

    def eval(self) -> CausalLM:
        """Itself, in evaluation mode."""
        ...

    def modules(self) -> Iterator[torch.nn.Module]:
        """Itself and every module in it."""
        ...

    def named_modules(self) -> Iterator[tuple[str, torch.nn.Module]]:
        """`modules`, each with its path."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """Every weight."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """`parameters`, each with its path."""
        ...

    def get_output_embeddings(self) -> torch.nn.Module:
        """The head: hidden state to logits."""
        ...

    def get_decoder(self) -> torch.nn.Module:
        """Everything in front of the head."""
        ...

    def save_pretrained(self, folder: str | PathLike[str], **kwargs: Any) -> Any:
        """Write config and weights."""
        ...


class Tokenizer(Protocol):
    """A tokenizer of transformers."""

    chat_template: Any
    eos_token_id: int | None
    bos_token_id: int | None
    pad_token_id: int | None
    bos_token: str | None
    pad_token: str | None
    model_max_length: int
    all_special_tokens: Sequence[str]
    special_tokens_map: Mapping[str, Any]
    added_tokens_decoder: Mapping[int, Any]

    def __call__(self, text: str | Sequence[str], **kwargs: Any) -> Any:
        """Token ids of a text or of several, under `input_ids`."""
        ...

    def __len__(self) -> int:
        """How many tokens it knows, added ones included."""
        ...

    def decode(self, token_ids: Any, **kwargs: Any) -> str:
        """The text of token ids."""
        ...

    def convert_ids_to_tokens(self, ids: Any, **kwargs: Any) -> Any:
        """Its own names of token ids."""
        ...

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The ids of its own names."""
        ...

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> Any:
        """Turns rendered as the model was trained on them."""
        ...

    def get_vocab(self) -> Mapping[str, int]:
        """Its own names and their ids."""
        ...

    def get_added_vocab(self) -> Mapping[str, int]:
        """The added ones among them."""
        ...

    def save_pretrained(self, folder: str | PathLike[str], **kwargs: Any) -> Any:
        """Write its files."""
        ...
