"""What a folder must hold to be loaded as a student; read without any framework."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypedDict

from caft.errors import UserError, count_of

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
GENERATION_CONFIG = "generation_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
CAUSAL_LM_ENDINGS = ("ForCausalLM", "LMHeadModel")
# Types whose decoder transformers reads alone, leaving out the weights for pictures.
_READ_WITHOUT_PICTURES = ("qwen3_5", "qwen3_5_moe")

_CONDITIONAL = re.compile("ForConditionalGeneration$")
# The decoder's own: towers for images and sounds count theirs elsewhere.
_LAYER = re.compile(r"^(?:(?:model|transformer|gpt_neox)\.)?(?:layers|h)\.(\d+)\.")
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Buffers that old checkpoints hold, and heads that predict further tokens ahead: no part of the
# model that answers.
_NOT_WEIGHTS = re.compile(
    r"rotary_emb\.inv_freq$|(?:^|\.)position_ids$|(?:attn|attention)\.(?:masked_)?bias$"
    r"|(?:^|\.)mtp(?:_\w+)?\."
)


class UnloadableFolderError(UserError):
    """A folder lacks a part of a model: `fault` says which, `remedy` what its owner can do."""

    def __init__(self, fault: str, remedy: str) -> None:
        super().__init__(f"{fault}; {remedy}")
        self.fault = fault


class StoredTensor(TypedDict):
    """What the header of a safetensors file says of a tensor."""

    shape: list[int]
    data_offsets: list[int]


def refuse_unloadable_folder(folder: Path, given: str) -> None:
    """Raise UserError unless `folder` is a causal LM with safetensors and a tokenizer.

    It is an UnloadableFolderError where the remedy depends on whose folder it is. `given` says
    where the folder's name came from, such as `model.path=...`. Takes milliseconds: of the weights
    only the headers are read.
    """
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise UserError(
            f"{given} {what}; give a folder with config.json, {WEIGHTS} and tokenizer files"
        )
    config = _read_json(folder / "config.json", given)
    _refuse_other_architectures(config, given)
    if (folder / GENERATION_CONFIG).exists():
        _read_json(folder / GENERATION_CONFIG, given)
    files = weight_files(folder, given)
    names = [name for file in files for name in read_header(file, given)]
    unused = unused_weights(names, config)
    if unused:
        raise explain_unused(given, unused)
    if not _has_tokenizer(folder):
        raise UnloadableFolderError(
            f"{given} has no tokenizer",
            "save one there with tokenizer.save_pretrained "
            f"(one of {', '.join(TOKENIZER_FILES)} is needed)",
        )


def holds_model(folder: Path) -> bool:
    """Whether config.json, a tokenizer and all weights are there, whatever is in them."""
    try:
        weight_files(folder, str(folder))
    except UserError:
        return False
    return (folder / "config.json").is_file() and _has_tokenizer(folder)


def _has_tokenizer(folder: Path) -> bool:
    return any((folder / name).is_file() for name in TOKENIZER_FILES)


def read_settings(file: Path) -> dict[str, object]:
    """The JSON object in `file`; empty if there is none."""
    values = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return values if isinstance(values, dict) else {}


def _read_json(path: Path, given: str) -> dict[str, object]:
    if not path.is_file():
        hint = "save the model there with save_pretrained"
        if (path.parent / "adapter_config.json").is_file():
            hint = "it holds a PEFT adapter; give the folder of a whole model"
        raise UnloadableFolderError(f"{given} has no {path.name}", hint)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        fault = f"{given} has a {path.name} that is not JSON ({error})"
        raise UnloadableFolderError(fault, "save the model again") from error
    if not isinstance(values, dict):
        fault = f"{given} has a {path.name} that is not a JSON object"
        raise UnloadableFolderError(fault, "save the model again")
    return values


def _refuse_other_architectures(config: Mapping[str, object], given: str) -> None:
    named = config.get("architectures")
    names = list(map(str, named)) if isinstance(named, list) else []
    causal = any(name.endswith(CAUSAL_LM_ENDINGS) for name in names)
    if not causal and not _is_read_as_causal(names, config):
        found = ", ".join(names) or "nothing"
        raise UserError(
            f"{given} names {found} under architectures in config.json; "
            "give a causal language model (...ForCausalLM)"
        )


def _is_read_as_causal(names: Iterable[str], config: Mapping[str, object]) -> bool:
    """Whether transformers takes it for a causal LM by another name, as Gemma 3 with pictures.

    It is asked about such names only: to import it takes seconds.
    """
    if config.get("is_encoder_decoder") or not any(map(_CONDITIONAL.search, names)):
        return False
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as TAKEN

    taken = TAKEN.get(str(config.get("model_type")))
    return taken in names or config.get("model_type") in _READ_WITHOUT_PICTURES


def read_header(file: Path, given: str) -> dict[str, StoredTensor]:
    """Every tensor of a safetensors file by name.

    UserError for one that is cut off, or none. `given` as in `refuse_unloadable_folder`.
    """
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length) if length <= size - 8 else b"")
        header.pop("__metadata__", None)
        tensors: dict[str, StoredTensor] = header
        ends = max((tensor["data_offsets"][1] for tensor in tensors.values()), default=0)
        whole = size == 8 + length + ends
    except (ValueError, AttributeError, TypeError, KeyError, IndexError):
        whole = False
    if not whole:
        raise UserError(
            f"{given} cannot be loaded: {file.name} ({size:,} bytes) is cut off or no safetensors "
            "file; copy or download it again"
        )
    return tensors


def text_settings(config: Mapping[str, object]) -> Mapping[str, object]:
    """The settings of the text model, which one that also sees has in a part of its own."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def unused_weights(names: Iterable[str], config: Mapping[str, object]) -> list[str]:
    """Those of layers that config.json does not count: it would be another, smaller model."""
    settings = text_settings(config)
    counts = [count for name in _LAYER_COUNTS if isinstance(count := settings.get(name), int)]
    if not counts:
        return []
    ahead = settings.get("num_nextn_predict_layers")
    layers = max(counts) + (ahead if isinstance(ahead, int) else 0)
    return [
        name
        for name in without_buffers(names)
        if (found := _LAYER.search(name)) and int(found[1]) >= layers
    ]


