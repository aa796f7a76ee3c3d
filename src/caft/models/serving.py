"""Writes the tokenizer and generation config next to weights, so that servers end replies as we do.

A model is trained to end a reply with its template's token. Other programs read that from the
generation config, or from the tokenizer's EOS, and the base model's may name another token: the
reply then runs on into further turns.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from caft.errors import UserError
from caft.models.chat_template import render_closed_turn, render_turns
from caft.models.encoding import end_of_turn
from caft.models.loading import quiet_transformers
from caft.models.sources.folder import GENERATION_CONFIG, read_settings
from caft.models.student import Student
from caft.protocols import Tokenizer

if TYPE_CHECKING:
    from transformers import GenerationConfig

# Without sampling they mean nothing, and transformers saves no config that has them.
_SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff",
)  # fmt: skip
# They would forbid the end token for that many tokens, even after an answer of one token. Zero and
# not left out: `generate` takes what a config leaves out from the base model's own.
_FORBID_THE_END = ("min_length", "min_new_tokens")


def save_for_serving(tuned: Student, folder: Path, *, chat: bool) -> None:
    """Write the tokenizer and generation_config.json into `folder`, next to the weights.

    The trained end token is the first that ends a reply; those that the base model names follow.
    """
    end = end_of_turn(tuned.tokenizer, chat=chat)
    ends = [end, *(token for token in tuned.end_ids(chat=chat) if token != end)]
    with quiet_transformers():
        tokenizer_that_ends(tuned.tokenizer, end).save_pretrained(folder)
        pad = tuned.tokenizer.pad_token_id
        settings = generation_settings(read_settings(tuned.folder / GENERATION_CONFIG), ends, pad)
        settings.save_pretrained(folder)
    config = folder / "config.json"
    if config.is_file():  # a whole model: some servers look nowhere else
        values = json.loads(config.read_text(encoding="utf-8"))
        values["eos_token_id"] = settings.eos_token_id
        config.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def generation_settings(
    base: Mapping[str, object], ends: Sequence[int], pad: int | None
) -> GenerationConfig:
    """A valid config: the base model's settings, but ending with any of `ends`.

    Settings that would have no effect, or would forbid the end, are left out.
    """
    from transformers import GenerationConfig

    left_out = {"eos_token_id"}
    if base.get("do_sample") is not True:
        left_out.update(_SAMPLING)
    kept = {name: value for name, value in base.items() if name not in left_out}
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        suppressed = kept.get(name)
        if isinstance(suppressed, list):
            kept[name] = [token for token in suppressed if token not in ends] or None
    fixed: dict[str, object] = {"eos_token_id": ends[0] if len(ends) == 1 else list(ends)}
    fixed.update({name: 0 for name in _FORBID_THE_END if name in kept})
    if kept.get("pad_token_id") is None and pad is not None:
        fixed["pad_token_id"] = pad
    try:
        settings = GenerationConfig(**{**kept, **fixed})
        settings.validate(strict=True)
    except (ValueError, TypeError):
        # The end tokens matter more than the model's sampling settings.
        tokens = {name: value for name, value in kept.items() if name.endswith("_token_id")}
        settings = GenerationConfig(**{**tokens, **fixed})
    return settings


def tokenizer_that_ends(tokenizer: Tokenizer, end: int) -> Tokenizer:
    """A copy whose EOS is the trained end token, unless its template would then write otherwise."""
    changed = copy.deepcopy(tokenizer)
    if tokenizer.eos_token_id == end:
        return changed
    before = _rendered(changed)
    changed.eos_token = tokenizer.convert_ids_to_tokens(end)
    # Some templates write the EOS between turns.
    return changed if _rendered(changed) == before else copy.deepcopy(tokenizer)


def _rendered(tokenizer: Tokenizer) -> tuple[str, str]:
    try:
        prompt = render_turns(tokenizer, [{"role": "user", "content": "caft probe"}])
    except UserError:  # it needs a system turn
        prompt = ""
    return prompt, render_closed_turn(tokenizer)
