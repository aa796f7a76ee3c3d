"""Next-token logits in, complexity estimates out. All in float32, entropies in nats."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def estimate_complexity(logits: torch.Tensor, label_ids: Sequence[int]) -> dict[str, float | None]:
    """Every estimate that one forward pass yields, from logits [vocabulary] of one position.

    `answer_entropy` is H = -sum p ln p over the FULL vocabulary (paper, section on the
    single-token entropy; not renormalised to the options). `option_entropy` renormalises to the
    labels, `option_mass` is their share of the probability; both are None for free text.
    """
    log_p = torch.log_softmax(logits.float(), dim=-1)
    best = log_p.topk(2).values.exp()
    estimates: dict[str, float | None] = {
        "answer_entropy": entropy_of(log_p),
        "option_entropy": None,
        "option_mass": None,
        "top1_probability": float(best[0]),
        "top1_margin": float(best[0] - best[1]),
    }
    if label_ids:
        over_labels = log_p[torch.tensor(list(label_ids), device=log_p.device)]
        estimates["option_mass"] = float(over_labels.exp().sum())
        estimates["option_entropy"] = entropy_of(torch.log_softmax(over_labels, dim=-1))
    return estimates


def label_log_probabilities(logits: torch.Tensor, label_ids: Sequence[int]) -> tuple[float, ...]:
    """Ln p of every label over the full vocabulary, from logits [vocabulary]; () without labels."""
    if not label_ids:
        return ()
    log_p = torch.log_softmax(logits.float(), dim=-1)
    return tuple(log_p[torch.tensor(list(label_ids), device=log_p.device)].tolist())


def entropy_of(log_p: torch.Tensor) -> float:
    """H = -sum p ln p in nats of log-probabilities [outcomes]; outcomes of p = 0 add nothing."""
    return float(torch.special.entr(log_p.exp()).sum())
