"""Next-token logits in, complexity estimates out. All in float32, entropies in nats."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

# Logits that are held in float32 at a time, a few times over: 1 MiB of them on a CPU, 16 elsewhere.
_CHUNK, _CHUNK_ELSEWHERE = 2**18, 2**22


class TokenSpread(NamedTuple):
    """The distribution of a token: entropy in nats, top-1 probability, top-2 margin."""

    entropy: float
    top1: float
    margin: float


class Estimated(NamedTuple):
    """The likeliest token, every estimate by name, and ln p of every label (full vocabulary)."""

    token: int
    estimates: dict[str, float | None]
    label_log_p: tuple[float, ...]


def estimate_complexity(
    logits: torch.Tensor, label_ids: Sequence[Sequence[int]]
) -> list[Estimated]:
    """Every estimate that one forward pass yields, from logits [rows, vocabulary].

    `answer_entropy` is H = -sum p ln p over the FULL vocabulary (paper, section on the
    single-token entropy; not renormalised to the options). `option_entropy` renormalises to the
    row's labels, `option_mass` is their share of the probability; both are None for free text,
    which has no labels. Rows are read together, since an accelerator waits for every number that is
    read alone.
    """
    most = _CHUNK if logits.device.type == "cpu" else _CHUNK_ELSEWHERE
    rows = max(1, most // logits.shape[1])
    return [
        estimated
        for start in range(0, len(logits), rows)
        for estimated in _estimate(logits[start : start + rows], label_ids[start : start + rows])
    ]


def entropy_of(log_p: torch.Tensor) -> torch.Tensor:
    """H = -sum p ln p in nats over the last dimension; outcomes of p = 0 add nothing."""
    entropy: torch.Tensor = torch.special.entr(log_p.exp()).sum(-1)
    return entropy


def measure_spread(logits: torch.Tensor) -> list[TokenSpread]:
    """Of every row of logits [rows, vocabulary]."""
    read = _spread_of(torch.log_softmax(logits.float(), dim=-1)).tolist()
    return [TokenSpread(entropy, first, first - second) for entropy, first, second in read]


def _spread_of(log_p: torch.Tensor) -> torch.Tensor:
    """Entropy and the two largest probabilities of every row."""
    return torch.cat([entropy_of(log_p)[:, None], log_p.topk(2).values.exp()], dim=-1)


def _estimate(logits: torch.Tensor, label_ids: Sequence[Sequence[int]]) -> list[Estimated]:
    log_p = torch.log_softmax(logits.float(), dim=-1)
    most = max(map(len, label_ids))
    filled = torch.tensor([[*ids, *(-1,) * (most - len(ids))] for ids in label_ids])
    filled = filled.to(log_p.device).view(len(label_ids), most)
    over_labels = log_p.gather(1, filled.clamp(min=0)).masked_fill(filled < 0, -torch.inf)
    of_labels = [entropy_of(torch.log_softmax(over_labels, dim=-1)), over_labels.exp().sum(-1)]
    of_all = torch.cat([_spread_of(log_p), torch.stack(of_labels, dim=-1)], dim=-1)
    rows = zip(
        logits.argmax(-1).tolist(), of_all.tolist(), over_labels.tolist(), label_ids, strict=True
    )
    return [
        Estimated(
            token,
            {
                "answer_entropy": answer_entropy,
                "option_entropy": option_entropy if ids else None,
                "option_mass": option_mass if ids else None,
                "top1_probability": first,
                "top1_margin": first - second,
            },
            tuple(label_log_p[: len(ids)]),
        )
        for token, (answer_entropy, first, second, option_entropy, option_mass), label_log_p, ids
        in rows
    ]  # fmt: skip
