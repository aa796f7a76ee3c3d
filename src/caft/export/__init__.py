"""Writes the training rows of a finished run for other tools: `caft export`. Loads no model."""
