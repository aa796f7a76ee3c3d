"""Examples in, adapter out: the stages of a method, one after the other.

The loss covers completion tokens only and is the mean over the trained tokens of an optimizer
step, however the step was cut into forward passes. Goes wrong: a class that a stage needs is
empty, a row is longer than `tuning.max_length`, the loss is not finite (UserError).
"""
