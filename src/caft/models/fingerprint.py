"""Identifies a model by sixteen hexadecimal digits."""

from __future__ import annotations

import hashlib
from pathlib import Path

from caft.models.config import HubModelConfig, ModelConfig
from caft.models.sources.folder import weight_files
from caft.sums import digest_file

WEIGHT_FILES = "model*.safetensors"
"""Their usual names: in a folder, an index may give others."""
CONTENT_FILES = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "tokenizer*",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "chat_template*",
    "*.model",
)
CODE_FILES = ("*.py",)


def model_files(config: ModelConfig) -> tuple[str, ...]:
    """Patterns of the files at a repository's top level that make up the model."""
    return (WEIGHT_FILES, *_other_files(config))


def _other_files(config: ModelConfig) -> tuple[str, ...]:
    return CONTENT_FILES + (CODE_FILES if config.trust_remote_code else ())


def model_fingerprint(folder: Path, config: ModelConfig) -> str:
    """Changes whenever the model or its tokenizer would reply otherwise; dtype is not in it.

    Hub models: id and commit (the name of the snapshot folder). All others: the contents of their
    files, some 1 s a GB, so that a folder whose contents changed is a new model.
    """
    if isinstance(config, HubModelConfig) and config.path is None:
        return hashlib.sha256(f"{config.id}@{folder.name}".encode()).hexdigest()[:16]
    digest = hashlib.sha256()
    others = (path for name in _other_files(config) for path in folder.glob(name))
    files = {*weight_files(folder, str(folder)), *(path for path in others if path.is_file())}
    for path in sorted(files):
        digest.update(f"{path.name} {digest_file(path)}\n".encode())
    return digest.hexdigest()[:16]
