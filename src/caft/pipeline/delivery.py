"""What a user takes away: `adapter/` with its model card, and `merged/` where it is wanted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from caft.models.adapters import is_adapter, merge_adapter, save_tuned
from caft.models.loading import resolve_dtype
from caft.models.serving import save_for_serving
from caft.models.student import Student
from caft.report.card import Weights
from caft.store import Artifact
from caft.tune.stage import copy_tuned


def deliver(
    tuned: Student,
    artifact: Artifact,
    folder: Path,
    card: Callable[[Weights], str | None],
    *,
    merge: bool,
    chat: bool,
) -> None:
    """Copy the tuned weights to `folder`/adapter; with `merge`, a whole model to `folder`/merged.

    Tokenizer and generation config go with them; `chat` says whether turns were trained.
    The merged model needs neither peft nor the base model: transformers, vLLM and lm-eval load it.
    `card` writes the text that goes with each kind of weights, or None where it cannot. UserError
    where the weights are no longer those that were taken from `artifact`.
    """
    assert tuned.tuned is not None
    weights = Weights.adapter if is_adapter(tuned.tuned) else Weights.full
    _copy(artifact, folder / "adapter", card(weights))
    save_for_serving(tuned, folder / "adapter", chat=chat)
    if not merge:
        return
    if weights is Weights.full:
        _copy(artifact, folder / "merged", card(weights))
        save_for_serving(tuned, folder / "merged", chat=chat)
        return
    dtype = resolve_dtype(tuned.config, tuned.device)
    save_tuned(merge_adapter(tuned.load(), dtype), folder / "merged", dtype=dtype, base=tuned.base)
    save_for_serving(tuned, folder / "merged", chat=chat)
    _write_card(folder / "merged", card(Weights.merged))


def _copy(artifact: Artifact, folder: Path, card: str | None) -> None:
    copy_tuned(artifact, folder)
    _write_card(folder, card)


def _write_card(folder: Path, card: str | None) -> None:
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
