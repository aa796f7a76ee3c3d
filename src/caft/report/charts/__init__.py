"""Draws figures: Altair charts, as SVG that needs no script. Pure.

In: rows of plain numbers, each with the text that its mark shows under the pointer (`hover`). Out:
one drawing as markup. Two marks never differ by colour alone, but also by position, shape or text.
Only this package imports Altair and vl-convert; import `panels` only when a chart is drawn, because
both take a second.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
