"""A stage with `rescore: true`: classes by the student as tuned so far, known just before it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from caft.models.student import Student
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import Requests, tuned_scoring
from caft.pipeline.steps import asked_targets
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Rationale
from caft.score.stage import ScoreInputs
from caft.split import SplitResult, most_in_classes, split_questions
from caft.store import StageKind

log = logging.getLogger(__name__)


def rescoring(workspace: Workspace, student: Student) -> ScoreInputs:
    """The tuned student's answers to training and validation questions, asked as in evaluation.

    Test questions keep the class that the base model gave them: no stage asks for theirs.
    """
    questions = [*workspace.questions.train, *workspace.questions.validation]
    return replace(tuned_scoring(workspace, student), questions=questions, kind=StageKind.score)


def split_rescored(workspace: Workspace, scores: Sequence[AnswerScore]) -> SplitResult:
    """The classes that the split's rule makes of these scores; those of `rescoring`, in order."""
    config, border = workspace.config, len(workspace.questions.train)
    parts = scores[:border], [scores[border:]]
    return split_questions(*parts, config.split, config.seed, workspace.subject_of)


def count_moved(workspace: Workspace, before: SplitResult, after: SplitResult) -> int:
    """How many training questions are in another class than before."""
    old, new = before.complexity_of, after.complexity_of
    return sum(old[item.id] != new[item.id] for item in workspace.questions.train)


def tell_classes(workspace: Workspace, number: int, before: SplitResult, now: SplitResult) -> None:
    """A line of the log for stage `number`, from 0."""
    train, names = workspace.questions.train, workspace.config.split.classes
    placed = [now.complexity_of[item.id] for item in train]
    log.info(
        "stage %d, classes by the student as tuned so far: %s; %d of %d training questions moved",
        number + 1,
        ", ".join(f"{placed.count(name)} {name}" for name in names),
        count_moved(workspace, before, now),
        len(train),
    )


def most_asked(workspace: Workspace, numbers: range) -> Requests:
    """As many questions as a teacher can be asked for these stages, before their classes are known.

    Any ones: only their number is a bound.
    """
    config, train = workspace.config, workspace.questions.train
    sizes = most_in_classes(config.split, [item.subject for item in train])
    stages = [config.method.stages[number] for number in numbers]

    def most_of(name: str) -> int:
        drawn = sum(
            stage.epochs * stage.draw.get(name, sizes[name])
            for stage in stages
            if name in stage.targets
        )
        return min(sizes[name], drawn)

    return [
        (target, train[: sum(map(most_of, names))])
        for target, names in asked_targets(config, numbers).items()
    ]


def join_taught(first: Taught, later: Taught) -> Taught:
    """The texts of both, each reply once; classes, and all else, are the first one's."""
    bought = {_name_text(row) for row in first.rationales}
    more = [row for row in later.rationales if _name_text(row) not in bought]
    return replace(first, rationales=[*first.rationales, *more])


def _name_text(row: Rationale) -> tuple[object, ...]:
    """A reply in the ledger, or a text that cost nothing."""
    return (row.ledger_key,) if row.ledger_key else (row.question_id, row.target, row.attempt)
