"""The input of each stage that needs earlier results; those of the base model are `Workspace`'s.

The run, the data check and the dry run all use these, so that they cannot disagree. Loads no model.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

from caft.engines.config import GateConfig, OtherEngineConfig
from caft.errors import UserError
from caft.evaluate.gate import GateInputs
from caft.evaluate.stage import ReplyInputs
from caft.models.student import Student
from caft.packed import keep, values_of
from caft.pipeline.results import Taught
from caft.pipeline.steps import Step, asks_one_token
from caft.pipeline.workspace import Workspace
from caft.records import Mode, Question, Target
from caft.run_config import RunConfig
from caft.score.stage import ScoreInputs
from caft.split import SplitResult
from caft.store import StageKind
from caft.text.prompts import Wanted
from caft.tune.config import StageConfig
from caft.tune.draws import Draws
from caft.tune.examples import choose_pairs, wanted_of
from caft.tune.stage import TuneInputs, Validation

Requests = Sequence[tuple[Target, Sequence[Question]]]
"""What a teacher is to write, and for which questions."""


def questions_for_teacher(
    workspace: Workspace,
    split: SplitResult,
    classes: Mapping[Target, Collection[str]],
    numbers: range | None = None,
) -> Requests:
    """Training questions that any epoch trains on a teacher's text, by what is asked for.

    `numbers` are those of the stages with this split; None for all.
    """
    taught = trained_questions(workspace, split, lambda target: target.taught, numbers)
    train, placed = workspace.questions.train, split.complexity_of
    return [
        (
            target,
            keep(
                train, [name in taught and placed[name] in names for name in values_of(train, "id")]
            ),
        )
        for target, names in classes.items()
    ]


def trained_questions(
    workspace: Workspace,
    split: SplitResult,
    among: Callable[[Target], bool],
    numbers: range | None = None,
) -> set[str]:
    """The ids of questions that any epoch of these stages trains on one of these targets."""
    stages = workspace.config.method.stages
    return {
        question_id
        for number in (range(len(stages)) if numbers is None else numbers)
        for name, ids in _drawn_questions(workspace, split, number).items()
        if any(map(among, stages[number].shares[name]))
        for question_id in ids
    }


def refuse_small_classes(workspace: Workspace, split: SplitResult, numbers: range) -> None:
    """UserError if a stage trains a class without questions, or draws more than its class has.

    `numbers` are those of the stages with this split.
    """
    refuse_sizes(workspace, split.count(values_of(workspace.questions.train, "id")), numbers)


def refuse_sizes(
    workspace: Workspace, sizes: Mapping[str, int], numbers: range | None = None
) -> None:
    """As `refuse_small_classes`, given the classes' sizes, or the largest that they can have.

    `numbers` None: of all stages.
    """
    method, count = workspace.config.method, len(workspace.questions.train)
    for number in range(len(method.stages)) if numbers is None else numbers:
        stage = method.stages[number]
        for name in stage.targets:
            size, drawn = sizes.get(name, 0), stage.draw.get(name, 0)
            if not size:
                raise UserError(
                    f"the method {method.name} trains the class {name}, but no "
                    "training question is in it; move the split's cut points"
                )
            if drawn > size:
                place = f"method.stages.{method.part(number).stage}.draw.{name}"
                raise UserError(
                    f"{place} is {drawn}, but only {size} of {count} "
                    f"training questions can be in the class; give {size} or fewer, or move the "
                    "split's cut points"
                )


def _drawn_questions(workspace: Workspace, split: SplitResult, number: int) -> dict[str, set[str]]:
    """The ids that any epoch of stage `number` trains, by class."""
    stage, placed = workspace.config.method.stages[number], split.complexity_of
    ids = [*values_of(workspace.questions.train, "id")]
    draws = _stage_draws(workspace, number)
    return {
        name: draws.pick_any([each for each in ids if placed[each] == name], name, stage.epochs)
        for name in stage.targets
    }


def _stage_draws(workspace: Workspace, number: int) -> Draws:
    config = workspace.config
    return Draws(config.method.stages[number].draw, config.seed, number)


def stage_tuning(workspace: Workspace, taught: Taught, student: Student, number: int) -> TuneInputs:
    """Stage `number` (from 0) of the method, starting from `student`.

    UserError if a class that it names is left without any row.
    """
    config = workspace.config
    stages = config.method.stages
    stage = stages[number]
    drawn = set().union(*_drawn_questions(workspace, taught.split, number).values())
    placed = taught.split.complexity_of
    texts = [*taught.rationales, *taught.own]
    pairs = choose_pairs(workspace.questions.train, placed, texts, stage)
    return TuneInputs(
        student=student,
        pairs=[pair for pair in pairs if pair.question.id in drawn],
        epochs=stage.epochs,
        prompt=config.dataset.prompt,
        config=config.tuning,
        seed=config.seed,
        trainer=config.trainer,
        validation=_validation(workspace, taught.split, stage),
        draws=_stage_draws(workspace, number),
        weights=stage.weights,
        shares=stage.shares,
        title=f"tuning, stage {number + 1} of {len(stages)}",
        part=config.method.part(number),
    )


def _validation(workspace: Workspace, split: SplitResult, stage: StageConfig) -> Validation:
    """Validation questions, each asked as the stage trains its class, in each form of its replies.

    A class that the stage does not train is asked as the hardest one that it does.
    """
    config, shares, placed = workspace.config, stage.shares, split.complexity_of
    evaluation = config.evaluation
    named = [name for name in config.split.classes if name in shares]
    asked = {
        name: {wanted_of(target, config.tuning.answer_target): target for target in targets}
        for name, targets in shares.items()
    }
    return Validation(
        [
            (question, target)
            for question in workspace.questions.validation
            for target in asked.get(placed[question.id], asked[named[-1]]).values()
        ],
        max_new_tokens=evaluation.max_new_tokens,
        max_thinking_tokens=evaluation.max_thinking_tokens,
        free_answer_tokens=workspace.scoring.free_answer_tokens,
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


def evaluation(workspace: Workspace, step: Step, student: Student) -> ScoreInputs | ReplyInputs:
    """The held-out questions, or a further set, in one mode; `student` is the one that is asked.

    Of a further set both models see the same prompts: only their weights differ.
    """
    found = workspace.further_set(step.also) if step.also else None
    if not (found or step.tuned):
        return workspace.base_rationales
    asked: ScoreInputs | ReplyInputs
    if asks_one_token(workspace.config, step):
        asked = tuned_scoring(workspace, student)
    else:
        wanted = Wanted.bracketed if step.mode is Mode.answer else Wanted.rationale
        title = f"{'tuned' if step.tuned else 'base'} {step.mode.name}"
        asked = replace(tuned_replies(workspace, student, wanted), title=title)
    if found is None:
        return asked
    own = found.config
    asked = replace(
        asked, questions=found.questions, shots=found.shots, prompt=own.prompt, further=True
    )
    if isinstance(asked, ScoreInputs):
        return asked
    return replace(asked, max_new_tokens=own.max_new_tokens, title=f"{asked.title}, {step.also}")


def tuned_scoring(workspace: Workspace, student: Student) -> ScoreInputs:
    """A tuned model's single-token answers to the held-out questions: it never sees the shots."""
    return replace(
        workspace.base_scoring,
        student=student,
        questions=workspace.held_out,
        shots=(),
        keeps_hidden=False,
        kind=StageKind.evaluate,
    )


def tuned_replies(workspace: Workspace, student: Student, wanted: Wanted) -> ReplyInputs:
    """A tuned model's replies to the held-out questions: it never sees the shots."""
    engine = workspace.engine_of(student)
    return replace(
        workspace.base_rationales, student=student, shots=(), wanted=wanted, engine=engine
    )
