"""Whether a model can run packs: tried when it is loaded, since no name tells it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from caft.kernels.kv_cache import ReplyCache
from caft.kernels.packed_attention import run_alone, trial_attention, watched_windows
from caft.kernels.packing import compute_prefix, pack_rows, packed_logits
from caft.kernels.token_steps import step_logits
from caft.protocols import CausalLM

# In mixtures of experts, the shapes of products depend on the other rows in the pack.
_SMALLEST_LEAK = 1e-4
# Between two ways of computing the same, of which each rounds otherwise.
_SMALLEST_DIFFERENCE = 1e-2
# Half of which have to differ: behind tokens that are rarely trained rounding alone can change
# bfloat16 logits by half of their norm, and behind most by a hundredth.
_ROWS = 7
_LENGTH = 3
"""Tokens of the prefix, of a row and of its neighbour."""


def settle_packing(model: CausalLM) -> str | None:
    """Let `model` run row by row if it cannot run packs, and say why; None if it can.

    Attention can be kept inside a row; a convolution or a state that runs along the sequence
    (LFM2, Mamba, linear attention) cannot, nor do all architectures take an attention function of
    ours, or tell it of their windows. Five short passes show this.
    """
    if reason := _why_alone(model):
        run_alone(model)
    return reason


@torch.inference_mode()
def _why_alone(model: CausalLM) -> str | None:
    tokens = _Tokens.spread_over(model)
    alone = model(input_ids=tokens.rows.to(model.device), use_cache=False).logits[:, -2:]
    if not torch.isfinite(alone).all():
        return None  # scoring names the question
    try:
        with trial_attention(model), watched_windows() as windows:
            one, other, following = _try_packs(model, tokens)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return "its attention takes no function of ours"
    rounding = torch.finfo(one.dtype).eps
    if _apart(one, other) > max(4 * rounding, _SMALLEST_LEAK):
        return "a row of a pack would depend on its neighbour"
    apart = max(_apart(one, alone[:, 0]), _apart(following, alone[:, 1]))
    if apart > max(16 * rounding, _SMALLEST_DIFFERENCE):
        return "its attention has something that packs do not know"
    if not _layers_with_windows(model) <= windows:
        return "its attention has a window that packs are not told of"
    return None


@dataclass(frozen=True, slots=True)
class _Tokens:
    """`rows` [rows, tokens] begin with the same prefix and end with a token that is written.

    `neighbours` [2, rows, tokens] are two for each row.
    """

    rows: torch.Tensor
    neighbours: torch.Tensor

    @classmethod
    def spread_over(cls, model: CausalLM) -> _Tokens:
        """Over the vocabulary, whose first tokens are special or bytes, and rarely trained."""
        read = _LENGTH + _ROWS * (_LENGTH + 1)
        count = read + 2 * _ROWS * _LENGTH
        words = model.config.get_text_config().vocab_size
        ids = torch.arange(1, count + 1) * words // (count + 1)
        shared, own, others = ids[:_LENGTH], ids[_LENGTH:read], ids[read:]
        return cls(
            torch.cat([shared.expand(_ROWS, -1), own.view(-1, _ROWS).T], dim=1),
            others.view(2, _LENGTH, _ROWS).mT,
        )


def _try_packs(model: CausalLM, tokens: _Tokens) -> tuple[torch.Tensor, ...]:
    """The logits behind rows beside one neighbour each and another, and behind their next tokens.

    All of it behind a shared prefix; the next tokens read what has been kept of the rows.
    """
    prefix = compute_prefix(model, tokens.rows[0, :_LENGTH].tolist(), model.device)
    own, following = tokens.rows[:, _LENGTH:-1], tokens.rows[:, -1:]
    said = []
    for neighbours in tokens.neighbours:
        rows = torch.stack([neighbours, own], dim=1).flatten(0, 1).tolist()
        lengths = [_LENGTH] * len(rows)
        cache = ReplyCache(prefix, lengths, model.device)
        kept = cache.admit([[row] for row in range(len(rows))], lengths)
        pack = pack_rows(rows, _LENGTH).to(model.device)
        pack = replace(pack, layout=replace(pack.layout, prefix=prefix, keep=kept))
        ends = torch.arange(2 * _LENGTH - 1, pack.input_ids.shape[1], 2 * _LENGTH)
        said.append(packed_logits(model, pack, ends))
    cache.begin_step()
    newest = following.expand(-1, 2).flatten().to(model.device)
    return *said, step_logits(model, cache, newest)[1::2]


def _apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The difference of logits as a share of their norm, which half of the rows do not reach."""
    found, expected = found.float(), expected.float()
    shares = (found - expected).norm(dim=-1) / expected.norm(dim=-1)
    return float(shares.median())


def _layers_with_windows(model: CausalLM) -> set[int]:
    """The layers whose attention looks back less far than to the start, by the config."""
    config = model.config.get_text_config()
    chunks = getattr(config, "attention_chunk_size", None)  # of Llama 4, which gives no window
    kinds = getattr(config, "layer_types", None)
    window = chunks or getattr(config, "sliding_window", None)
    if window and window >= getattr(config, "max_position_embeddings", math.inf):
        return set()
    if kinds and not chunks:
        return {layer for layer, kind in enumerate(kinds) if kind == "sliding_attention"}
    return set(range(getattr(config, "num_hidden_layers", 0))) if window else set()
