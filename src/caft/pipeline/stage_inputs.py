"""Each stage's input, built from the config and earlier results.

The run, the data check and the dry run all ask here, so that they cannot disagree. Loads no model.
"""

from __future__ import annotations

from collections.abc import Sequence

from caft.evaluate.stage import ReplyInputs
from caft.models.student import Student
from caft.pipeline.results import Taught
from caft.pipeline.workspace import Workspace
from caft.records import Question, Target
from caft.run_config import RunConfig, Until
from caft.score.config import ModelScoreConfig
from caft.score.stage import CotInputs, ScoreInputs
from caft.split import SplitResult
from caft.text.prompts import Wanted
from caft.tune.config import MethodConfig, StageConfig
from caft.tune.examples import TrainingPair, choose_pairs
from caft.tune.stage import TuneInputs, Validation


def tunes(config: RunConfig) -> bool:
    """Whether the run gets as far as tuning, and its method has a stage to tune."""
    stops_before = config.until in (Until.score, Until.split, Until.distill)
    return bool(config.method.stages) and not stops_before


def rationale_classes(method: MethodConfig) -> set[str]:
    """The classes that some stage trains on rationales."""
    return {
        name
        for stage in method.stages
        for name, target in stage.targets.items()
        if target is Target.rationale
    }


def model_scoring(config: RunConfig) -> ModelScoreConfig:
    """The scoring dials; the defaults where the base model's scores are published ones."""
    return config.score if isinstance(config.score, ModelScoreConfig) else ModelScoreConfig()


def base_scoring(workspace: Workspace) -> ScoreInputs:
    """The base model's scores of all questions, with its shots."""
    return ScoreInputs(
        workspace.student,
        workspace.every_question,
        workspace.questions.shots,
        workspace.config.dataset.prompt,
        model_scoring(workspace.config),
    )


def fallback_scoring(workspace: Workspace) -> ScoreInputs:
    """All questions once more, with a prompt that lets the base model decline."""
    config = model_scoring(workspace.config)
    return ScoreInputs(
        workspace.student,
        workspace.every_question,
        workspace.questions.shots,
        workspace.config.dataset.prompt,
        config,
        config.fallback.wanted,
    )


def tuned_scoring(workspace: Workspace, student: Student) -> ScoreInputs:
    """A tuned model's single-token answers to the held-out questions, without shots."""
    return ScoreInputs(
        student,
        workspace.held_out,
        (),
        workspace.config.dataset.prompt,
        model_scoring(workspace.config),
    )


def base_chains(workspace: Workspace) -> CotInputs:
    """The base model's own chains of thought for all questions, with its shots."""
    return CotInputs(
        workspace.student,
        workspace.every_question,
        workspace.questions.shots,
        workspace.config.dataset.prompt,
        model_scoring(workspace.config).chain,
    )


def base_rationales(workspace: Workspace) -> ReplyInputs:
    """The base model's replies to the held-out questions, with its shots."""
    shots = workspace.questions.shots
    return _replies(workspace, workspace.student, Wanted.rationale, shots)


def tuned_replies(workspace: Workspace, student: Student, wanted: Wanted) -> ReplyInputs:
    """A tuned model's replies to the held-out questions: it never sees the shots."""
    return _replies(workspace, student, wanted, ())


def _replies(
    workspace: Workspace, student: Student, wanted: Wanted, shots: Sequence[Question]
) -> ReplyInputs:
    evaluation = workspace.config.evaluation
    return ReplyInputs(
        student=student,
        questions=workspace.held_out,
        shots=shots,
        prompt=workspace.config.dataset.prompt,
        wanted=wanted,
        max_new_tokens=evaluation.max_new_tokens,
        batch_size=evaluation.batch_size,
    )


def questions_for_teacher(workspace: Workspace, split: SplitResult) -> list[Question]:
    """Training questions whose class some stage trains on rationales."""
    wanted, placed = rationale_classes(workspace.config.method), split.complexity_of
    return [question for question in workspace.questions.train if placed[question.id] in wanted]


def stage_pairs(workspace: Workspace, taught: Taught, stage: StageConfig) -> list[TrainingPair]:
    """The rows of one stage; UserError where a class that it names is left without any."""
    return choose_pairs(
        workspace.questions.train, taught.split.complexity_of, taught.rationales, stage
    )


def stage_tuning(workspace: Workspace, taught: Taught, student: Student, number: int) -> TuneInputs:
    """Stage `number` (from 0) of the method, starting from `student`."""
    config = workspace.config
    stage = config.method.stages[number]
    return TuneInputs(
        student,
        stage_pairs(workspace, taught, stage),
        stage.epochs,
        config.dataset.prompt,
        config.tuning,
        config.seed,
        _validation(workspace, taught.split, stage),
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
