"""Loads models: `locate_model` finds the folder, `load_model` and `load_tokenizer` read it.

In goes a ModelConfig, out come a transformers causal LM and its tokenizer. Errors that the user can
fix (no network, a gated model, a folder without weights) are UserErrors, raised before torch is
imported.
"""

from caft.models.fingerprint import model_fingerprint
from caft.models.loading import load_model, load_tokenizer, resolve_dtype
from caft.models.sources.locate import locate_model

__all__ = ["load_model", "load_tokenizer", "locate_model", "model_fingerprint", "resolve_dtype"]
