"""Every figure of the report: its words, its numbers as a table, and its drawings. Pure.

`caft.report.charts` draws, and is imported when something is drawn.
"""

from caft.report.figures.accuracy import draw_accuracy
from caft.report.figures.calibration import draw_calibration
from caft.report.figures.curves import draw_curves
from caft.report.figures.cut_points import CutArm, draw_cut_points
from caft.report.figures.figure import Figure
from caft.report.figures.histogram import draw_histogram
from caft.report.figures.pareto import PricedArm, draw_pareto
from caft.report.figures.roc_curve import draw_roc
from caft.report.figures.token_costs import LEDGER, draw_ledger

__all__ = [
    "LEDGER",
    "CutArm",
    "Figure",
    "PricedArm",
    "draw_accuracy",
    "draw_calibration",
    "draw_curves",
    "draw_cut_points",
    "draw_histogram",
    "draw_ledger",
    "draw_pareto",
    "draw_roc",
]
