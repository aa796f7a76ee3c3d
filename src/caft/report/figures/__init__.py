"""Figures of one run: texts, numbers as a table, and drawings. Pure.

Those of a sweep are in `caft.report.sweep.figures`. `caft.report.charts` draws, and is imported
when something is drawn.
"""

from caft.report.figures.curves import draw_curves
from caft.report.figures.estimates import draw_calibration, draw_histogram, draw_roc
from caft.report.figures.figure import Figure
from caft.report.figures.totals import TOKEN_COSTS, draw_accuracy, draw_token_bars, draw_token_costs

__all__ = [
    "TOKEN_COSTS",
    "Figure",
    "draw_accuracy",
    "draw_calibration",
    "draw_curves",
    "draw_histogram",
    "draw_token_bars",
    "draw_token_costs",
    "draw_roc",
]
