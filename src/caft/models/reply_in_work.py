"""A reply that is being written, and what has been asked of the device for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from caft.kernels.kv_cache import SharedPrefix
from caft.models.estimates import TokenSpread
from caft.models.thinking_cap import SpanWatch


@dataclass(slots=True)
class Reply:
    """A reply that is being written to the prompt of this number.

    `asked` are the tokens that the model was asked for, one more than `tokens` at times.
    """

    prompt: int
    span: SpanWatch | None = None
    asked: int = 0
    tokens: list[int] = field(default_factory=list)
    spread: list[TokenSpread] = field(default_factory=list)

    def put(self, token: int) -> None:
        """Add the model's next token, or the one that has to close its thinking span."""
        self.tokens.append(self.span.put(token) if self.span else token)


class Begun(NamedTuple):
    """The next prompt to take a row, where other replies to it have begun: it has run.

    Its own keys and values, and the logits [1, vocabulary] behind it.
    """

    cached: SharedPrefix
    logits: torch.Tensor


class Asked:
    """The next tokens of these replies, by row, on their way from the device."""

    def __init__(
        self, rows: Sequence[int], replies: dict[int, Reply], tokens: torch.Tensor
    ) -> None:
        self.rows, self.replies, self.tokens = rows, replies, tokens
        self._host, self._arrived = tokens, None
        if tokens.is_cuda:
            self._host = torch.empty(tokens.shape, dtype=tokens.dtype, pin_memory=True)
            self._host.copy_(tokens, non_blocking=True)
            self._arrived = torch.cuda.Event()  # type: ignore[no-untyped-call, unused-ignore]
            self._arrived.record()

    def read(self) -> dict[int, int]:
        """The token of every row."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return dict(zip(self.rows, self._host.tolist(), strict=True))
