"""`dry_run=true`: what would run, what is there already, and what it would cost. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from caft.console import open_console
from caft.data import NotHereError
from caft.distill import forecast_prompts, forecast_rationales
from caft.distill.forecast import CostForecast
from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.evaluate.stage import ReplyInputs, find_predictions
from caft.models.config import HubModelConfig, ModelConfig
from caft.models.sources.locate import find_model
from caft.models.student import Student
from caft.pipeline.estimators import find_judge, judged_estimators, wanted_needs
from caft.pipeline.gold_room import check_gold_room
from caft.pipeline.matched_budget import (
    MatchedBudget,
    find_matched_budget,
    likely_asked,
    match_budget,
)
from caft.pipeline.preflight import open_workspace
from caft.pipeline.results import Scored, Taught
from caft.pipeline.stage_inputs import (
    base_chains,
    base_rationales,
    base_scoring,
    fallback_scoring,
    model_scoring,
    questions_for_teacher,
    rationale_classes,
    stage_tuning,
    tuned_replies,
    tuned_scoring,
)
from caft.pipeline.stages import read_published, refuse_empty_classes, split_scored
from caft.pipeline.teaching import make_ask
from caft.pipeline.workspace import Workspace
from caft.records import Mode, Question, Target
from caft.run_config import RunConfig, RunContext, Until
from caft.score.config import PublishedScoreConfig
from caft.score.stage import find_chains, find_scores, judge_prompts, read_scores
from caft.split import SplitResult
from caft.store import Artifact
from caft.text.prompts import Wanted, write_prompt
from caft.tune.config import AnswerTarget
from caft.tune.stage import find_tuning, read_tuned, starting_student

CACHED, RUNS, READS = "cached", "would run", "read anew"
_CHARACTERS_A_TOKEN = 4


@dataclass(frozen=True, slots=True)
class PlannedStage:
    """One line of the plan: the stage, whether it is in the store, and the work it holds."""

    name: str
    state: str
    work: str


def print_plan(config: RunConfig, context: RunContext) -> None:
    """Print the plan as a table of at most 80 columns. Writes no file, opens no connection."""
    try:
        workspace = open_workspace(config, context)
    except NotHereError as error:
        missing = PlannedStage("data", RUNS, f"{error}; the rest is known when it is here")
        _print_table(f"{config.name}: its questions are not on this machine.", [missing])
        return
    questions = workspace.questions
    counts = (
        f"{len(questions.train)} training, {len(questions.validation)} validation and "
        f"{len(questions.test)} test questions."
    )
    _print_table(f"{config.name}: {counts}", plan_run(workspace))


def _print_table(title: str, plan: Sequence[PlannedStage]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    console = open_console()
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in ("stage", "state", "work"):
        table.add_column(column, overflow="fold")
    for stage in plan:
        table.add_row(stage.name, stage.state, stage.work)
    console.print(f"{title} Nothing was run.", width=min(80, console.width))
    console.print(table, width=min(80, console.width))


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a run would find in the store, as far as its stages are there; None from there on.

    `student` is the base model where it is on this machine, `tuned` where every tuning stage is
    in the store.
    """

    student: Student | None
    scored: Scored | None = None
    split: SplitResult | None = None
    taught: Taught | None = None
    tuned: Student | None = None


def plan_run(workspace: Workspace) -> list[PlannedStage]:
    """The stages up to `until`, in order."""
    config = workspace.config
    here = find_model(config.model) is not None
    if here:
        check_gold_room(workspace)
    known = Known(student=workspace.student if here else None)
    plan = [] if here else [PlannedStage("model", RUNS, _fetching(config.model))]
    for until, step in _STEPS.items():
        lines, known = step(workspace, known)
        plan += lines
        if until is config.until:
            break
    return plan


def _fetching(model: ModelConfig) -> str:
    downloads = isinstance(model, HubModelConfig)
    return f"download {model.id}" if downloads else "made once, in the model cache"


Step = tuple[list[PlannedStage], Known]


def _plan_score(workspace: Workspace, known: Known) -> Step:
    config, questions = workspace.config, workspace.every_question
    if isinstance(config.score, PublishedScoreConfig):
        scored = Scored(scores=read_published(workspace, config.score))
        line = PlannedStage("score", READS, f"{len(questions)} published scores")
        return [line], replace(known, scored=scored)
    artifact = find_scores(base_scoring(workspace), workspace.store) if known.student else None
    tokens = _prompt_tokens(workspace, questions, Wanted.answer, shots=workspace.questions.shots)
    work = f"{len(questions)} questions, 1 forward pass each, about {tokens:,} tokens"
    lines = [PlannedStage("score", _state(artifact), work)]
    lines += [
        _NEEDS[need](workspace, known.student) for need in wanted_needs(config) if need in _NEEDS
    ]
    chosen = ESTIMATORS[getattr(config.split, "estimator", STAND_IN)]
    # The classes of any other estimator are known once it is gathered.
    if artifact and chosen.need is Need.single_token:
        known = replace(known, scored=Scored(scores=read_scores(artifact)))
    return lines, known


