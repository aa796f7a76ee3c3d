"""What the room `distill` is handed: a bar to report to, and a teacher that runs in process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from caft.models.config import HubModelConfig
from caft.models.locate import locate_model
from caft.models.student import Student
from caft.run_config import RunConfig
from caft.teachers.config import LocalModelTeacherConfig
from caft.teachers.progress import AskProgress
from caft.text.prompts import Prompt

log = logging.getLogger(__name__)

LINE_SECONDS = 30.0
"""Between lines in the run's log, for those who look in the morning."""


class AskingBar:
    """Shows how far the asking is: a bar on a terminal, now and then a line in the log."""

    def __init__(self, bar: Any, who: str = "teacher") -> None:
        self._bar, self._who = bar, who
        self._task: Any = None
        self._last_line = time.monotonic()

    def show(self, progress: AskProgress) -> None:
        """Told a few times a second; once more when an attempt at all questions has ended."""
        if self._task is None:
            self._task = self._bar.add_task(f"asking the {self._who}")
        title = f"{self._who}, {progress.replies_per_second:.1f}/s, {progress.usd:.4f} USD"
        self._bar.update(
            self._task,
            total=progress.total,
            completed=progress.done,
            description=f"{title} {progress.note}".strip(),
        )
        now = time.monotonic()
        ended = progress.done == progress.total and progress.calls > 0
        if ended or now - self._last_line > LINE_SECONDS:
            self._last_line = now
            log.info("%s: %s", self._who, progress.line())


@contextmanager
def watch_asking(shown: bool, who: str = "teacher") -> Iterator[AskingBar]:
    """A bar on stderr for the body, while `who` is asked."""
    from caft.trainers.progress import open_bar

    with open_bar(shown) as bar:
        yield AskingBar(bar, who)


class LocalTeacher:
    """The model of `teacher=local_model`, loaded when the first reply is due."""

    def __init__(self, config: RunConfig) -> None:
        self._run = config

    @cached_property
    def _teacher(self) -> LocalModelTeacherConfig:
        assert isinstance(self._run.teacher, LocalModelTeacherConfig)
        return self._run.teacher

    @cached_property
    def _student(self) -> Student:
        from caft.trainers.build import pick_device

        teacher = self._teacher
        named = HubModelConfig(
            name="teacher", id=teacher.id or "local", revision=teacher.revision, path=teacher.path
        )
        return Student(named, locate_model(named), pick_device(self._run.trainer))

    @cached_property
    def _model(self) -> Any:
        return self._student.load_for_inference()

    def generate(self, prompts: Sequence[Prompt]) -> list[Any]:
        """Greedy replies to chat prompts, as distill's `Generate` wants them."""
        from caft.models.encoding import encode_prompt
        from caft.models.generation import generate_replies

        tokenizer = self._student.tokenizer
        return list(
            generate_replies(
                self._model,
                tokenizer,
                [encode_prompt(prompt, tokenizer) for prompt in prompts],
                max_new_tokens=self._teacher.max_tokens,
                end_ids=self._student.end_ids(chat=True),
                stop_after_marker=False,
            )
        )
