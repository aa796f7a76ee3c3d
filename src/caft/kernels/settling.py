"""Whether a model can run packs: tried when it is loaded, since no name tells it."""

from __future__ import annotations

import math
from dataclasses import replace

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
_PREFIX, _ROW, _NEXT = [1, 2], [3, 4], 5
_NEIGHBOURS = [6, 7], [8, 9]


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
    row = torch.tensor([[*_PREFIX, *_ROW, _NEXT]], device=model.device)
    alone = model(input_ids=row, use_cache=False).logits[0, -2:]
    if not torch.isfinite(alone).all():
        return None  # scoring names the question
    try:
        with trial_attention(model), watched_windows() as windows:
            one, other, following = _try_packs(model)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return "its attention takes no function of ours"
    rounding = torch.finfo(one.dtype).eps
    if _apart(one, other) > max(4 * rounding, _SMALLEST_LEAK):
        return "a row of a pack would depend on its neighbour"
    if _apart(torch.stack([one, following]), alone) > max(32 * rounding, _SMALLEST_DIFFERENCE):
        return "its attention has something that packs do not know"
    if not _layers_with_windows(model) <= windows:
        return "its attention has a window that packs are not told of"
    return None


def _try_packs(model: CausalLM) -> tuple[torch.Tensor, ...]:
    """The logits behind a row beside one neighbour and another, and behind its next token.

    All of it behind a shared prefix; the next token reads what has been kept of the row.
    """
    prefix = compute_prefix(model, _PREFIX, model.device)
    said = []
    for neighbour in _NEIGHBOURS:
        cache = ReplyCache(prefix, [len(neighbour), len(_ROW)], model.device)
        kept = cache.admit([[0], [1]], [len(neighbour), len(_ROW)])
        pack = pack_rows([neighbour, _ROW], len(_PREFIX)).to(model.device)
        layout = replace(pack.layout, prefix=prefix, keep=kept)
        pack = replace(pack, layout=layout)
        said.append(packed_logits(model, pack, torch.tensor([pack.input_ids.shape[1] - 1]))[0])
    cache.begin_step()
    tokens = torch.tensor([_NEXT, _NEXT], device=model.device)
    return *said, step_logits(model, cache, tokens)[1]


def _apart(found: torch.Tensor, expected: torch.Tensor) -> float:
    """The largest difference of a row of logits, as a share of its norm."""
    found, expected = found.float(), expected.float()
    return float(((found - expected).norm(dim=-1) / expected.norm(dim=-1)).max())


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
