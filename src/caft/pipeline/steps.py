"""The stages of a run, in order, from its config alone.

The run walks this list, and so does the dry run: they cannot differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from caft.engines.config import InProcessEngineConfig, OwnEngineConfig
from caft.errors import UserError
from caft.estimators import ESTIMATORS, STAND_IN, Need, needs_of
from caft.records import Mode, Target
from caft.run_config import RunConfig, Until
from caft.score.config import ChainConfig, ModelScoreConfig, PublishedScoreConfig
from caft.split.config import Match, RandomSplitConfig
from caft.store import StageKind
from caft.teachers.config import LocalModelTeacherConfig
from caft.tune.config import AnswerTarget, MethodConfig


@dataclass(frozen=True, slots=True)
class Step:
    """One stage: the part of the run that it belongs to, and its line in summary.json.

    `number` is that of a tuning stage, from 0; `mode` and `tuned` say whose replies are evaluated,
    `also` on which further set, if on one.
    """

    part: Until
    kind: StageKind
    name: str
    number: int = 0
    mode: Mode = Mode.answer
    tuned: bool = False
    also: str = ""


OF_NEED = {
    Need.fallback: Step(Until.score, StageKind.fallback, "score fallback"),
    Need.p_true: Step(Until.score, StageKind.p_true, "score p_true"),
    Need.verbalized: Step(Until.score, StageKind.verbalized, "score verbalized"),
    Need.teacher: Step(Until.score, StageKind.teacher, "score teacher"),
    Need.teacher_options: Step(Until.score, StageKind.teacher_options, "score teacher options"),
    Need.chain: Step(Until.score, StageKind.chains, "score chains"),
    Need.samples: Step(Until.score, StageKind.samples, "score samples"),
    Need.rationale: Step(Until.score, StageKind.distill, "distill"),
    Need.judge: Step(Until.score, StageKind.judge, "score judge"),
}
_TEACHER = Step(Until.distill, StageKind.distill, "distill")
OWN = Step(Until.distill, StageKind.samples, "own rationales")


def list_steps(config: RunConfig) -> list[Step]:
    """The stages that do work, up to `until`. Splitting and published scores do none."""
    steps = []
    if not isinstance(config.score, PublishedScoreConfig):
        steps.append(Step(Until.score, StageKind.score, "score"))
    needs = wanted_needs(config)
    if getattr(config.score, "teacher_entropies", None):
        needs = [need for need in needs if need is not Need.teacher]
    steps += [OF_NEED[need] for need in needs if need in OF_NEED]
    steps += _distill_steps(config)
    for phase in list_phases(config.method):
        steps += _tuning_steps(config, phase)
    return [step for step in [*steps, *_evaluation_steps(config)] if reaches(config, step.part)]


def list_phases(method: MethodConfig) -> list[range]:
    """The numbers of the stages that share their classes: a stage that rescores begins anew."""
    stages = enumerate(method.stages)
    starts = [0, *(number for number, stage in stages if stage.rescores), len(method.stages)]
    return [range(*pair) for pair in pairwise(starts)]


def _tuning_steps(config: RunConfig, phase: range) -> list[Step]:
    first, part = phase.start, Until.tune
    steps = [Step(part, StageKind.tune, f"tune {number + 1}", number=number) for number in phase]
    if not first:
        return steps
    before = [Step(part, StageKind.score, f"rescore {first + 1}", number=first)]
    if asked_targets(config, phase):
        before.append(Step(part, StageKind.distill, f"distill {first + 1}", number=first))
    return [*before, *steps]


def _distill_steps(config: RunConfig) -> list[Step]:
    """The student's own chains come first, since they are free, where the split is known then."""
    matched = find_matched_budget(config)
    asks = [_TEACHER] if matched or asked_targets(config, list_phases(config.method)[0]) else []
    draws = bool(own_classes(config.method)) and Need.samples not in wanted_needs(config)
    own = [OWN] if draws else []
    return [*asks, *own] if matched else [*own, *asks]


