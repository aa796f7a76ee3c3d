"""What a folder must hold to be loaded as a student; read without any framework."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from caft.errors import UserError

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
CAUSAL_LM_ENDINGS = ("ForCausalLM", "LMHeadModel")


def refuse_unloadable_folder(folder: Path, given: str) -> None:
    """Raise UserError unless `folder` is a causal LM with safetensors and a tokenizer.

    `given` says where the folder's name came from, such as `model.path=...`. Takes
    milliseconds: weights are looked for, not read.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(
            f"{given} {what}; give a folder with config.json, {WEIGHTS} and tokenizer files"
        )
    _refuse_other_architectures(_read_json(folder / "config.json", given), given)
    _refuse_missing_weights(folder, given)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(
            f"{given} has no tokenizer; save one there with tokenizer.save_pretrained "
            f"(one of {', '.join(TOKENIZER_FILES)} is needed)"
        )


def _read_json(path: Path, given: str) -> dict[str, Any]:
    if not path.is_file():
        hint = "save the model there with save_pretrained"
        if (path.parent / "adapter_config.json").is_file():
            hint = "it holds a PEFT adapter; give the folder of a whole model"
        raise UserError(f"{given} has no {path.name}; {hint}")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{given} has a {path.name} that is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{given} has a {path.name} that is no JSON object; save the model again")
    return values


def _refuse_other_architectures(config: dict[str, Any], given: str) -> None:
    names = config.get("architectures") or []
    if not any(str(name).endswith(CAUSAL_LM_ENDINGS) for name in names):
        found = ", ".join(map(str, names)) or "nothing"
        raise UserError(
            f"{given} names {found} under architectures in config.json; "
            "give a causal language model (...ForCausalLM)"
        )


def _refuse_missing_weights(folder: Path, given: str) -> None:
    if (folder / WEIGHTS).is_file():
        return
    if (folder / WEIGHTS_INDEX).is_file():
        shards = set(_read_json(folder / WEIGHTS_INDEX, given).get("weight_map", {}).values())
        missing = sorted(name for name in shards if not (folder / name).is_file())
        if missing or not shards:
            raise UserError(
                f"{given} lacks {len(missing)} of {len(shards)} weight files that "
                f"{WEIGHTS_INDEX} names ({', '.join(missing[:3])}); copy them there"
            )
        return
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    hint = f"save the model there as {WEIGHTS}"
    if pickles:
        hint = (
            f"{pickles[0]} is a pickle, which runs code when loaded: save the model again with "
            "save_pretrained, which writes safetensors"
        )
    raise UserError(f"{given} has no {WEIGHTS}; {hint}")
