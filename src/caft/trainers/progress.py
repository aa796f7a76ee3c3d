"""A progress bar that counts questions and examples, not batches."""

from __future__ import annotations

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from caft.console import clean, open_console


def open_bar(shown: bool = True) -> Progress:
    """A bar on stderr; silent where stderr is no terminal, so that logs stay readable."""
    console = open_console(stderr=True)
    return Progress(
        _Title(),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not (shown and console.is_terminal),
        transient=True,
    )


class _Title(ProgressColumn):
    """The bar's label; a teacher's name or a server's message in it is not markup."""

    def render(self, task: Task) -> Text:
        return Text(clean(task.description))
