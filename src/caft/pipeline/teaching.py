"""Asks the teacher, with a progress bar; `local_model` runs in this process."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from caft.distill import DistillInputs, write_rationales
from caft.distill.inputs import Generate
from caft.distill.local import name_model
from caft.engines.config import InProcessEngineConfig
from caft.engines.in_process import key_of
from caft.models.encoding import encode_prompt, render_prompt, special_tokens
from caft.models.sampling import Sampling
from caft.models.sources.locate import locate_model
from caft.models.student import Student
from caft.models.thinking_turns import thinking_form_of
from caft.pipeline.engine_gate import pass_teachers_gate
from caft.pipeline.matched_budget import Ask, match_budget
from caft.pipeline.results import Scored, Taught, record_stage
from caft.pipeline.stage_inputs import Requests
from caft.pipeline.steps import MatchedBudget, Step, taught_classes
from caft.pipeline.workspace import Workspace
from caft.protocols import CausalLM, Tokenizer, Written
from caft.records import Rationale, Target
from caft.report.schema import StageRecordPart
from caft.run_config import RunConfig
from caft.split import SplitResult
from caft.store import Effort, StageKind, digest, measured, read_table, write_table
from caft.teachers.config import LocalModelTeacherConfig
from caft.teachers.progress import AskProgress, Watcher
from caft.text.prompts import Prompt, Wanted, write_prompt
from caft.text.thinking import drop_thinking, find_thinking, opens_thinking

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from caft.engines.replies import EngineReply
    from caft.models.generation import GeneratedReply, ReplyRules

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
) -> tuple[list[Rationale], StageRecordPart]:
    """A text for every question, or the reason for having none."""
    with measured() as effort, watch_asking(workspace.config.trainer.progress) as bar:
        rationales = ask_each(workspace, requests, bar.show)
    return rationales, _keep(workspace, rationales, step, effort)


def buy_matched(
    workspace: Workspace, scored: Scored, split: SplitResult, budget: MatchedBudget, step: Step
) -> Taught:
    """Rationales within the entropy arm's budget, and the split that results from them."""
    with measured() as effort, watch_asking(workspace.config.trainer.progress) as bar:
        ask = make_ask(workspace, bar.show, budget.target)
        settled, rationales = match_budget(workspace, scored, split, budget, ask)
    record = _keep(workspace, rationales, step, effort)
    return Taught(split=settled, rationales=rationales, stages=(record,))


def _keep(
    workspace: Workspace, rationales: Sequence[Rationale], step: Step, effort: Effort
) -> StageRecordPart:
    workspace.close_engines()
    table = Bought(StageKind.distill, "rationales", Rationale, rationales)
    return record_stage(step, workspace.store.obtain(table), effort)


def make_ask(
    workspace: Workspace, progress: Watcher | None = None, target: Target = Target.rationale
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
        generate=_local_generate(workspace, LocalTeacher(config, thinks=target is Target.thinking)),
        target=target,
        engine=_teacher_engine_key(config),
    )
    return lambda questions: write_rationales(inputs(questions=questions))


def ask_each(
    workspace: Workspace, requests: Requests, progress: Watcher | None = None
) -> list[Rationale]:
    """What the teacher writes for every request, in order. It leaves the store alone."""
    asks = [(make_ask(workspace, progress, target), asked) for target, asked in requests]
    return [row for ask, asked in asks for row in ask(asked)]


def _teacher_engine_key(config: RunConfig) -> Mapping[str, object]:
    """What an engine's rationales are kept under. One on a server has a teacher of its own kind."""
    engine = config.engine
    local = isinstance(config.teacher, LocalModelTeacherConfig)
    return key_of(engine) if local and isinstance(engine, InProcessEngineConfig) else {}


