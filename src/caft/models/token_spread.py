"""How sure a model was of a token that it has written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from caft.models.estimates import entropy_of


class TokenSpread(NamedTuple):
    """A written token and its distribution: entropy in nats, top-1 probability, top-2 margin."""

    token: int
    entropy: float
    top1: float
    margin: float


def measure_spread(logits: torch.Tensor, tokens: Sequence[int]) -> list[TokenSpread]:
    """Entropy, top-1 probability and top-2 margin of every row of logits [rows, vocabulary]."""
    log_p = torch.log_softmax(logits.float(), dim=-1)
    best = log_p.topk(2, dim=-1).values.exp()
    read = torch.cat([entropy_of(log_p)[:, None], best], dim=-1).tolist()
    return [
        TokenSpread(token, entropy, first, first - second)
        for token, (entropy, first, second) in zip(tokens, read, strict=True)
    ]
