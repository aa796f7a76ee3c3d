"""The arithmetic that is faster than the libraries': attention, packing, caches, adapters, losses.

Knows tensors and models as objects, and no config, file or tokenizer of ours.
"""
