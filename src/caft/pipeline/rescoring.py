"""A stage with `rescore: true`: classes by the student as tuned so far, known just before it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from caft.errors import UserError
from caft.models.student import Student
from caft.packed import values_of
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import Requests, tuned_scoring
from caft.pipeline.steps import asked_targets, list_phases, rationale_classes, taught_classes
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore, Question, Rationale, Target
from caft.run_config import RunConfig
from caft.score.stage import ScoreInputs
from caft.split import SplitResult, most_in_classes, split_questions
from caft.store import StageKind
from caft.tune.config import MethodConfig

log = logging.getLogger(__name__)


def rescoring(workspace: Workspace, student: Student) -> ScoreInputs:
    """The tuned student's answers to training and validation questions, asked as in evaluation.

    Test questions keep the class that the base model gave them: no stage asks for theirs.
    """
    questions = [*workspace.questions.train, *workspace.questions.validation]
    return replace(tuned_scoring(workspace, student), questions=questions, kind=StageKind.score)


def split_rescored(workspace: Workspace, scores: Sequence[AnswerScore], number: int) -> SplitResult:
    """The classes before stage `number` by these scores, which are those of `rescoring`, in order.

    A random split reads none, and moves its classes on.
    """
    config, border = workspace.config, len(workspace.questions.train)
    parts = scores[:border], [scores[border:]]
    split = split_questions(*parts, config.split, config.seed, workspace.subject_of)
    pool: int | None = getattr(config.split, "pool", None)
    if pool is None:
        return split
    ids = [score.question_id for score in parts[0]]
    (taught,) = rationale_classes(config.method)
    by = _moved_by(config.method, split.count(ids)[taught], pool)[number]
    return move_at_random(split, ids, config.split.classes, by, config.seed)


def refuse_impossible_pool(config: RunConfig, sizes: Mapping[str, int]) -> None:
    """UserError if `split.pool` has no class that it belongs to, or is no number for that one."""
    pool: int | None = getattr(config.split, "pool", None)
    if pool is None:
        return
    taught = rationale_classes(config.method)
    if len(taught) != 1:
        names = ", ".join(sorted(taught)) or "none"
        raise UserError(
            f"split.pool={pool} needs a method that asks a teacher about one class; "
            f"{config.method.name} asks about {names}: leave it out"
        )
    (name,), count = taught, sum(sizes.values())
    if not sizes[name] <= pool <= count:
        raise UserError(
            f"split.pool={pool}, but the class {name} alone has {sizes[name]} of {count} training "
            f"questions; give a number from {sizes[name]} to {count}"
        )


def _moved_by(method: MethodConfig, size: int, pool: int) -> dict[int, int]:
    """By how many questions classes have moved at each phase: evenly, until the pool is used.

    `size` is that of the class with rationales, by the number of the phase's first stage.
    """
    phases = list_phases(method)
    first = next(k for k, phase in enumerate(phases) if taught_classes(method, phase))
    times = max(1, len(phases) - 1 - first)
    return {phase.start: round((pool - size) * k / times) for k, phase in enumerate(phases)}


def move_at_random(
    split: SplitResult, ids: Sequence[str], classes: Sequence[str], by: int, seed: int
) -> SplitResult:
    """The random classes of `split`, moved on by so many questions along one random order.

    In the order the classes lie side by side, as on a ring. Each gets `by` new questions from the
    one below, keeps its size, and gives as many away. So after all moves a class has had as many
    different questions as its size and the moves add up to, which is the bill of a control.
    """
    order = list(ids)
    Random(f"moved split {seed}").shuffle(order)
    order.sort(key=lambda name: classes.index(split.complexity_of[name]))
    places = [split.complexity_of[name] for name in order]
    moved = {name: places[(k + by) % len(places)] for k, name in enumerate(order)}
    return replace(split, complexity_of={**split.complexity_of, **moved})


def count_moved(train: Sequence[Question], before: SplitResult, after: SplitResult) -> int:
    """How many training questions are in another class than before."""
    old, new = before.complexity_of, after.complexity_of
    return sum(old[name] != new[name] for name in values_of(train, "id"))


def tell_classes(workspace: Workspace, number: int, before: SplitResult, now: SplitResult) -> None:
    """A line of the log for stage `number`, from 0."""
    train, names = workspace.questions.train, workspace.config.split.classes
    counts = now.count(values_of(train, "id"))
    log.info(
        "stage %d, classes by the student as tuned so far: %s; %d of %d training questions moved",
        number + 1,
        ", ".join(f"{counts[name]} {name}" for name in names),
        count_moved(train, before, now),
        len(train),
    )


def most_asked(workspace: Workspace, numbers: range) -> Requests:
    """As many questions as a teacher can be asked for these stages, before their classes are known.

    Any ones: only their number is a bound.
    """
    config, train = workspace.config, workspace.questions.train
    sizes = most_in_classes(config.split, [item.subject for item in train])
    pool: int | None = getattr(config.split, "pool", None)
    if pool is not None and taught_classes(config.method, range(numbers.start)):
        (name,) = rationale_classes(config.method)
        by = _moved_by(config.method, sizes[name], pool)
        # All others of the class were asked for before.
        sizes[name] = by[numbers.start] - max(by[start] for start in by if start < numbers.start)
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
    bought = set(map(name_reply, first.rationales))
    more = [row for row in later.rationales if name_reply(row) not in bought]
    return replace(first, rationales=[*first.rationales, *more])


def name_reply(row: Rationale) -> tuple[object, ...]:
    """One name for one reply, whatever target it was judged for: in the ledger, or without cost."""
    if row.ledger_key:
        return (row.ledger_key,)
    # Only a short rationale is asked for in other words.
    return row.question_id, row.attempt, row.target is Target.short_rationale
