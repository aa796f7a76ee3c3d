"""Asks the teacher: with a bar that shows how far it is, or in process with `local_model`."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from caft.distill import write_rationales
from caft.distill.local import name_model
from caft.models.encoding import special_tokens
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.pipeline.matched_budget import Ask, MatchedBudget, match_budget
from caft.pipeline.results import Scored, StageKind, StageRecord, Taught, record_stage
from caft.pipeline.workspace import Workspace
from caft.records import Question, Rationale
from caft.run_config import RunConfig
from caft.split import SplitResult
from caft.store import Effort, digest, measured, write_table
from caft.teachers.config import LocalModelTeacherConfig
from caft.teachers.progress import AskProgress, Watcher
from caft.text.prompts import Prompt, Wanted, write_prompt

log = logging.getLogger(__name__)

LINE_SECONDS = 30.0
"""Between lines in the run's log, for those who look in the morning."""


def buy_rationales(
    workspace: Workspace, questions: Sequence[Question]
) -> tuple[list[Rationale], StageRecord]:
    """A rationale for every question, or the reason why there is none."""
    with measured() as effort, _open_asking(workspace) as ask:
        rationales = ask(questions)
    return rationales, _keep(workspace, rationales, effort)


def buy_matched(
    workspace: Workspace, scored: Scored, split: SplitResult, budget: MatchedBudget
) -> Taught:
    """Rationales as far as the entropy arm's budget goes, and the split that follows from them."""
    with measured() as effort, _open_asking(workspace) as ask:
        settled, rationales = match_budget(workspace, scored, split, budget, ask)
    record = _keep(workspace, rationales, effort)
    return Taught(split=settled, rationales=rationales, stages=(record,))


@contextmanager
def _open_asking(workspace: Workspace) -> Iterator[Ask]:
    with watch_asking(workspace.config.trainer.progress) as watcher:
        yield make_ask(workspace, watcher.show)


def make_ask(workspace: Workspace, progress: Watcher | None = None) -> Ask:
    """The teacher as a function from questions to rationales. It leaves the store alone."""
    config = workspace.config
    return partial(
        write_rationales,
        prompt=config.dataset.prompt,
        teacher=config.teacher,
        ledger_path=workspace.store.ledger_path,
        forbidden=special_tokens(workspace.student.tokenizer),
        shots=workspace.questions.shots,
        progress=progress,
        generate=LocalTeacher(config).generate,
    )


def refuse_unaskable_teacher(workspace: Workspace) -> None:
    """UserError where a local teacher's chat template refuses the turns that it would be sent."""
    config = workspace.config
    if config.teacher.kind != "local_model":
        return
    question, shots = workspace.questions.train[0], workspace.questions.shots
    prompt = write_prompt(question, config.dataset.prompt, Wanted.rationale, chat=True, shots=shots)
    LocalTeacher(config).refuse_template(prompt)


def _keep(workspace: Workspace, rationales: Sequence[Rationale], effort: Effort) -> StageRecord:
    # Replies that were paid for are kept by the ledger; the store keeps what was made of them.
    artifact = workspace.store.obtain(
        "distill",
        {"rationales": digest(rationales)},
        lambda folder: write_table(folder / "rationales.parquet", Rationale, rationales),
    )
    return replace(
        record_stage(StageKind.distill, "distill", artifact),
        seconds=effort.seconds,
        peak_memory_bytes=effort.peak_memory_bytes,
    )


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
        failed = f", {progress.failed} refused" if progress.failed else ""
        self._bar.update(
            self._task,
            total=progress.total,
            completed=progress.replies,
            description=f"{title}{failed} {progress.note}".strip(),
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

        named = name_model(self._teacher)
        return Student(named, locate_model(named), pick_device(self._run.trainer))

    @cached_property
    def _model(self) -> Any:
        return self._student.load_for_inference()

    def refuse_template(self, prompt: Prompt) -> None:
        """UserError where its chat template refuses such turns: now, not after the scoring."""
        from caft.models.encoding import render_prompt
        from caft.models.loading import load_tokenizer

        named = name_model(self._teacher)
        render_prompt(prompt, load_tokenizer(locate_model(named), named))

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
