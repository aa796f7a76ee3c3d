"""How much each trained token counts in the gradient, by `tuning.loss`. Pure."""

from __future__ import annotations

import math

import torch

from caft.kernels.chunked_loss import TokenWeights
from caft.tune.config import Loss


def weigh_by_probability(_log_p: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    """p(label) (dynamic fine-tuning: Wu et al., arXiv 2508.05629).

    ln p in, [tokens, vocabulary] and [tokens, 1]; weights out, [tokens, 1], from 0 to 1.
    """
    return chosen.exp()


def weigh_by_entropy(log_p: torch.Tensor, _chosen: torch.Tensor) -> torch.Tensor:
    """Entropy over its largest value, H / ln |V| (Diao et al., arXiv 2601.02151).

    The authors' code takes the 20 largest logits for H and ln 20 for its largest value; this is the
    entropy of the whole vocabulary, which needs no approximation here. In and out as above.
    """
    entropy: torch.Tensor = torch.special.entr(log_p.exp()).sum(-1, keepdim=True)
    return entropy / math.log(log_p.shape[-1])


TOKEN_WEIGHTS: dict[Loss, TokenWeights | None] = {
    Loss.ce: None,
    Loss.dft: weigh_by_probability,
    Loss.eaft: weigh_by_entropy,
}
