"""`dry_run=true`: what would run, what is there already, and what it would cost. Runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caft.console import open_console
from caft.data import NotHereError
from caft.distill import estimate_prompts, estimate_rationales
from caft.distill.estimate import Estimate
from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.evaluate.stage import find_predictions
from caft.models.config import HubModelConfig
from caft.models.locate import find_model
from caft.models.student import Student
from caft.pipeline.estimating import (
    chaining_of,
    fallback_scoring,
    find_judge,
    judged_estimators,
    wanted_needs,
)
from caft.pipeline.findings import Findings
from caft.pipeline.gold_room import check_gold_room
from caft.pipeline.matching import likely_asked, taught_class
from caft.pipeline.story import (
    Workplace,
    base_scoring,
    open_workplace,
    questions_for_teacher,
    refuse_empty_classes,
    split,
    take_rationales,
    tuned_scoring,
    tuning_of,
    writing_of,
)
from caft.records import Mode, Question, Target
from caft.run_config import RunConfig, RunContext, Until
from caft.score.config import ModelScoreConfig, PublishedScoreConfig
from caft.score.stage import find_chains, find_scores, judge_prompts, read_scores
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
        place = open_workplace(config, context)
    except NotHereError as error:
        missing = PlannedStage("data", RUNS, f"{error}; the rest is known when it is here")
        _print_table(f"{config.name}: its questions are not on this machine.", [missing])
        return
    questions = place.questions
    counts = (
        f"{len(questions.train)} training, {len(questions.validation)} validation and "
        f"{len(questions.test)} test questions."
    )
    _print_table(f"{config.name}: {counts}", plan_run(place))


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


def plan_run(place: Workplace) -> list[PlannedStage]:
    """The stages up to `until`, in order."""
    findings = Findings(place.questions)
    here = find_model(place.config.model) is not None
    if here:
        check_gold_room(place)
    plan = [] if here else [PlannedStage("model", RUNS, _fetching(place))]
    steps = {
        Until.score: _plan_score,
        Until.split: _plan_split,
        Until.distill: _plan_distill,
        Until.tune: _plan_tune,
        Until.evaluate: _plan_evaluate,
    }
    for name, step in steps.items():
        plan += step(place, findings, place.student if here else None)
        if name is place.config.until:
            break
    return plan


def _fetching(place: Workplace) -> str:
    downloads = isinstance(place.config.model, HubModelConfig)
    return f"download {place.config.model.id}" if downloads else "made once, in the model cache"


def _plan_score(
    place: Workplace, findings: Findings, student: Student | None
) -> list[PlannedStage]:
    questions = [*place.questions.train, *place.held_out]
    if isinstance(place.config.score, PublishedScoreConfig):
        from caft.pipeline.story import score

        score(place, findings)
        return [PlannedStage("score", READS, f"{len(questions)} published scores")]
    artifact = find_scores(base_scoring(place), place.store) if student else None
    if artifact:
        findings.scores = read_scores(artifact)
    tokens = _prompt_tokens(place, questions, Wanted.answer, shots=place.questions.shots)
    work = f"{len(questions)} questions, 1 forward pass each, about {tokens:,} tokens"
    plan = [PlannedStage("score", _state(artifact), work)]
    for need in wanted_needs(place.config):
        if need in _NEEDS:
            plan.append(_NEEDS[need](place, questions, student))
    chosen = getattr(place.config.split, "estimator", STAND_IN)
    if ESTIMATORS[chosen].need is not Need.single_token:
        # Its classes are known once it is gathered.
        findings.scores = None
    return plan


def _plan_fallback(
    place: Workplace, questions: Sequence[Question], student: Student | None
) -> PlannedStage:
    artifact = find_scores(fallback_scoring(place), place.store) if student else None
    work = f"{len(questions)} questions, 1 more forward pass each"
    return PlannedStage("score fallback", _state(artifact), work)


def _plan_chains(
    place: Workplace, questions: Sequence[Question], student: Student | None
) -> PlannedStage:
    artifact = find_chains(chaining_of(place), place.store) if student else None
    assert isinstance(place.config.score, ModelScoreConfig)
    most = place.config.score.chain.max_new_tokens
    work = f"{len(questions)} chains of thought of at most {most} tokens"
    return PlannedStage("score chains", _state(artifact), work)


def _plan_all_rationales(
    place: Workplace, _questions: Sequence[Question], _student: Student | None
) -> PlannedStage:
    estimate = _estimate_asking(place, place.questions.train)
    state = RUNS if estimate.calls.high else CACHED if estimate.from_ledger else READS
    work = f"EVERY training question, for rationale_length. {place.config.teacher.name}: "
    return PlannedStage("score rationales", state, work + estimate.line())


def _plan_judge(
    place: Workplace, questions: Sequence[Question], _student: Student | None
) -> PlannedStage:
    judge = find_judge(place.config)
    names = judged_estimators(place.config)
    estimate = estimate_prompts(
        judge_prompts(questions, names, place.config.dataset.prompt),
        teacher=judge,
        ledger_path=place.store.ledger_path,
    )
    state = RUNS if estimate.calls.high else CACHED
    return PlannedStage("score judge", state, f"{judge.model}: {estimate.line()}")


_NEEDS = {
    Need.fallback: _plan_fallback,
    Need.chain: _plan_chains,
    Need.rationale: _plan_all_rationales,
    Need.judge: _plan_judge,
}


def _plan_split(
    place: Workplace, findings: Findings, _student: Student | None
) -> list[PlannedStage]:
    if findings.scores is None:
        return [PlannedStage("split", RUNS, "cut points are known after scoring")]
    split(place, findings)
    assert findings.split is not None
    placed = [findings.split.complexity_of[item.id] for item in place.questions.train]
    counts = ", ".join(f"{placed.count(name)} {name}" for name in place.config.split.classes)
    return [PlannedStage("split", READS, counts)]


def _plan_distill(
    place: Workplace, findings: Findings, _student: Student | None
) -> list[PlannedStage]:
    asked = _asked(place, findings)
    if not asked:
        return [PlannedStage("distill", READS, "the method asks for no rationale")]
    if Need.rationale in wanted_needs(place.config):
        return [PlannedStage("distill", READS, "every rationale was bought to score")]
    estimate = _estimate_asking(place, asked)
    state = RUNS if estimate.calls.high else CACHED if estimate.from_ledger else READS
    whose = place.config.teacher.name
    if taught_class(place):
        whose += ", about the entropy arm's questions, whose bill is the budget, and as many drawn"
    return [PlannedStage("distill", state, f"{whose}: {estimate.line()}")]


def _estimate_asking(place: Workplace, asked: Sequence[Question]) -> Estimate:
    return estimate_rationales(
        asked,
        prompt=place.config.dataset.prompt,
        teacher=place.config.teacher,
        ledger_path=place.store.ledger_path,
        shots=place.questions.shots,
    )


def _asked(place: Workplace, findings: Findings) -> Sequence[Question]:
    """The questions for the teacher; before scoring, as many of average length."""
    if taught := taught_class(place):
        return _asked_to_match(place, findings, taught)
    if findings.split is not None:
        return questions_for_teacher(place, findings)
    wanted = {
        name
        for stage in place.config.method.stages
        for name, target in stage.targets.items()
        if target is Target.rationale
    }
    share = sum(_expected_share(place, name) for name in wanted)
    return place.questions.train[: round(share * len(place.questions.train))]


def _asked_to_match(place: Workplace, findings: Findings, taught: str) -> Sequence[Question]:
    known = likely_asked(place, findings, taught)
    if known is not None:
        return known
    train = place.questions.train
    # Two draws of a share: some questions are in both.
    in_neither = (1 - _expected_share(place, taught)) ** 2
    return train[: round((1 - in_neither) * len(train))]


def _expected_share(place: Workplace, complexity: str) -> float:
    """The share of training rows that quantiles give a class; all of them where none are given."""
    quantiles = getattr(place.config.split, "quantiles", None)
    if quantiles is None:
        return 1.0 / len(place.config.split.classes)
    bounds = [0.0, *quantiles, 1.0]
    index = place.config.split.classes.index(complexity)
    return float(bounds[index + 1] - bounds[index])


def _plan_tune(place: Workplace, findings: Findings, student: Student | None) -> list[PlannedStage]:
    free = place.config.teacher.kind == "worked"
    if findings.split is not None and free:
        _take_solutions(place, findings, student)
    plan = []
    student = starting_student(student, place.config.tuning) if student else None
    for number, stage in enumerate(place.config.method.stages):
        targets = ", ".join(f"{name}: {target.name}" for name, target in stage.targets.items())
        known = student is not None and findings.split is not None
        known = known and (free or Target.rationale not in stage.targets.values())
        artifact, rows = None, _expected_rows(place, findings, number)
        if known and student is not None:
            tuning = tuning_of(place, findings, student, number)
            artifact, rows = find_tuning(tuning, place.store), len(tuning.lessons)
        student = read_tuned(student, artifact) if student and artifact else None
        work = f"{{{targets}}}: about {rows} rows x {stage.epochs} epochs"
        plan.append(PlannedStage(f"tune {number + 1}", _state(artifact), work))
    findings.tuned = student if place.config.method.stages else None
    return plan


def _take_solutions(place: Workplace, findings: Findings, student: Student | None) -> None:
    """The dataset's own solutions, as tuning would get them; they are refused by its tokens."""
    refuse_empty_classes(place, findings)
    asked = questions_for_teacher(place, findings)
    if asked and student is not None:
        take_rationales(place, findings, asked, taught_class(place))


