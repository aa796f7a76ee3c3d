"""What a figure looks like: Altair charts, and SVG of them that needs no script. Pure.

In: rows of plain numbers, each with the text that its mark shows under the pointer (`hover`). Out:
one drawing as markup. What distinguishes two marks is never colour alone: position, shape or text
says it too. The only home of Altair and vl-convert; whoever wants a chart imports `panels` when it
is drawn, as both take a second.
"""

from collections.abc import Mapping
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]
