"""Loads models: `locate_model` finds the folder, `load_model` and `load_tokenizer` read it.

In goes a ModelConfig, out come a transformers causal LM and its tokenizer. Errors that the user can
fix (no network, a gated model, a folder without weights) are UserErrors, raised before torch is
imported.
"""
