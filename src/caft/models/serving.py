"""What stands beside weights so that others stop where ours do: tokenizer and generation config.

A model is trained to end a reply with its template's token. Whoever loads it asks the generation
config for that, or the tokenizer's EOS, and the base model's may name another token: the reply
then runs on into turns that nobody asked for.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caft.errors import UserError
from caft.models.chat_template import render_closed_turn, render_turns
from caft.models.encoding import end_of_turn
from caft.models.loading import quiet_transformers
from caft.models.student import Student

GENERATION_CONFIG = "generation_config.json"
# Without sampling they mean nothing, and transformers saves no config that has them.
_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
# They would forbid the end token for as long, behind an answer of one token too. Zero and not left
# out: `generate` fills what a config leaves out from the base model's own.
_FORBID_THE_END = ("min_length", "min_new_tokens")


def save_for_serving(tuned: Student, folder: Path, *, chat: bool) -> None:
    """Write the tokenizer and generation_config.json into `folder`, beside the weights.

    The trained end token is the first that ends a reply; those that the base model names follow.
    """
    end = end_of_turn(tuned.tokenizer, chat=chat)
    ends = [end, *(token for token in tuned.end_ids(chat=chat) if token != end)]
    with quiet_transformers():
        tokenizer_that_ends(tuned.tokenizer, end).save_pretrained(folder)
        pad = tuned.tokenizer.pad_token_id
        settings = generation_settings(read_generation_config(tuned.folder), ends, pad)
        settings.save_pretrained(folder)
    config = folder / "config.json"
    if config.is_file():  # a whole model: some servers look nowhere else
        values = json.loads(config.read_text(encoding="utf-8"))
        values["eos_token_id"] = settings.eos_token_id
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def read_generation_config(folder: Path) -> dict[str, Any]:
    """The model's own settings as its file has them; empty where it has none."""
    file = folder / GENERATION_CONFIG
    told = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return told if isinstance(told, dict) else {}


def generation_settings(told: dict[str, Any], ends: Sequence[int], pad: int | None) -> Any:
    """A valid transformers config: the model's settings, ending with any of `ends`.

    Settings that would have no effect, or would forbid the end, are left out.
    """
    from transformers import GenerationConfig

    left_out = {"eos_token_id"}
    if told.get("do_sample") is not True:
        left_out.update(_SAMPLING)
    kept = {name: value for name, value in told.items() if name not in left_out}
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        if isinstance(kept.get(name), list):
            kept[name] = [token for token in kept[name] if token not in ends] or None
    fixed: dict[str, Any] = {"eos_token_id": ends[0] if len(ends) == 1 else list(ends)}
    fixed.update({name: 0 for name in _FORBID_THE_END if name in kept})
    if kept.get("pad_token_id") is None and pad is not None:
        fixed["pad_token_id"] = pad
    try:
        settings = GenerationConfig(**{**kept, **fixed})
        settings.validate(strict=True)
    except (ValueError, TypeError):
        # Rather the model's sampling is lost than its end.
        tokens = {name: value for name, value in kept.items() if name.endswith("_token_id")}
        settings = GenerationConfig(**{**tokens, **fixed})
    return settings


def tokenizer_that_ends(tokenizer: Any, end: int) -> Any:
    """A copy whose EOS is the trained end token, unless its template would then write otherwise."""
    changed = copy.deepcopy(tokenizer)
    if tokenizer.eos_token_id == end:
        return changed
    before = _rendered(changed)
    changed.eos_token = tokenizer.convert_ids_to_tokens(end)
    # Some templates write the EOS between turns.
    return changed if _rendered(changed) == before else copy.deepcopy(tokenizer)


def _rendered(tokenizer: Any) -> tuple[str, str]:
    try:
        asked = render_turns(tokenizer, [{"role": "user", "content": "caft probe"}])
    except UserError:  # it wants a system turn
        asked = ""
    return asked, render_closed_turn(tokenizer)
