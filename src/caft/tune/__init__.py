"""Tunes a model through the stages of a method. Examples in, adapter out.

The loss covers completion tokens only and is the mean over the trained tokens of an optimizer
step, however the step was cut into forward passes. UserError if a class that a stage needs is
empty, a row is longer than `tuning.max_length`, or the loss is not finite.
"""
