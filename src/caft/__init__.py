"""Complexity-aware fine-tuning as an experiment-management framework (arXiv 2506.21220)."""
