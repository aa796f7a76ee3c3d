"""Randomly initialised models of real architecture classes, for tests and practice."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from caft.models.config import Architecture, TinyModelConfig
from caft.models.loading import quiet_transformers
from caft.models.sources import tiny_tokenizers
from caft.models.sources.cache import cache_folder
from caft.models.sources.tiny_tokenizers import CONTEXT, FAMILIES, make_tokenizer
from caft.protocols import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

HEAD_SIZE = 16
# transformers' usual 0.02 gives a model this narrow the same near-uniform answer to every question.
INITIALIZER_RANGE = 0.2


def name_tiny(config: TinyModelConfig) -> Path:
    """Where the model is, or will be."""
    name = f"{config.architecture.value}-{_recipe(config)}"
    return cache_folder(config.cache) / "tiny" / name


def make_tiny(config: TinyModelConfig, folder: Path) -> None:
    """Write tokenizer and model into `folder`; weights are a function of `weights_seed`."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer(config.architecture)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.weights_seed)
        model = AutoModelForCausalLM.from_config(make_config(config, tokenizer))
    family = FAMILIES[config.architecture]
    model.generation_config.eos_token_id = tokenizer.convert_tokens_to_ids(
        [family.end, family.stop]
    )
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


def make_config(config: TinyModelConfig, tokenizer: Tokenizer) -> PreTrainedConfig:
    """The transformers config: Llama and Qwen2 share key-value heads, Phi3 fuses projections.

    Qwen2 ties its embeddings, as its small members do; the others do not.
    """
    from transformers import AutoConfig

    heads = config.hidden_size // HEAD_SIZE
    shares_heads = config.architecture is not Architecture.phi3
    return AutoConfig.for_model(
        config.architecture.value,
        vocab_size=len(tokenizer),
        hidden_size=config.hidden_size,
        intermediate_size=2 * config.hidden_size,
        num_hidden_layers=config.layers,
        num_attention_heads=heads,
        num_key_value_heads=max(1, heads // 2) if shares_heads else heads,
        max_position_embeddings=CONTEXT,
        initializer_range=INITIALIZER_RANGE,
        tie_word_embeddings=config.architecture is Architecture.qwen2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _recipe(config: TinyModelConfig) -> str:
    # The name includes a digest of our sources: a model cached by an earlier version is another
    # one.
    digest = hashlib.sha256(
        f"{config.architecture.value} {config.hidden_size} {config.layers} "
        f"{config.weights_seed}".encode()
    )
    for source in (__file__, tiny_tokenizers.__file__):
        digest.update(Path(source).read_bytes())
    return digest.hexdigest()[:16]