def _evaluation_steps(config: RunConfig) -> list[Step]:
    """The base model's single-token answers are its scores.

    All of one model are together, those that we write ourselves first: so that an engine, which
    takes the device's memory, starts once for it.
    """
    asked = [("base", Mode.rationale)]
    if config.method.stages:
        asked += [("tuned", Mode.answer), ("tuned", Mode.rationale)]
    part, kind = Until.evaluate, StageKind.evaluate
    steps = [
        Step(part, kind, f"evaluate {model} {mode.name}", mode=mode, tuned=model == "tuned")
        for model, mode in asked
        if mode in config.evaluation.modes
    ]
    steps += _further_steps(config)
    steps.sort(key=lambda step: (step.tuned, not asks_one_token(config, step)))
    return [each for step in steps for each in (*_gates(config, steps, step), step)]


def _further_steps(config: RunConfig) -> list[Step]:
    """Every further set in every mode but routed, whose classes are those of the run's dataset."""
    models = ["base", "tuned"] if config.method.stages else ["base"]
    part, kind = Until.evaluate, StageKind.evaluate
    return [
        Step(
            part, kind, f"evaluate {model} {mode.name}, {each.name}",
            mode=mode, tuned=model == "tuned", also=each.name,
        )
        for each in config.further
        for mode in config.evaluation.modes
        if mode is not Mode.routed
        for model in models
    ]  # fmt: skip


def _gates(config: RunConfig, steps: Sequence[Step], step: Step) -> list[Step]:
    """Before a model's first written replies: whether the engine writes what we do."""
    written = [
        each for each in steps if each.tuned == step.tuned and not asks_one_token(config, each)
    ]
    if isinstance(config.engine, OwnEngineConfig) or step not in written[:1]:
        return []
    name = f"gate {'tuned' if step.tuned else 'base'}"
    return [replace(step, kind=StageKind.gate, name=name)]


def asks_local_teacher(config: RunConfig) -> bool:
    """Whether a stage reads or writes with a teacher in this process."""
    kinds = {step.kind for step in list_steps(config)}
    local = isinstance(config.teacher, LocalModelTeacherConfig)
    return local and bool(kinds & {StageKind.distill, StageKind.teacher})


def asks_one_token(config: RunConfig, step: Step) -> bool:
    """Whether an evaluation reads its answers off the next token, as scoring does."""
    return step.mode is Mode.answer and config.tuning.answer_target is not AnswerTarget.bracketed


def steps_of(config: RunConfig, part: Until) -> list[Step]:
    """The stages of one part of the run."""
    return [step for step in list_steps(config) if step.part is part]


def reaches(config: RunConfig, part: Until) -> bool:
    """Whether the run gets as far as `part`."""
    order = list(Until)
    return order.index(part) <= order.index(config.until)


def evaluates_with_engine(config: RunConfig) -> bool:
    """Whether an engine that is not ours writes replies of an evaluation."""
    return any(step.kind is StageKind.gate for step in list_steps(config))


def teaches_with_engine(config: RunConfig) -> bool:
    """Whether an engine writes for a local teacher; a server has a teacher of its own kind."""
    in_process = isinstance(config.engine, InProcessEngineConfig)
    asked = any(step.kind is StageKind.distill for step in list_steps(config))
    return in_process and asked and asks_local_teacher(config)


def tunes(config: RunConfig) -> bool:
    """Whether the run gets as far as tuning, and its method has a stage to tune."""
    return bool(config.method.stages) and reaches(config, Until.tune)


def rationale_classes(method: MethodConfig) -> set[str]:
    """The classes that any stage trains on a teacher's texts."""
    return set().union(*taught_classes(method).values())


def own_classes(method: MethodConfig) -> list[str]:
    """The classes that any stage trains on the student's own rationales."""
    named = (item for stage in method.stages for item in stage.shares.items())
    return list(dict.fromkeys(name for name, own in named if Target.own_rationale in own))


