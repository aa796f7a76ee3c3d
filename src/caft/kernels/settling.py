"""Whether a model can run packs: tried when it is loaded, since no name tells it."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from caft.kernels.kv_cache import ReplyCache
from caft.kernels.packed_attention import run_alone, trial_attention, watched_windows
from caft.kernels.packing import compute_prefix, pack_rows, packed_logits
from caft.kernels.token_steps import step_logits
from caft.kernels.trial import TrialRows, distance, draw_trial, most_by_rounding, rounding
from caft.protocols import CausalLM

# In mixtures of experts, the shapes of products depend on the other rows in the pack.
_SMALLEST_LEAK = 1e-4
# Of `layer_types`; layers of any other kind leave out tokens that are further back.
_REACH_ALL = (
    "full_attention", "attention", "linear_attention", "mamba", "conv", "moe", "sparse", "dense"
)  # fmt: skip


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
    trial = draw_trial(model)
    whole = torch.tensor(trial.whole, device=model.device)
    alone = model(input_ids=whole, use_cache=False).logits[:, len(trial.prefix) :]
    if not torch.isfinite(alone).all():
        return None  # scoring names the question
    try:
        with trial_attention(model), watched_windows() as windows:
            one, other, following = _try_packs(model, trial)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError):
        return "its attention takes no function of ours"
    if not distance(one, other) <= max(4 * rounding(model, one), _SMALLEST_LEAK):
        return "a row of a pack would depend on its neighbour"
    found = torch.cat([one, following[:, None]], dim=1)
    if not distance(found, alone) <= most_by_rounding(model, one):
        return "its attention has something that packs do not know"
    if not _layers_that_leave_out(model) <= windows:
        return "its attention leaves out tokens, and packs are not told which"
    return None


def _try_packs(model: CausalLM, trial: TrialRows) -> tuple[torch.Tensor, ...]:
    """The logits of rows beside one neighbour each and another, and behind their next tokens.

    All of it behind a shared prefix; the next tokens read what has been kept of the rows.
    """
    prefix = compute_prefix(model, trial.prefix, model.device)
    said = []
    for neighbours in trial.neighbours:
        rows = [row for pair in zip(neighbours, trial.own, strict=True) for row in pair]
        lengths = [len(row) for row in rows]
        cache = ReplyCache(prefix, lengths, model.device)
        kept = cache.admit([[row] for row in range(len(rows))], lengths)
        pack = pack_rows(rows, len(trial.prefix)).to(model.device)
        pack = replace(pack, layout=replace(pack.layout, prefix=prefix, keep=kept))
        everywhere = torch.arange(pack.input_ids.shape[1])
        logits = packed_logits(model, pack, everywhere)
        said.append(logits.view(len(rows), lengths[0], -1)[1::2])
    cache.begin_step()
    newest = [token for token in trial.following for _ in range(2)]
    return *said, step_logits(model, cache, torch.tensor(newest, device=model.device))[1::2]


def _layers_that_leave_out(model: CausalLM) -> set[int]:
    """The layers whose attention does not look back to the start of every row, by the config."""
    config = model.config.get_text_config()
    chunks = getattr(config, "attention_chunk_size", None)  # of Llama 4, which gives no window
    kinds = getattr(config, "layer_types", None) or ()
    window = chunks or getattr(config, "sliding_window", None)
    context = getattr(config, "max_position_embeddings", math.inf)
    wide = isinstance(window, int) and window >= context
    if kinds and not chunks:
        reach_all = (*_REACH_ALL, "sliding_attention") if wide else _REACH_ALL
        return {layer for layer, kind in enumerate(kinds) if kind not in reach_all}
    return set(range(getattr(config, "num_hidden_layers", 0))) if window and not wide else set()
