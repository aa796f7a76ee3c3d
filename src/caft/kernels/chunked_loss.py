"""The output head and the loss, without logits of all trained tokens at once.

A vocabulary of 200,000 makes the logits of one long rationale the largest thing in memory, in
two dtypes and once more for their gradient. Here they exist for a chunk of tokens at a time, and
the gradient of the hidden states is made while they are there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

from caft.protocols import CausalLM

# Logits in float32 at a time: 64 MiB of them.
_CHUNK = 2**24
# And rows of them, where the head is not a plain one and its logits are there already.
_ROWS = 512
TokenWeights = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Weights of tokens in the gradient, [tokens, 1], from ln p of every word [tokens, vocabulary] and
of the label [tokens, 1]. Constants: no gradient flows through them."""
_PLAIN = "caft_plain_head"
# Logits that every cap changes, whatever the weights are.
_LARGE = 1e4


def has_plain_head(model: CausalLM) -> bool:
    """Whether the model's logits are one linear layer of its hidden states, without a bias.

    They may be scaled, by one number. A pass of two tokens shows it, once a model; the layer itself
    may have got an adapter since.
    """
    head = model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None:
        return False
    if not hasattr(model, _PLAIN):
        setattr(model, _PLAIN, _keeps_logits(model))
    return bool(getattr(model, _PLAIN))


@torch.no_grad()
def _keeps_logits(model: CausalLM) -> bool:
    """Whether what the head says, times a constant, are the logits: no cap and nothing added."""
    head = model.get_output_embeddings()
    assert isinstance(head, torch.nn.Linear)
    words = head.weight.shape[0]
    said = torch.linspace(-_LARGE, _LARGE, words, device=model.device).to(model.dtype)
    was_training = model.training
    model.eval()
    with _head_as(model, lambda hidden: said.expand(*hidden.shape[:-1], words).clone()):
        tokens = torch.tensor([[1, 2]], device=model.device)
        logits = model(input_ids=tokens, use_cache=False).logits[0, -1].float()
    if was_training:
        model.train()
    factor = logits[-1] / _LARGE
    rounding = 4 * torch.finfo(said.dtype).eps
    return torch.allclose(logits, factor * said.float(), rtol=rounding, atol=rounding)


@contextmanager
def _head_as(model: CausalLM, forward: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    head = model.get_output_embeddings()
    vars(head)["forward"] = forward
    try:
        yield
    finally:
        del vars(head)["forward"]


@contextmanager
def without_head(model: CausalLM) -> Iterator[None]:
    """Within the body, the model's "logits" are the hidden states that its head would read."""
    with _head_as(model, lambda hidden: hidden):
        yield


def summed_head_loss(
    model: CausalLM,
    hidden: torch.Tensor,
    labels: torch.Tensor,
    weigh: TokenWeights | None = None,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum of -ln p(label) in nats; hidden [trained tokens, size], labels [trained tokens].

    With `weigh` the gradient is that of the weighted sum; the value stays the cross-entropy, so
    that curves of different losses compare. `shares` [trained tokens] multiply both.
    """
    head_loss: Callable[..., torch.Tensor] = _HeadLoss.apply
    return head_loss(hidden, model.get_output_embeddings().weight, labels, weigh, shares)


def summed_cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weigh: TokenWeights | None = None,
    shares: torch.Tensor | None = None,
) -> torch.Tensor:
    """Sum of -ln p(label) in nats; logits [trained tokens, vocabulary], labels [trained tokens].

    Float32, whatever the logits are. A mean over micro-batches would weigh short ones too much;
    the caller divides the sum by the trained tokens of the optimizer step. `weigh` and `shares` are
    as above.
    """
    sums = [
        _cross_entropy(logits[rows].float(), labels[rows], weigh, shares, rows)
        for rows in (slice(at, at + _ROWS) for at in range(0, len(labels), _ROWS))
    ]
    return torch.stack(sums).sum()


def _cross_entropy(
    logits: torch.Tensor,
    labels: torch.Tensor,
    weigh: TokenWeights | None,
    shares: torch.Tensor | None,
    rows: slice,
) -> torch.Tensor:
    if weigh is None and shares is None:
        return cross_entropy(logits, labels, reduction="sum")
    losses = cross_entropy(logits, labels, reduction="none")
    shared = losses if shares is None else losses * shares[rows]
    if weigh is None:
        return shared.sum()
    weights = weigh(logits.detach().log_softmax(-1), -losses.detach()[:, None])[:, 0]
    weighted = (weights * shared).sum()
    return weighted + (shared.sum() - weighted).detach()


class _HeadLoss(torch.autograd.Function):
    """Cross-entropy of hidden W^T, summed in float32; the forward pass makes its gradients."""

    @staticmethod
    def forward(  # noqa: PLR0917
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        labels: torch.Tensor,
        weigh: TokenWeights | None,
        shares: torch.Tensor | None,
    ) -> torch.Tensor:
        """In: hidden [tokens, size], weight [vocabulary, size], labels and shares [tokens]."""
        of_hidden, of_weight, *_ = ctx.needs_input_grad
        head = weight.to(hidden.dtype)
        grad_hidden = torch.empty_like(hidden) if of_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=torch.float32) if of_weight else None
        total = hidden.new_zeros((), dtype=torch.float32)
        rows = max(1, _CHUNK // weight.shape[0])
        for start in range(0, len(labels), rows):
            chunk, truth = hidden[start : start + rows], labels[start : start + rows, None]
            log_p = (chunk @ head.T).float()
            log_p -= log_p.logsumexp(dim=-1, keepdim=True)
            chosen = log_p.gather(1, truth)
            share = None if shares is None else shares[start : start + rows, None]
            total -= (chosen if share is None else chosen * share).sum()
            if not (of_hidden or of_weight):
                continue
            weights = None if weigh is None else weigh(log_p, chosen)
            # d loss / d logits = p - 1 at the label, p elsewhere.
            grad = log_p.exp_()
            grad.scatter_add_(1, truth, grad.new_full(truth.shape, -1.0))
            for factor in (weights, share):
                if factor is not None:
                    grad *= factor
            grad = grad.to(hidden.dtype)
            if grad_hidden is not None:
                grad_hidden[start : start + rows] = grad @ head
            if grad_weight is not None:
                grad_weight += grad.T @ chunk
        ctx.save_for_backward(grad_hidden, grad_weight)
        ctx.dtype = weight.dtype
        return total

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator, unused-ignore]
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Scaled by the gradient of the sum, such as one over the step's trained tokens."""
        grad_hidden, grad_weight = ctx.saved_tensors
        return (
            None if grad_hidden is None else grad_hidden * grad,
            None if grad_weight is None else (grad_weight * grad).to(ctx.dtype),
            None,
            None,
            None,
        )
