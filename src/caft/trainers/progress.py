"""Progress bars: they count questions and examples, move inside a pass, and tell the time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from rich.progress import BarColumn, Progress, ProgressColumn, Task
from rich.table import Column
from rich.text import Text

from caft.console import bar_on_terminal, clean, open_console

_SECONDS_BETWEEN = 0.1
# A bar's pace is its average over this time: single passes take too long for rich's 30 seconds.
_SECONDS_OF_PACE = 3600.0


@contextmanager
def open_bar(shown: bool = True) -> Iterator[Progress]:
    """A bar on stderr; silent where stderr is no terminal, so that logs stay readable."""
    console = open_console(stderr=True)
    bar = Progress(
        _Title(table_column=Column(no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=None),
        _Count(table_column=Column(no_wrap=True)),
        _Times(table_column=Column(no_wrap=True)),
        console=console,
        disable=not (shown and console.is_terminal),
        transient=True,
        expand=True,
        speed_estimate_period=_SECONDS_OF_PACE,
        # Else rich would print on stderr what was meant for a file.
        redirect_stdout=bool(sys.stdout and sys.stdout.isatty()),
    )
    with bar_on_terminal(bar):
        yield bar


class _Title(ProgressColumn):
    """The bar's label; a teacher's name or a server's message in it is not markup."""

    def render(self, task: Task) -> Text:
        return Text(clean(task.description))


class _Count(ProgressColumn):
    """What is finished; the bar itself is ahead of it by what is in work."""

    def render(self, task: Task) -> Text:
        done = int(task.fields.get("done", task.completed))
        return Text(f"{done:,}/{int(task.total or 0):,}", style="progress.download")


class _Times(ProgressColumn):
    """The time since the start, and what is left at the average pace once there is one."""

    max_refresh = 0.5

    def render(self, task: Task) -> Text:
        past = _clock(task.finished_time if task.finished else task.elapsed)
        left = None if task.finished else task.time_remaining
        ahead = f", {_clock(left)} left" if left is not None else ""
        return Text(f"{past}{ahead}", style="progress.remaining")


def _clock(seconds: float | None) -> str:
    """Such as 0:01:30."""
    return str(timedelta(seconds=round(seconds or 0.0)))


@dataclass(frozen=True, slots=True)
class Moved:
    """How far a stage has come: rows that are `done`, and those in work as parts of a row.

    `note` is shown behind the title.
    """

    done: int
    in_work: float = 0.0
    note: str = ""


Report = Callable[[Moved], None]
"""Gets how far a stage has come, in the process that shows its bar."""


class StageBar:
    """One stage's line of a bar. It never goes back."""

    def __init__(self, bar: Progress, title: str, total: int) -> None:
        self._bar, self._title = bar, title
        self._task = bar.add_task(title, total=total, done=0)
        self._reached = 0.0

    def show(self, moved: Moved) -> None:
        """Move to where the stage is now."""
        self._reached = max(self._reached, moved.done + moved.in_work)
        title = f"{self._title}, {moved.note}" if moved.note else self._title
        self._bar.update(self._task, completed=self._reached, done=moved.done, description=title)


class Pace:
    """Passes on how far a stage has come, at most ten times a second."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._done, self._note, self._last = 0, "", 0.0

    def finish(self, rows: int) -> None:
        """So many more rows are done; always passed on."""
        self._done += rows
        self._send(0.0)

    def work(self, in_work: float, note: str = "", *, at_once: bool = False) -> None:
        """So much, in rows, is in work beyond those that are done."""
        self._note = note
        if at_once or time.monotonic() - self._last >= _SECONDS_BETWEEN:
            self._send(in_work)

    def _send(self, in_work: float) -> None:
        self._last = time.monotonic()
        self._report(Moved(self._done, in_work, self._note))
