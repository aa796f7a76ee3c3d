"""A progress bar that counts what people count: questions and examples, not batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytorch_lightning import Callback
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
    """What is counted; a teacher's name or a server's note in it is no markup."""

    def render(self, task: Task) -> Text:
        return Text(clean(task.description))


class CountingProgress(Callback):  # type: ignore[misc]
    """Shows `total` items under `title`; `count` tells how many one batch holds."""

    def __init__(
        self, title: str, total: int, count: Callable[[Any], int], shown: bool = True
    ) -> None:
        self.count = count
        self.bar = open_bar(shown)
        self.task = self.bar.add_task(title, total=total)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Lightning's hook."""
        if trainer.is_global_zero:
            self.bar.start()

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Lightning's hook."""
        self.bar.stop()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Lightning's hook."""
        self.bar.stop()

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Lightning's hook."""
        self.bar.advance(self.task, self.count(batch))

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *_: Any
    ) -> None:
        """Lightning's hook."""
        self.bar.advance(self.task, self.count(batch))