def without_buffers(names: Iterable[str]) -> Iterator[str]:
    """The names that are weights: not masks, angles or heads for further tokens."""
    return (name for name in names if not _NOT_WEIGHTS.search(name))


def explain_unused(where: str, names: Iterable[str]) -> UnloadableFolderError:
    """The error for weights that the model of config.json has no place for."""
    found = sorted(names)
    return UnloadableFolderError(
        f"{where} holds weights that config.json has no place for ({len(found)}, such as "
        f"{found[0]}): another model than the one saved",
        "save config and weights together again",
    )


def weight_files(folder: Path, given: str) -> list[Path]:
    """The files whose weights are loaded: `model.safetensors`, else those that the index names.

    UserError if they are not there. `given` as in `refuse_unloadable_folder`.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / WEIGHTS_INDEX).is_file():
        return _shards(folder, given)
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    hint = f"save the model there as {WEIGHTS}"
    if pickles:
        hint = (
            f"{pickles[0]} is a pickle, which runs code when loaded: save the model again with "
            "save_pretrained, which writes safetensors"
        )
    raise UnloadableFolderError(f"{given} has no {WEIGHTS}", hint)


def _shards(folder: Path, given: str) -> list[Path]:
    named = _read_json(folder / WEIGHTS_INDEX, given).get("weight_map")
    shards = sorted(set(map(str, named.values()))) if isinstance(named, dict) else []
    for name in shards:
        if name != Path(name).name or "\\" in name or not name.endswith(".safetensors"):
            raise UnloadableFolderError(
                f"{given} has a {WEIGHTS_INDEX} that names {name!r}; weights are taken from "
                "safetensors files in the model's own folder only",
                "save the model again with save_pretrained",
            )
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing or not shards:
        raise UnloadableFolderError(
            f"{given} lacks {len(missing)} of {count_of(len(shards), 'weight file')} that "
            f"{WEIGHTS_INDEX} names ({', '.join(missing[:3])})",
            "copy them there",
        )
    return [folder / name for name in shards]