def _local_generate(workspace: Workspace, teacher: LocalTeacher) -> Generate:
    if not _teacher_engine_key(workspace.config):
        return teacher.generate

    def write(
        prompts: Sequence[Prompt],
        names: Sequence[str],  # noqa: ARG001
        sampling: Sampling,
        attempt: int,  # noqa: ARG001
    ) -> Sequence[Written]:
        engine = workspace.engine_of(teacher.student, "teacher")
        assert engine is not None
        pass_teachers_gate(workspace, teacher.student, engine)
        asked = {str(number): ids for number, ids in enumerate(teacher.encode(prompts))}
        rules = teacher.rules(sampling)
        written = {reply.question_id: reply for reply in engine.write(asked, rules)}
        return teacher.tag(list(asked.values()), [written[name] for name in asked])

    return write


def refuse_unaskable_teacher(workspace: Workspace) -> None:
    """UserError if a local teacher's chat template refuses its turns."""
    config = workspace.config
    if not isinstance(config.teacher, LocalModelTeacherConfig):
        return
    question, shots = workspace.questions.train[0], workspace.questions.shots
    prompt = write_prompt(question, config.dataset.prompt, Wanted.rationale, chat=True, shots=shots)
    tokenizer = LocalTeacher(config).student.tokenizer
    render_prompt(prompt, tokenizer)
    if Target.thinking in taught_classes(config.method):
        thinking_form_of(prompt, tokenizer, f"teacher.{_name_teacher(config.teacher)}")


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

    If it `thinks`, its replies begin with what it thought, between <think> tags whatever its own
    marks are.
    """

    def __init__(self, config: RunConfig, *, thinks: bool = False) -> None:
        self.config, self.thinks = config, thinks

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

    def generate(
        self, prompts: Sequence[Prompt], names: Sequence[str], sampling: Sampling, attempt: int
    ) -> Sequence[Written]:
        """Replies to chat prompts."""
        from caft.models.generation import generate_replies

        asked, samples = self.encode(prompts), [attempt] * len(prompts)
        replies = generate_replies(
            self._model,
            self.student.tokenizer,
            asked,
            self.rules(sampling),
            names=names,
            samples=samples,
        )
        return self.tag(asked, replies)

    def encode(self, prompts: Sequence[Prompt]) -> list[tuple[int, ...]]:
        """The prompts' tokens, which ask for a thinking span where it is wanted."""
        tokenizer = self.student.tokenizer
        return [encode_prompt(prompt, tokenizer, thinking=self.thinks) for prompt in prompts]

    def rules(self, sampling: Sampling) -> ReplyRules:
        """When its replies end."""
        from caft.models.generation import ReplyRules

        return ReplyRules(
            max_new_tokens=self._teacher.max_tokens,
            end_ids=self.student.end_ids(chat=True),
            stop_after_marker=False,
            sampling=sampling,
        )

    def tag(
        self, asked: Sequence[Sequence[int]], replies: Sequence[GeneratedReply | EngineReply]
    ) -> Sequence[Written]:
        """The replies, with their span between <think> tags where it is wanted."""
        if not self.thinks:
            return replies
        tokenizer, end_ids = self.student.tokenizer, self.student.end_ids(chat=True)
        return [
            reply._replace(text=tag_thinking(tokenizer, ids, reply.ids, end_ids))
            for ids, reply in zip(asked, replies, strict=True)
        ]


def tag_thinking(
    tokenizer: Tokenizer, asked: Sequence[int], written: Sequence[int], end_ids: Sequence[int]
) -> str:
    """The reply with its span between <think> tags; an open span stays open."""
    spoken = written[:-1] if written and written[-1] in end_ids else written
    # Special tokens are kept: they may be the marks.
    prompt, text = tokenizer.decode(list(asked)), tokenizer.decode(list(spoken))
    opened = opens_thinking(prompt)
    thought, said = find_thinking(text, opened=opened), drop_thinking(text, opened=opened)
    if said is None:
        return f"<think>\n{thought or ''}"
    said = said.strip().removeprefix("<|message|>")
    return f"<think>\n{thought}\n</think>\n\n{said}" if thought else said
