"""All output to the terminal and to run.log: it is text, never a terminal command.

While a progress bar is on the terminal, lines are printed above it, through its own console.

Questions, templates, replies, servers' messages and paths come from outside. An escape sequence
among them would move the cursor, recolour or retitle the terminal, or copy to the clipboard; a
bidirectional override would show another line than it holds. Libraries' hints and warnings go to
run.log, their errors to the terminal as well.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderResult
    from rich.progress import Progress

# C0 without tab and line feed, DEL and C1; separators that break lines; marks, embeddings and
# overrides of direction; halves of surrogate pairs, which no stream can encode.
_HARMFUL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def clean(text: str) -> str:
    """`text` with every character that would steer a terminal written out as its escape code."""
    return _HARMFUL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


_bars: list[Progress] = []
"""The progress bars that are on the terminal, the last one at its end."""


def tell(message: str, *, end: str = "\n") -> None:
    """Print to standard output, at once."""
    _print(clean(message), sys.stdout, end)


def tell_error(message: str) -> None:
    """Print to standard error, at once."""
    _print(clean(message), sys.stderr, "\n")


def _print(text: str, stream: TextIO, end: str) -> None:
    if _bars and stream is not None and stream.isatty():
        # Another stream of the same terminal would write into the bar's line.
        _bars[-1].console.print(text, end=end, soft_wrap=True, highlight=False)
    else:
        print(text, file=stream, end=end, flush=True)


def erase_bar() -> bytes:
    """What takes a bar off its line, for what a signal handler writes; nothing without a bar."""
    return b"\r\x1b[2K" if _bars else b""


@contextmanager
def bar_on_terminal(bar: Progress) -> Iterator[None]:
    """Show a rich progress bar; lines of the body appear above it."""
    with bar:
        shown = not bar.disable
        if shown:
            _bars.append(bar)
        try:
            yield
        finally:
            if shown:
                _bars.remove(bar)


def open_console(*, stderr: bool = False) -> Console:
    """A rich console that takes no markup from texts and lets no escape sequence through."""
    from rich.console import Console

    console = Console(stderr=stderr, markup=False, emoji=False)
    console.push_render_hook(_Cleaning())  # type: ignore[arg-type]
    return console


class _Cleaning:
    """A render hook for rich: texts are cleaned, rich's own commands are not."""

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Cleaned(renderable) for renderable in renderables]


class _Cleaned:
    def __init__(self, renderable: ConsoleRenderable) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.segment import Segment

        for segment in console.render(self._renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(clean(segment.text), segment.style)


class CleanFormatter(logging.Formatter):
    """Formats lines of a log, and of a traceback in it."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, cleaned."""
        return clean(super().format(record))


class TerminalHandler(logging.Handler):
    """Prints the lines of a log as `tell` does: above a progress bar, never into it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record's line."""
        try:
            tell(self.format(record))
        except Exception:  # as logging's own handlers do
            self.handleError(record)


class OursOrErrors(logging.Filter):
    """Lets through all records of this package, and errors of others."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record may pass."""
        return record.name.partition(".")[0] == "caft" or record.levelno >= logging.ERROR


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Warnings of the body go to the log and no longer to standard error."""
    # Read when transformers is imported: it writes to a stream of its own.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.captureWarnings(True)
    try:
        yield
    finally:
        logging.captureWarnings(False)