def _plan_fallback(workspace: Workspace, student: Student | None) -> PlannedStage:
    artifact = find_scores(fallback_scoring(workspace), workspace.store) if student else None
    work = f"{len(workspace.every_question)} questions, 1 more forward pass each"
    return PlannedStage("score fallback", _state(artifact), work)


def _plan_chains(workspace: Workspace, student: Student | None) -> PlannedStage:
    artifact = find_chains(base_chains(workspace), workspace.store) if student else None
    most = model_scoring(workspace.config).chain.max_new_tokens
    work = f"{len(workspace.every_question)} chains of thought of at most {most} tokens"
    return PlannedStage("score chains", _state(artifact), work)


def _plan_all_rationales(workspace: Workspace, _student: Student | None) -> PlannedStage:
    estimate = _estimate_asking(workspace, workspace.questions.train)
    work = f"EVERY training question, for rationale_length. {workspace.config.teacher.name}: "
    return PlannedStage("score rationales", _state_of_asking(estimate), work + estimate.line())


def _plan_judge(workspace: Workspace, _student: Student | None) -> PlannedStage:
    config = workspace.config
    judge, names = find_judge(config), judged_estimators(config)
    estimate = forecast_prompts(
        judge_prompts(workspace.every_question, names, config.dataset.prompt),
        teacher=judge,
        ledger_path=workspace.store.ledger_path,
    )
    state = RUNS if estimate.calls.high else CACHED
    return PlannedStage("score judge", state, f"{judge.model}: {estimate.line()}")


_NEEDS = {
    Need.fallback: _plan_fallback,
    Need.chain: _plan_chains,
    Need.rationale: _plan_all_rationales,
    Need.judge: _plan_judge,
}


def _plan_split(workspace: Workspace, known: Known) -> Step:
    if known.scored is None:
        return [PlannedStage("split", RUNS, "cut points are known after scoring")], known
    split = split_scored(workspace, known.scored)
    complexity_of = split.complexity_of
    placed = [complexity_of[item.id] for item in workspace.questions.train]
    classes = workspace.config.split.classes
    counts = ", ".join(f"{placed.count(name)} {name}" for name in classes)
    return [PlannedStage("split", READS, counts)], replace(known, split=split)


def _plan_distill(workspace: Workspace, known: Known) -> Step:
    return [_plan_asking(workspace, known)], replace(
        known, taught=_foresee_teaching(workspace, known)
    )


def _plan_asking(workspace: Workspace, known: Known) -> PlannedStage:
    config = workspace.config
    asked = _expected_asked(workspace, known)
    if not asked:
        return PlannedStage("distill", READS, "the method asks for no rationale")
    if Need.rationale in wanted_needs(config):
        return PlannedStage("distill", READS, "every rationale was bought to score")
    estimate = _estimate_asking(workspace, asked)
    whose = config.teacher.name
    if find_matched_budget(config):
        whose += ", about the entropy arm's questions, whose bill is the budget, and as many drawn"
    return PlannedStage("distill", _state_of_asking(estimate), f"{whose}: {estimate.line()}")


def _foresee_teaching(workspace: Workspace, known: Known) -> Taught | None:
    """What asking would end in, where that is known: worked solutions cost nothing to read."""
    if known.split is None or known.scored is None:
        return None
    config = workspace.config
    if not rationale_classes(config.method):
        return Taught(split=known.split)
    if config.teacher.kind != "worked" or known.student is None:
        return None
    refuse_empty_classes(workspace, known.split)
    asked, ask = questions_for_teacher(workspace, known.split), make_ask(workspace)
    budget = find_matched_budget(config)
    if not budget:
        return Taught(split=known.split, rationales=ask(asked))
    split, rationales = match_budget(workspace, known.scored, known.split, budget, ask)
    return Taught(split=split, rationales=rationales)


def _estimate_asking(workspace: Workspace, asked: Sequence[Question]) -> CostForecast:
    return forecast_rationales(
        asked,
        prompt=workspace.config.dataset.prompt,
        teacher=workspace.config.teacher,
        ledger_path=workspace.store.ledger_path,
        shots=workspace.questions.shots,
    )


def _expected_asked(workspace: Workspace, known: Known) -> Sequence[Question]:
    """The questions for the teacher; before scoring, as many of average length."""
    config, train = workspace.config, workspace.questions.train
    if budget := find_matched_budget(config):
        return _expected_to_match(workspace, known, budget)
    if known.split is not None:
        return questions_for_teacher(workspace, known.split)
    share = sum(_expected_share(workspace, name) for name in rationale_classes(config.method))
    return train[: round(share * len(train))]


