"""Stated against observed frequency of right answers."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from caft.report.figures.figure import Figure
from caft.report.svg import Plot, Scale, drawing, element, line
from caft.report.wording import percent, percent_between
from caft.statistics import Interval, brier_score, expected_calibration_error, wilson_interval

BINS = 10


def draw_calibration(probabilities: Sequence[float], correct: Sequence[bool]) -> Figure:
    """The share of right answers in ten bins of the probability that the model gave its answer."""
    bins = [(k, rows) for k, rows in enumerate(_sort_in(probabilities, correct)) if rows]
    shares = [
        (sum(p for p, _ in rows) / len(rows), wilson_interval(sum(r for _, r in rows), len(rows)))
        for _, rows in bins
    ]
    error = expected_calibration_error(probabilities, correct, BINS)
    told = f"Expected calibration error {percent(error)}, over {len(correct)} questions."
    return Figure(
        key="calibration",
        heading="Does the model's probability keep its word?",
        note=f"{told} Brier score {brier_score(probabilities, correct):.3f}. On the diagonal, "
        "a stated 70% is right seven times out of ten.",
        panels=(_draw(shares, told),),
        columns=("stated, mean of the bin", "right", "questions"),
        rows=tuple(
            (percent(stated), percent_between({"value": s.value, "low": s.low, "high": s.high}),
             str(s.n))
            for stated, s in shares
        ),
    )  # fmt: skip


def _sort_in(
    probabilities: Sequence[float], correct: Sequence[bool]
) -> list[list[tuple[float, bool]]]:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(BINS)]
    for probability, right in zip(probabilities, correct, strict=True):
        bins[min(BINS - 1, int(probability * BINS))].append((probability, right))
    return bins


def _draw(shares: Sequence[tuple[float, Interval]], told: str) -> Markup:
    side = 340
    plot = Plot(Scale(0, 1, 52, side - 14), Scale(0, 1, side - 54, 14))
    fifths = [(k / 5, f"{20 * k}%") for k in range(6)]
    return drawing(
        "calibration",
        side,
        side,
        "Share of right answers by stated probability",
        told,
        plot.left_axis(fifths),
        line(plot.x(0), plot.y(0), plot.x(1), plot.y(1), "diagonal"),
        *(_draw_bin(plot, stated, share) for stated, share in shares),
        plot.bottom_axis(fifths, "probability of the answer given"),
    )


def _draw_bin(plot: Plot, stated: float, share: Interval) -> Markup:
    x = plot.x(stated)
    said = f"stated {percent(stated)}, right {percent(share.value)} of {share.n}"
    return element(
        "g",
        element("title", said),
        line(x, plot.y(share.low), x, plot.y(share.high), "whisker front"),
        element("circle", cx=x, cy=plot.y(share.value), r=5, class_="dot curve-dot"),
        class_="mark",
    )
