"""Measures how accurate a model is. Questions in, Predictions out.

Base and tuned model are evaluated in the same modes: `answer` (the single token that scoring
reads), `rationale` (greedy text, the last [[...]] of the reply), `routed` (one or the other by
the question's class). A reply without a readable answer is wrong and counted, never dropped.
"""
