"""The Pareto front of arms: no other arm is as accurate for a lower price."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (price, accuracy) that are not dominated, by rising price.

    A point is dominated if another costs no more and is at least as accurate, and is better in one
    of the two. Equal points are both on the front, or both not.
    """
    front: list[int] = []
    best = float("-inf")
    order = sorted(range(len(points)), key=lambda k: (points[k][0], -points[k][1]))
    for k in order:
        price, accuracy = points[k]
        if accuracy > best or (front and points[front[-1]] == (price, accuracy)):
            front.append(k)
            best = accuracy
    return front
