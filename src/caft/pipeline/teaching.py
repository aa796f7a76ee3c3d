"""Asks the teacher, with a progress bar; `local_model` runs in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from caft.distill import DistillInputs, write_rationales
from caft.distill.local import name_model
from caft.models.encoding import encode_prompt, render_prompt, special_tokens
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.pipeline.matched_budget import Ask, match_budget
from caft.pipeline.results import Scored, Taught, record_stage
from caft.pipeline.steps import MatchedBudget, Step
from caft.pipeline.workspace import Workspace
from caft.protocols import CausalLM, Written
from caft.records import Question, Rationale
from caft.report.schema import StageRecordPart
from caft.run_config import RunConfig
from caft.split import SplitResult
from caft.store import Effort, StageKind, Tokens, digest, measured, read_table, write_table
from caft.teachers.config import LocalModelTeacherConfig
from caft.teachers.progress import AskProgress, Watcher
from caft.text.prompts import Prompt, Wanted, write_prompt

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

log = logging.getLogger(__name__)
Record = TypeVar("Record")

LINE_SECONDS = 30.0
"""Seconds between progress lines in the run's log."""


@dataclass(frozen=True)
class Bought(Generic[Record]):
    """Rows in the store, keyed by their content; the ledger keeps what was paid for."""

    kind: StageKind
    name: str
    record: type[Record]
    rows: Sequence[Record]

    resumable: ClassVar[bool] = False
    scratch: ClassVar[Sequence[str]] = ()

    @property
    def key(self) -> dict[str, object]:
        """For the store."""
        return {self.name: digest(self.rows)}

    def produce(self, folder: Path) -> None:
        """Write the table."""
        write_table(folder / f"{self.name}.parquet", self.record, self.rows)

    def read(self, folder: Path) -> list[Record]:
        """The rows."""
        return read_table(folder / f"{self.name}.parquet", self.record)


def buy_rationales(
    workspace: Workspace, questions: Sequence[Question], step: Step
) -> tuple[list[Rationale], StageRecordPart]:
    """A rationale for every question, or the reason for having none."""
    teacher = LocalTeacher(workspace.config)
    with measured() as effort, watch_asking(workspace.config.trainer.progress) as bar:
        rationales = make_ask(workspace, bar.show, teacher)(questions)
    effort.tokens = teacher.tokens
    return rationales, _keep(workspace, rationales, step, effort)


def buy_matched(
    workspace: Workspace, scored: Scored, split: SplitResult, budget: MatchedBudget, step: Step
) -> Taught:
    """Rationales within the entropy arm's budget, and the split that results from them."""
    teacher = LocalTeacher(workspace.config)
    with measured() as effort, watch_asking(workspace.config.trainer.progress) as bar:
        ask = make_ask(workspace, bar.show, teacher)
        settled, rationales = match_budget(workspace, scored, split, budget, ask)
    effort.tokens = teacher.tokens
    record = _keep(workspace, rationales, step, effort)
    return Taught(split=settled, rationales=rationales, stages=(record,))


def _keep(
    workspace: Workspace, rationales: Sequence[Rationale], step: Step, effort: Effort
) -> StageRecordPart:
    table = Bought(StageKind.distill, "rationales", Rationale, rationales)
    return record_stage(step, workspace.store.obtain(table), effort)


def make_ask(
    workspace: Workspace, progress: Watcher | None = None, teacher: LocalTeacher | None = None
) -> Ask:
    """The teacher as a function from questions to rationales. It leaves the store alone."""
    config = workspace.config
    inputs = partial(
        DistillInputs,
        prompt=config.dataset.prompt,
        teacher=config.teacher,
        ledger_path=workspace.store.ledger_path,
        forbidden=special_tokens(workspace.student.tokenizer),
        shots=workspace.questions.shots,
        progress=progress,
        generate=(teacher or LocalTeacher(config)).generate,
    )
    return lambda questions: write_rationales(inputs(questions=questions))


def refuse_unaskable_teacher(workspace: Workspace) -> None:
    """UserError if a local teacher's chat template refuses its turns."""
    config = workspace.config
    if config.teacher.kind != "local_model":
        return
    question, shots = workspace.questions.train[0], workspace.questions.shots
    prompt = write_prompt(question, config.dataset.prompt, Wanted.rationale, chat=True, shots=shots)
    render_prompt(prompt, LocalTeacher(config).student.tokenizer)


class AskingBar:
    """Shows progress: a bar on a terminal, and a line in the log now and then."""

    def __init__(self, bar: Progress, who: str = "teacher") -> None:
        self._bar, self._who = bar, who
        self._task: TaskID | None = None
        self._last_line = time.monotonic()
        self._ended: tuple[int, int] | None = None

    def show(self, progress: AskProgress) -> None:
        """Called a few times a second, and again when an attempt at all questions has ended."""
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
        attempt = (progress.total, progress.calls)
        # The last reply of an attempt may have had its line a moment ago.
        if (ended and attempt != self._ended) or now - self._last_line > LINE_SECONDS:
            self._last_line, self._ended = now, attempt if ended else None
            log.info("%s: %s", self._who, progress.line())


@contextmanager
def watch_asking(shown: bool, who: str = "teacher") -> Iterator[AskingBar]:
    """A bar on stderr for the body, while `who` is asked."""
    from caft.trainers.progress import open_bar

    with open_bar(shown) as bar:
        yield AskingBar(bar, who)


class LocalTeacher:
    """The model of `teacher=local_model`, loaded when the first reply is due.

    `tokens` are those of all that it was asked for; replies of the ledger are not among them.
    """

    def __init__(self, config: RunConfig) -> None:
        self.config, self.tokens = config, Tokens()

    @property
    def _teacher(self) -> LocalModelTeacherConfig:
        assert isinstance(self.config.teacher, LocalModelTeacherConfig)
        return self.config.teacher

    @cached_property
    def student(self) -> Student:
        """The teacher as a model without tuning."""
        from caft.trainers.build import pick_device

        named = name_model(self._teacher)
        return Student(named, locate_model(named), pick_device(self.config.trainer))

    @cached_property
    def _model(self) -> CausalLM:
        model: CausalLM = self.student.load_for_inference()
        return model

    def generate(self, prompts: Sequence[Prompt]) -> Sequence[Written]:
        """Greedy replies to chat prompts."""
        from caft.models.generation import ReplyRules, generate_replies

        tokenizer = self.student.tokenizer
        encoded = [encode_prompt(prompt, tokenizer) for prompt in prompts]
        replies = generate_replies(
            self._model,
            tokenizer,
            encoded,
            ReplyRules(
                max_new_tokens=self._teacher.max_tokens,
                end_ids=self.student.end_ids(chat=True),
                stop_after_marker=False,
            ),
        )
        self.tokens = Tokens(
            read=self.tokens.read + sum(map(len, encoded)),
            written=self.tokens.written + sum(reply.tokens for reply in replies),
        )
        return replies
