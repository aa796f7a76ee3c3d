"""Asks the teacher, with a progress bar; `local_model` runs in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from caft.distill import DistillInputs, write_rationales
from caft.distill.inputs import Generate
from caft.engines.config import InProcessEngineConfig
from caft.engines.in_process import key_of
from caft.models.encoding import render_prompt, special_tokens
from caft.models.sampling import Sampling
from caft.models.thinking_span import thinking_form_of
from caft.packed import join
from caft.pipeline.engine_gate import pass_teachers_gate
from caft.pipeline.local_teacher import LocalTeacher
from caft.pipeline.matched_budget import Ask, match_budget
from caft.pipeline.results import Scored, Taught, record_stage
from caft.pipeline.stage_inputs import Requests
from caft.pipeline.steps import MatchedBudget, Step, taught_classes, teaches_with_engine
from caft.pipeline.workspace import Workspace
from caft.protocols import Written
from caft.records import Rationale, Target
from caft.report.schema import StageRecordPart
from caft.run_config import RunConfig
from caft.split import SplitResult
from caft.store import Effort, StageKind, digest, measured, read_table, write_table
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
    workspace: Workspace, requests: Requests, step: Step
) -> tuple[Sequence[Rationale], StageRecordPart]:
    """A text for every question, or the reason for having none."""
    teacher = LocalTeacher(workspace.config)
    with measured() as effort, watch_asking(workspace.config.trainer.progress) as bar:
        rationales = ask_each(workspace, requests, bar.show, teacher)
    effort.tokens = teacher.tokens
    return rationales, _keep(workspace, rationales, step, effort)


def buy_matched(
    workspace: Workspace, scored: Scored, split: SplitResult, budget: MatchedBudget, step: Step
) -> Taught:
    """Rationales within the entropy arm's budget, and the split that results from them."""
    teacher = LocalTeacher(workspace.config)
    with measured() as effort, watch_asking(workspace.config.trainer.progress) as bar:
        ask = make_ask(workspace, bar.show, target=budget.target, teacher=teacher)
        settled, rationales = match_budget(workspace, scored, split, budget, ask)
    effort.tokens = teacher.tokens
    record = _keep(workspace, rationales, step, effort)
    return Taught(split=settled, rationales=rationales, stages=(record,))


def _keep(
    workspace: Workspace, rationales: Sequence[Rationale], step: Step, effort: Effort
) -> StageRecordPart:
    workspace.close_engines()
    table = Bought(StageKind.distill, "rationales", Rationale, rationales)
    return record_stage(step, workspace.store.obtain(table), effort)


def make_ask(
    workspace: Workspace,
    progress: Watcher | None = None,
    *,
    target: Target,
    teacher: LocalTeacher | None = None,
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
        generate=_local_generate(
            workspace, teacher or LocalTeacher(config), thinks=target is Target.thinking
        ),
        target=target,
        engine=_teacher_engine_key(config),
    )
    return lambda questions: write_rationales(inputs(questions=questions))


def ask_each(
    workspace: Workspace,
    requests: Requests,
    progress: Watcher | None = None,
    teacher: LocalTeacher | None = None,
) -> Sequence[Rationale]:
    """What the teacher writes for every request, in order. It leaves the store alone."""
    return join(*(
        make_ask(workspace, progress, target=target, teacher=teacher)(asked)
        for target, asked in requests
    ))  # fmt: skip


def _teacher_engine_key(config: RunConfig) -> Mapping[str, object]:
    """What an engine's rationales are kept under."""
    engine, used = config.engine, teaches_with_engine(config)
    return key_of(engine) if used and isinstance(engine, InProcessEngineConfig) else {}


def _local_generate(workspace: Workspace, teacher: LocalTeacher, *, thinks: bool) -> Generate:
    if not _teacher_engine_key(workspace.config):
        return partial(teacher.generate, thinks=thinks)

    def write(
        prompts: Sequence[Prompt],
        names: Sequence[str],  # noqa: ARG001
        sampling: Sampling,
        attempt: int,  # noqa: ARG001
    ) -> Sequence[Written]:
        engine = workspace.engine_of(teacher.student, "teacher")
        assert engine is not None
        pass_teachers_gate(workspace, teacher.student, engine)
        asked = {str(number): ids for number, ids in enumerate(teacher.encode(prompts, thinks))}
        written = {
            reply.question_id: reply for reply in engine.write(asked, teacher.rules(sampling))
        }
        return teacher.finish(list(asked.values()), [written[name] for name in asked], thinks)

    return write


def refuse_unaskable_teacher(workspace: Workspace) -> None:
    """UserError if a local teacher's chat template refuses its turns, or its context is short."""
    config = workspace.config
    if not isinstance(config.teacher, LocalModelTeacherConfig):
        return
    shots, wordings = workspace.questions.shots, config.dataset.prompt
    prompts = {
        question.id: write_prompt(question, wordings, Wanted.rationale, chat=True, shots=shots)
        for question in workspace.questions.train
    }
    # The one with the longest text stands for all: to encode them takes seconds.
    name = max(prompts, key=lambda name: sum(len(text) for _, text in prompts[name].turns))
    prompt = prompts[name]
    teacher = LocalTeacher(config)
    render_prompt(prompt, teacher.student.tokenizer)
    thinks = Target.thinking in taught_classes(config.method)
    if thinks:
        named = f"teacher.{_name_teacher(config.teacher)}"
        thinking_form_of(prompt, teacher.student.tokenizer, named)
    most = config.teacher.max_tokens
    length = len(teacher.encode([prompt], thinks)[0])
    teacher.student.refuse_long_prompts({name: length}, most, {"teacher.max_tokens": most})


def _name_teacher(teacher: LocalModelTeacherConfig) -> str:
    return f"path={teacher.path}" if teacher.path else f"id={teacher.id}"


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
        failed = f", {progress.failed} without a reply" if progress.failed else ""
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
