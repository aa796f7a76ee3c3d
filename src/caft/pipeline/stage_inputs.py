"""The input of each stage that needs earlier results; those of the base model are `Workspace`'s.

The run, the data check and the dry run all use these, so that they cannot disagree. Loads no model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from caft.engines.config import GateConfig, OtherEngineConfig
from caft.evaluate.gate import GateInputs
from caft.evaluate.stage import ReplyInputs
from caft.models.student import Student
from caft.pipeline.results import Taught
from caft.pipeline.steps import Step, asks_one_token, rationale_classes
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Mode, Prediction, Question
from caft.run_config import RunConfig
from caft.score.stage import ScoreInputs
from caft.split import SplitResult
from caft.store import Stage, StageKind
from caft.text.prompts import Wanted
from caft.tune.config import StageConfig
from caft.tune.examples import choose_pairs
from caft.tune.stage import TuneInputs, Validation


def questions_for_teacher(workspace: Workspace, split: SplitResult) -> list[Question]:
    """Training questions of the classes that any stage trains on rationales."""
    wanted, placed = rationale_classes(workspace.config.method), split.complexity_of
    return [question for question in workspace.questions.train if placed[question.id] in wanted]


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


def gate(workspace: Workspace, step: Step, student: Student) -> GateInputs:
    """The comparison of the engine's replies with ours, over the questions that it is asked."""
    replies = evaluation(workspace, step, student)
    assert isinstance(replies, ReplyInputs)
    return GateInputs(replies=replies, questions=gate_of(workspace.config).questions)


def gate_of(config: RunConfig) -> GateConfig:
    """How an engine is compared with us."""
    assert isinstance(config.engine, OtherEngineConfig)
    return config.engine.gate


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
    engine = workspace.engine_of(student)
    return replace(
        workspace.base_rationales, student=student, shots=(), wanted=wanted, engine=engine
    )
