"""Many comparisons at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm_adjusted(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction (1979), in the order given; compare with alpha as they are.

    The smallest p is multiplied by the number of tests, the next by one fewer, and so on; no
    adjusted value is below one before it or above 1.
    """
    assert all(0 <= p <= 1 for p in p_values), "a p-value lies outside 0 to 1"
    adjusted = [0.0] * len(p_values)
    floor = 0.0
    ascending = sorted(range(len(p_values)), key=p_values.__getitem__)
    for done, index in enumerate(ascending):
        floor = max(floor, min(1.0, p_values[index] * (len(p_values) - done)))
        adjusted[index] = floor
    return tuple(adjusted)