def _expected_rows(place: Workplace, findings: Findings, number: int) -> int:
    targets = place.config.method.stages[number].targets
    if findings.split is not None:
        placed = findings.split.complexity_of
        return sum(placed[question.id] in targets for question in place.questions.train)
    share = sum(_expected_share(place, name) for name in targets)
    return round(share * len(place.questions.train))


def _plan_evaluate(
    place: Workplace, findings: Findings, student: Student | None
) -> list[PlannedStage]:
    plan = []
    if Mode.rationale in place.config.evaluation.modes:
        plan.append(_plan_writing(place, student, Wanted.rationale, "base rationale"))
    if not place.config.method.stages:
        return plan
    if Mode.answer in place.config.evaluation.modes:
        plan.append(_plan_answers(place, findings.tuned))
    if Mode.rationale in place.config.evaluation.modes:
        plan.append(_plan_writing(place, findings.tuned, Wanted.rationale, "tuned rationale"))
    return plan


def _plan_answers(place: Workplace, tuned: Student | None) -> PlannedStage:
    if place.config.tuning.answer_target is AnswerTarget.bracketed:
        return _plan_writing(place, tuned, Wanted.bracketed, "tuned answer")
    artifact = find_scores(tuned_scoring(place, tuned), place.store) if tuned else None
    work = f"{len(place.held_out)} questions, 1 forward pass each"
    return PlannedStage("evaluate tuned answer", _state(artifact), work)


def _plan_writing(
    place: Workplace, student: Student | None, wanted: Wanted, title: str
) -> PlannedStage:
    artifact = None
    if student is not None:
        artifact = find_predictions(writing_of(place, student, wanted), place.store)
    most = place.config.evaluation.max_new_tokens
    work = f"{len(place.held_out)} replies of at most {most} tokens"
    return PlannedStage(f"evaluate {title}", _state(artifact), work)


def _state(artifact: Artifact | None) -> str:
    return CACHED if artifact else RUNS


def _prompt_tokens(
    place: Workplace, questions: Sequence[Question], wanted: Wanted, *, shots: Sequence[Question]
) -> int:
    """About how many tokens the prompts have; shots are run once, as a shared prefix."""
    config = place.config.dataset.prompt
    bare = [write_prompt(question, config, wanted, chat=True) for question in questions]
    once = write_prompt(questions[0], config, wanted, chat=True, shots=shots)
    characters = sum(len(turn.content) for prompt in [*bare, once] for turn in prompt.messages)
    return characters // _CHARACTERS_A_TOKEN