def _expected_to_match(
    workspace: Workspace, known: Known, budget: MatchedBudget
) -> Sequence[Question]:
    reference = ESTIMATORS[budget.split.reference]
    if known.scored is not None and reference.need is Need.single_token:
        return likely_asked(workspace, known.scored, budget)
    train = workspace.questions.train
    # Two draws of a share: some questions are in both.
    in_neither = (1 - _expected_share(workspace, budget.taught)) ** 2
    return train[: round((1 - in_neither) * len(train))]


def _expected_share(workspace: Workspace, complexity: str) -> float:
    """The share of training rows that quantiles give a class; all of them where none are given."""
    split = workspace.config.split
    quantiles = getattr(split, "quantiles", None)
    if quantiles is None:
        return 1.0 / len(split.classes)
    bounds = [0.0, *quantiles, 1.0]
    index = split.classes.index(complexity)
    return float(bounds[index + 1] - bounds[index])


def _plan_tune(workspace: Workspace, known: Known) -> Step:
    config, lines = workspace.config, []
    student = starting_student(known.student, config.tuning) if known.student else None
    for number, stage in enumerate(config.method.stages):
        targets = ", ".join(f"{name}: {target.name}" for name, target in stage.targets.items())
        artifact, rows = None, _expected_rows(workspace, known, number)
        taught = known.taught
        if known.split and Target.rationale not in stage.targets.values():
            taught = taught or Taught(split=known.split)
        if student and taught:
            tuning = stage_tuning(workspace, taught, student, number)
            artifact, rows = find_tuning(tuning, workspace.store), len(tuning.pairs)
        student = read_tuned(student, artifact) if student and artifact else None
        work = f"{{{targets}}}: about {rows} rows x {stage.epochs} epochs"
        lines.append(PlannedStage(f"tune {number + 1}", _state(artifact), work))
    return lines, replace(known, tuned=student if config.method.stages else None)


def _expected_rows(workspace: Workspace, known: Known, number: int) -> int:
    targets = workspace.config.method.stages[number].targets
    train = workspace.questions.train
    if known.split is not None:
        placed = known.split.complexity_of
        return sum(placed[question.id] in targets for question in train)
    share = sum(_expected_share(workspace, name) for name in targets)
    return round(share * len(train))


def _plan_evaluate(workspace: Workspace, known: Known) -> Step:
    modes, lines = workspace.config.evaluation.modes, []
    if Mode.rationale in modes:
        work = base_rationales(workspace) if known.student else None
        lines.append(_plan_writing(workspace, work, "base rationale"))
    if not workspace.config.method.stages:
        return lines, known
    if Mode.answer in modes:
        lines.append(_plan_answers(workspace, known.tuned))
    if Mode.rationale in modes:
        work = tuned_replies(workspace, known.tuned, Wanted.rationale) if known.tuned else None
        lines.append(_plan_writing(workspace, work, "tuned rationale"))
    return lines, known


def _plan_answers(workspace: Workspace, tuned: Student | None) -> PlannedStage:
    if workspace.config.tuning.answer_target is AnswerTarget.bracketed:
        replies = tuned_replies(workspace, tuned, Wanted.bracketed) if tuned else None
        return _plan_writing(workspace, replies, "tuned answer")
    artifact = find_scores(tuned_scoring(workspace, tuned), workspace.store) if tuned else None
    work = f"{len(workspace.held_out)} questions, 1 forward pass each"
    return PlannedStage("evaluate tuned answer", _state(artifact), work)


def _plan_writing(workspace: Workspace, writing: ReplyInputs | None, title: str) -> PlannedStage:
    artifact = find_predictions(writing, workspace.store) if writing else None
    most = workspace.config.evaluation.max_new_tokens
    work = f"{len(workspace.held_out)} replies of at most {most} tokens"
    return PlannedStage(f"evaluate {title}", _state(artifact), work)


_STEPS = {
    Until.score: _plan_score,
    Until.split: _plan_split,
    Until.distill: _plan_distill,
    Until.tune: _plan_tune,
    Until.evaluate: _plan_evaluate,
}


def _state(artifact: Artifact | None) -> str:
    return CACHED if artifact else RUNS


def _state_of_asking(estimate: CostForecast) -> str:
    return RUNS if estimate.calls.high else CACHED if estimate.from_ledger else READS


def _prompt_tokens(
    workspace: Workspace,
    questions: Sequence[Question],
    wanted: Wanted,
    *,
    shots: Sequence[Question],
) -> int:
    """About how many tokens the prompts have; shots are run once, as a shared prefix."""
    config = workspace.config.dataset.prompt
    bare = [write_prompt(question, config, wanted, chat=True) for question in questions]
    once = write_prompt(questions[0], config, wanted, chat=True, shots=shots)
    characters = sum(len(turn.content) for prompt in [*bare, once] for turn in prompt.messages)
    return characters // _CHARACTERS_A_TOKEN