def taught_classes(method: MethodConfig, numbers: range | None = None) -> dict[Target, set[str]]:
    """What a teacher is asked for, and for which classes; `numbers` are those of some stages.

    A class that needs the reasoning, too, is asked for both at once.
    """
    classes: dict[Target, set[str]] = {target: set() for target in Target if target.taught}
    for stage in method.stages if numbers is None else [method.stages[n] for n in numbers]:
        for name, own in stage.shares.items():
            for target in filter(lambda each: each.taught, own):
                classes[target].add(name)
    classes[Target.rationale] -= classes[Target.thinking]
    return {target: names for target, names in classes.items() if names}


def asked_targets(config: RunConfig, numbers: range) -> dict[Target, set[str]]:
    """As `taught_classes`, without what an estimator has every question asked for."""
    bought = {Target.rationale} if Need.rationale in wanted_needs(config) else set()
    classes = taught_classes(config.method, numbers)
    return {target: names for target, names in classes.items() if target not in bought}


def scoring_of(config: RunConfig) -> ModelScoreConfig:
    """The scoring settings; the defaults if the base model's scores are published ones."""
    if isinstance(config.score, ModelScoreConfig):
        return config.score
    return ModelScoreConfig(chain=ChainConfig(max_new_tokens=config.dataset.max_new_tokens))


def wanted_estimators(config: RunConfig) -> list[str]:
    """The estimator that splits, and those that are only validated."""
    # The random control of a matched budget needs what its reference needs.
    matched = isinstance(config.split, RandomSplitConfig) and config.split.match is not Match.sizes
    chosen = getattr(config.split, "reference" if matched else "estimator", None)
    others = config.score.estimators if isinstance(config.score, ModelScoreConfig) else []
    return list(dict.fromkeys([*([chosen] if chosen else []), *others]))


def wanted_needs(config: RunConfig) -> list[Need]:
    """What the requested estimators need, cheapest first."""
    return needs_of(wanted_estimators(config))


def judged_estimators(config: RunConfig) -> list[str]:
    """The estimators that need a judge, which is paid for these alone."""
    return [name for name in wanted_estimators(config) if ESTIMATORS[name].need is Need.judge]


def _bought_whole(method: MethodConfig) -> set[str]:
    """The classes of which a stage trains every question on a teacher's text."""
    return {
        name
        for stage in method.stages
        for name, own in stage.shares.items()
        if any(target.taught for target in own) and name not in stage.draw
    }


@dataclass(frozen=True, slots=True)
class MatchedBudget:
    """A random split that must cost what the entropy arm costs, and the class with rationales.

    `target` is what a teacher is asked for.
    """

    split: RandomSplitConfig
    taught: str
    seed: int
    target: Target = Target.rationale


def find_matched_budget(config: RunConfig) -> MatchedBudget | None:
    """The budget to match; None if the config does not match, or if matching changes nothing.

    UserError if several classes have rationales, but not all questions of all classes, if the one
    has two kinds of them, or if the entropy arm's estimator buys every rationale, so that its
    budget leaves nothing to choose.
    """
    split = config.split
    if not isinstance(split, RandomSplitConfig) or split.match is Match.sizes:
        return None
    taught = rationale_classes(config.method)
    if not taught or _bought_whole(config.method) == set(split.classes):
        return None
    if len(taught) > 1:
        raise UserError(
            f"split.match={split.match.value} needs a method that uses rationales for one class; "
            f"{config.method.name} uses them for {', '.join(sorted(taught))}: set "
            "split.match=sizes"
        )
    if ESTIMATORS[split.reference].need is Need.rationale:
        raise UserError(
            f"split.match={split.match.value} with split.reference={split.reference}: that "
            "estimator buys every question's rationale, and its budget leaves nothing to draw; set "
            f"split.match=sizes, or split.reference={STAND_IN}"
        )
    targets = list(taught_classes(config.method))
    if len(targets) > 1:
        raise UserError(
            f"split.match={split.match.value} needs a method that asks a teacher for one kind of "
            f"text; {config.method.name} asks for {' and '.join(each.name for each in targets)}: "
            "set split.match=sizes"
        )
    return MatchedBudget(split, taught.pop(), config.seed, targets[0])
