"""What a user takes away: `adapter/` with its model card, and `merged/` where it is wanted."""

from __future__ import annotations

import shutil
from pathlib import Path

from caft.models.adapters import is_adapter, merge_adapter
from caft.models.loading import resolve_dtype
from caft.models.student import Student


def deliver(tuned: Student, folder: Path, card: str, *, merge: bool) -> None:
    """Copy the tuned weights to `folder`/adapter; with `merge`, a whole model to `folder`/merged.

    The merged model needs neither peft nor the base model: transformers, vLLM and lm-eval load it.
    """
    assert tuned.tuned is not None
    shutil.copytree(tuned.tuned, folder / "adapter", dirs_exist_ok=True)
    (folder / "adapter" / "README.md").write_text(card, encoding="utf-8")
    if not merge:
        return
    if is_adapter(tuned.tuned):
        dtype = resolve_dtype(tuned.config, tuned.device)
        merge_adapter(tuned.load(), dtype).save_pretrained(folder / "merged")
        tuned.tokenizer.save_pretrained(folder / "merged")
    else:
        shutil.copytree(tuned.tuned, folder / "merged", dirs_exist_ok=True)
    (folder / "merged" / "README.md").write_text(card, encoding="utf-8")
