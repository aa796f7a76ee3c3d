"""The training loss: a sum over trained tokens, divided once by the tokens of the whole step."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

# Rows of logits that are held in float32 at a time; bounds memory for large vocabularies.
_CHUNK = 512


def summed_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Sum of -ln p(label) in nats; logits [trained tokens, vocabulary], labels [trained tokens].

    Float32, whatever the logits are. A mean over micro-batches would weigh short ones too much;
    the caller divides the sum by the trained tokens of the optimizer step.
    """
    pieces = zip(torch.split(logits, _CHUNK), torch.split(labels, _CHUNK), strict=True)
    return torch.stack(
        [cross_entropy(some.float(), truth, reduction="sum") for some, truth in pieces]
    ).sum()
