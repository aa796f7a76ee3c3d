"""What a figure looks like: Altair charts, and SVG of them that needs no script. Pure.

In: rows of plain numbers, each with what its mark `said`. Out: one drawing as markup. What
distinguishes two marks is never colour alone: position, shape or text says it too. The only home
of Altair and vl-convert; whoever wants a chart imports it when it is drawn, as both take a second.
"""
