"""The input of each stage that needs earlier results; those of the base model are `Workspace`'s.

The run, the data check and the dry run all use these, so that they cannot disagree. Loads no model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from caft.evaluate.stage import ReplyInputs
from caft.models.student import Student
from caft.pipeline.results import Taught
from caft.pipeline.steps import Step
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Mode, Prediction, Question, Target
from caft.run_config import RunConfig
from caft.score.stage import ScoreInputs
from caft.split import SplitResult
from caft.store import Stage, StageKind
from caft.text.prompts import Wanted
from caft.tune.config import AnswerTarget, StageConfig
from caft.tune.examples import choose_pairs
from caft.tune.stage import TuneInputs, Validation

Requests = Sequence[tuple[Target, Sequence[Question]]]
"""What a teacher is to write, and for which questions."""


def questions_for_teacher(
    workspace: Workspace, split: SplitResult, classes: Mapping[Target, Collection[str]]
) -> Requests:
    """Training questions of the classes that a teacher is asked about, by target."""
    train, placed = workspace.questions.train, split.complexity_of
    return [
        (target, [item for item in train if placed[item.id] in names])
        for target, names in classes.items()
    ]


def stage_tuning(workspace: Workspace, taught: Taught, student: Student, number: int) -> TuneInputs:
    """Stage `number` (from 0) of the method, starting from `student`.

    UserError if a class that it names is left without any row.
    """
    config = workspace.config
    stages = config.method.stages
    stage = stages[number]
    placed = taught.split.complexity_of
    return TuneInputs(
        student=student,
        pairs=choose_pairs(workspace.questions.train, placed, taught.rationales, stage),
        epochs=stage.epochs,
        prompt=config.dataset.prompt,
        config=config.tuning,
        seed=config.seed,
        trainer=config.trainer,
        validation=_validation(workspace, taught.split, stage),
        title=f"tuning, stage {number + 1} of {len(stages)}",
    )


def _validation(workspace: Workspace, split: SplitResult, stage: StageConfig) -> Validation:
    """Validation questions, each asked as the stage trains its class.

    A class that the stage does not train is asked as the hardest one that it does.
    """
    named = [name for name in workspace.config.split.classes if name in stage.targets]
    otherwise = stage.targets[named[-1]]
    placed = split.complexity_of
    return Validation(
        [
            (question, stage.targets.get(placed[question.id], otherwise))
            for question in workspace.questions.validation
        ],
        workspace.config.evaluation.max_new_tokens,
    )


def asks_one_token(config: RunConfig, step: Step) -> bool:
    """Whether an evaluation reads its answers off the next token, as scoring does."""
    return step.mode is Mode.answer and config.tuning.answer_target is not AnswerTarget.bracketed


def evaluation(
    workspace: Workspace, step: Step, student: Student
) -> Stage[Sequence[AnswerScore | Prediction]]:
    """The held-out questions in one mode; `student` is the tuned one, where the step asks it."""
    if not step.tuned:
        return workspace.base_rationales
    if asks_one_token(workspace.config, step):
        return tuned_scoring(workspace, student)
    wanted = Wanted.bracketed if step.mode is Mode.answer else Wanted.rationale
    return replace(tuned_replies(workspace, student, wanted), title=f"tuned {step.mode.name}")


def tuned_scoring(workspace: Workspace, student: Student) -> ScoreInputs:
    """A tuned model's single-token answers to the held-out questions: it never sees the shots."""
    return replace(
        workspace.base_scoring,
        student=student,
        questions=workspace.held_out,
        shots=(),
        kind=StageKind.evaluate,
    )


def tuned_replies(workspace: Workspace, student: Student, wanted: Wanted) -> ReplyInputs:
    """A tuned model's replies to the held-out questions: it never sees the shots."""
    return replace(workspace.base_rationales, student=student, shots=(), wanted=wanted)
