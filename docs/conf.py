"""The site: `make docs` builds it into docs/_build, offline; `make check` does, too.

Furo brings its own scripts and uses the system's fonts: a page asks the network for nothing.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent))

project = "CAFT"
author = "The authors of CAFT"
extensions = ["myst_parser"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "CAFT"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False
highlight_language = "text"
exclude_patterns = ["_build"]
_DRAWING = re.compile(r"^```mermaid\n.*?^```\n", re.DOTALL | re.MULTILINE)
_INSTEAD = "*(GitHub draws a diagram here; the table below has its steps or rooms.)*\n"


def setup(app: Sphinx) -> None:
    """Writes the reference before the pages are read."""
    import reference  # the file beside this one

    reference.write_pages(Path(__file__).parent / "reference")
    # A diagram would need a script of three megabytes.
    app.connect("source-read", _leave_out_drawings)


def _leave_out_drawings(_app: Sphinx, _name: str, source: list[str]) -> None:
    source[0] = _DRAWING.sub(_INSTEAD, source[0])
