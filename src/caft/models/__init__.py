"""Doors to models: `locate_model` finds the folder, `load_model` and `load_tokenizer` open it.

In goes a ModelConfig, out come a transformers causal LM and its tokenizer. What a person can put
right (no network, a gated model, a folder without weights) is a UserError before torch is
imported.
"""
