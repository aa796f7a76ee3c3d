"""Stated against observed frequency of right answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from caft.report.figures.figure import Figure
from caft.report.wording import percent, percent_between
from caft.statistics import brier_score, expected_calibration_error, wilson_interval

BINS = 10


def draw_calibration(probabilities: Sequence[float], correct: Sequence[bool]) -> Figure:
    """The share of right answers in ten bins of the probability that the model gave its answer."""
    from caft.report.charts.panels import draw_stated

    shares = [
        {"x": sum(p for p, _ in rows) / len(rows),
         **asdict(wilson_interval(sum(right for _, right in rows), len(rows)))}
        for rows in _sort_in(probabilities, correct) if rows
    ]  # fmt: skip
    error = expected_calibration_error(probabilities, correct, BINS)
    told = f"Expected calibration error {percent(error)}, over {len(correct)} questions."
    return Figure(
        key="calibration",
        heading="Does the model's probability keep its word?",
        note=f"{told} Brier score {brier_score(probabilities, correct):.3f}. On the diagonal, "
        "a stated 70% is right seven times out of ten.",
        panels=(draw_stated(told, [{**s, "y": s["value"], "said": _say(s)} for s in shares]),),
        columns=("stated, mean of the bin", "right", "questions"),
        rows=tuple((percent(s["x"]), percent_between(s), str(s["n"])) for s in shares),
    )


def _sort_in(
    probabilities: Sequence[float], correct: Sequence[bool]
) -> list[list[tuple[float, bool]]]:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, right in zip(probabilities, correct, strict=True):
        bins[min(BINS - 1, int(probability * BINS))].append((probability, right))
    return bins


def _say(share: Mapping[str, Any]) -> str:
    return f"stated {percent(share['x'])}, right {percent(share['value'])} of {share['n']}"
