"""Faster arithmetic than the libraries': attention, packing, caches, adapters, losses.

It uses tensors and models, but no config, file or tokenizer of ours.
"""
