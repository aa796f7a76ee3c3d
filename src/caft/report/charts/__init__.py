"""What a figure looks like: Altair charts, and SVG of them that needs no script. Pure.

In: rows of plain numbers, each with what its mark `said`. Out: one drawing as markup. What
distinguishes two marks is never colour alone: position, shape or text says it too. The only home
of Altair and vl-convert; whoever wants a chart imports it when it is drawn, as both take a second.
"""

from caft.report.charts.drawing import COUNT, NUMBER
from caft.report.charts.panels import (
    draw_arms,
    draw_bins,
    draw_course,
    draw_mode,
    draw_rates,
    draw_stated,
    draw_tokens,
)

__all__ = [
    "COUNT",
    "NUMBER",
    "draw_arms",
    "draw_bins",
    "draw_course",
    "draw_mode",
    "draw_rates",
    "draw_stated",
    "draw_tokens",
]
