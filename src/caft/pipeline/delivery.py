"""What a user takes away: `adapter/` with its model card, and `merged/` where it is wanted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from caft.models.adapters import is_adapter, merge_adapter, save_tuned
from caft.models.loading import resolve_dtype
from caft.models.student import Student
from caft.report.card import Weights


def deliver(
    tuned: Student, folder: Path, card: Callable[[Weights], str | None], *, merge: bool
) -> None:
    """Copy the tuned weights to `folder`/adapter; with `merge`, a whole model to `folder`/merged.

    The merged model needs neither peft nor the base model: transformers, vLLM and lm-eval load it.
    `card` writes the text that goes with each kind of weights, or None where it cannot.
    """
    assert tuned.tuned is not None
    weights = Weights.adapter if is_adapter(tuned.tuned) else Weights.full
    _copy(tuned.tuned, folder / "adapter", card(weights))
    if not merge:
        return
    if weights is Weights.full:
        _copy(tuned.tuned, folder / "merged", card(weights))
        return
    dtype = resolve_dtype(tuned.config, tuned.device)
    save_tuned(merge_adapter(tuned.load(), dtype), folder / "merged", dtype=dtype, base=tuned.base)
    tuned.tokenizer.save_pretrained(folder / "merged")
    _write_card(folder / "merged", card(Weights.merged))


def _copy(weights: Path, folder: Path, card: str | None) -> None:
    folder.mkdir(exist_ok=True)
    # Not copytree: it gathers the errors of single files, and a full disk is then none that counts.
    for path in weights.iterdir():
        shutil.copy2(path, folder)
    _write_card(folder, card)


def _write_card(folder: Path, card: str | None) -> None:
    if card is not None:
        (folder / "README.md").write_text(card, encoding="utf-8")
