"""One run, told in order. Every stage asks the store first."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property, partial

from caft.data import QuestionSplits, load_questions, published_scores
from caft.decoration import or_without
from caft.distill import check_teacher, write_rationales
from caft.errors import UserError
from caft.estimators import Need
from caft.evaluate.accuracy import pick_best_mode
from caft.evaluate.predictions import read_single_token, route
from caft.evaluate.stage import (
    Writing,
    encode_prompts,
    find_predictions,
    read_predictions,
    write_predictions,
)
from caft.exit_status import DONE, OUR_FAULT
from caft.models.encoding import special_tokens
from caft.models.locate import locate_model
from caft.models.student import Student
from caft.pipeline.estimating import (
    check_estimators,
    gather_estimates,
    refuse_unfit_prompts,
    wanted_needs,
)
from caft.pipeline.findings import Examined, Findings, StageKind
from caft.pipeline.gold_room import check_gold_room
from caft.pipeline.matching import match_budget, taught_class
from caft.pipeline.outputs import write_outputs
from caft.pipeline.recipe import describe_template
from caft.pipeline.routing import choose_routing
from caft.pipeline.teaching import LocalTeacher, watch_asking
from caft.records import (
    AnswerScore,
    Mode,
    Prediction,
    Question,
    Rationale,
    Target,
)
from caft.run_config import RunConfig, RunContext, Until
from caft.score.config import ModelScoreConfig, PublishedScoreConfig
from caft.score.stage import Scoring, read_scores, score_questions
from caft.split import split_questions
from caft.store import Store, digest, measured, plain, write_table
from caft.teachers.progress import Watcher
from caft.text.prompts import Prompt, Wanted, write_prompt
from caft.trainers.loggers import RunIdentity, RunLogger, check_logger, open_logger
from caft.tune.check import refuse_unmeasured
from caft.tune.config import AnswerTarget, StageConfig
from caft.tune.examples import Lesson, choose_lessons
from caft.tune.stage import (
    Tuning,
    Validation,
    log_row,
    read_numbers,
    read_tuned,
    starting_student,
    tune_student,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Workplace:
    """What every stage of a run needs: its config, its store, its questions, its student."""

    config: RunConfig
    context: RunContext
    questions: QuestionSplits
    store: Store
    until_the_end: ExitStack = field(default_factory=ExitStack)

    @cached_property
    def student(self) -> Student:
        """The base model; found, made or downloaded when the first stage needs it."""
        # Before torch is imported: a model that cannot be had is known within seconds.
        folder = locate_model(self.config.model)
        from caft.trainers.build import pick_device

        return Student(self.config.model, folder, pick_device(self.config.trainer))

    @property
    def held_out(self) -> list[Question]:
        """Validation and test questions, in this order."""
        return [*self.questions.validation, *self.questions.test]


def run_pipeline(config: RunConfig, context: RunContext) -> int:
    """Run the stages up to `until`; 0 when done. UserError where the user must act.

    OUR_FAULT where all is done but the page that shows it.
    """
    if config.dry_run:
        from caft.pipeline.plan import print_plan

        print_plan(config, context)
        return DONE
    started = datetime.now(UTC)
    place = open_workplace(config, context)
    check_gold_room(place)
    refuse_prompts_without_room(place)
    if _tunes(config):
        starting_student(place.student, config.tuning)
    findings = Findings(place.questions)
    with place.until_the_end:
        findings.logger = _open_logger(place)
        for stage, tell in _STORY.items():
            tell(place, findings)
            if stage is config.until:
                break
        _describe_model(place, findings)
        drawn = write_outputs(config, context, findings, started=started)
    return DONE if drawn else OUR_FAULT


def _tunes(config: RunConfig) -> bool:
    stops_before = config.until in (Until.score, Until.split, Until.distill)
    return bool(config.method.stages) and not stops_before


def refuse_prompts_without_room(place: Workplace) -> None:
    """UserError where a rationale would not fit behind its prompt: now, not after the tuning."""
    refuse_unfit_prompts(place)
    reaches = place.config.until in (Until.evaluate, Until.report)
    if not reaches or Mode.rationale not in place.config.evaluation.modes:
        return
    # The base model's prompts are the longest: only they have shots.
    work = writing_of(place, place.student, Wanted.rationale)
    if find_predictions(work, place.store):
        return
    lengths = {name: len(ids) for name, ids in encode_prompts(work)}
    place.student.refuse_long_prompts(lengths, work.max_new_tokens)


def _open_logger(place: Workplace) -> RunLogger:
    """Open for the rest of the run; a run that fails is marked as failed."""
    config, context = place.config, place.context
    identity = RunIdentity(
        name=config.name,
        folder=context.folder,
        run_id=context.run_id,
        sweep=context.sweep,
        kind=config.method.name if config.until is Until.report else config.until.name,
        overrides=context.overrides,
        config=plain(config),
    )
    return place.until_the_end.enter_context(open_logger(config.logger, identity))


def _describe_model(place: Workplace, findings: Findings) -> None:
    # Published scores may never have needed the model itself.
    if "student" in place.__dict__:
        findings.parameters = or_without("the model's size", lambda: place.student.parameters, None)
        findings.revision = place.student.revision
        findings.template = describe_template(place.config, place.student)


def open_workplace(config: RunConfig, context: RunContext) -> Workplace:
    """Read the questions and check everything that can be checked before a model loads.

    A dry run downloads nothing, makes no store and needs no key: NotHereError where the questions
    are not on this machine.
    """
    if not config.dry_run:
        check_logger(config.logger)
    if config.trainer.devices > 1:
        from caft.trainers.build import refuse_too_many_devices

        refuse_too_many_devices(config.trainer)
    questions = load_questions(config.dataset, fetch=not config.dry_run)
    store = Store(config.store.folder, reads_only=config.dry_run)
    place = Workplace(config, context, questions, store)
    wants_teacher = any(
        Target.rationale in stage.targets.values() for stage in config.method.stages
    )
    taught_class(place)
    check_estimators(config, [*questions.train, *place.held_out])
    if _tunes(config):
        _refuse_unmeasured_stages(place)
    # Whoever stops after the scores, to see what they are worth, needs no teacher yet.
    stops_early = config.until in (Until.score, Until.split)
    if (wants_teacher and not stops_early) or Need.rationale in wanted_needs(config):
        has_solutions = all(question.rationale for question in questions.train)
        check_teacher(has_solutions, config.teacher, pays=not config.dry_run)
        if config.teacher.kind == "local_model" and not config.dry_run:
            LocalTeacher(config).refuse_template(_first_question_to_teacher(place))
    return place


def _first_question_to_teacher(place: Workplace) -> Prompt:
    question, shots = place.questions.train[0], place.questions.shots
    wording = place.config.dataset.prompt
    return write_prompt(question, wording, Wanted.rationale, chat=True, shots=shots)


def _refuse_unmeasured_stages(place: Workplace) -> None:
    config = place.config
    for number, stage in enumerate(config.method.stages, start=1):
        # Classes are not known yet: as if every question could be asked for every target.
        questions = [
            (question, target)
            for question in place.questions.validation
            for target in dict.fromkeys(stage.targets.values())
        ]
        refuse_unmeasured(questions, config.dataset.prompt, config.tuning, number)


def score(place: Workplace, findings: Findings) -> None:
    """Let the base model answer every question with one token; gather what estimators need."""
    if isinstance(place.config.score, PublishedScoreConfig):
        findings.scores = _read_published(place, place.config.score)
        return
    artifact = score_questions(base_scoring(place), place.store, place.config.trainer)
    findings.note(StageKind.score, "score", artifact)
    findings.scores = read_scores(artifact)
    _say_reuse("scores", artifact.cached)
    gather_estimates(place, findings, buy_rationales)


def base_scoring(place: Workplace) -> Scoring:
    """The base model's scores of all questions, with its shots."""
    assert isinstance(place.config.score, ModelScoreConfig)
    questions = [*place.questions.train, *place.held_out]
    return Scoring(
        place.student,
        questions,
        place.questions.shots,
        place.config.dataset.prompt,
        place.config.score,
    )


def _read_published(place: Workplace, config: PublishedScoreConfig) -> list[AnswerScore]:
    published = published_scores(place.config.dataset, config.entropy_column, config.correct_column)
    return [
        AnswerScore(
            question_id=question.id,
            predicted="",
            valid=True,
            correct=published[question.id][1],
            estimates={"answer_entropy": published[question.id][0]},
        )
        for question in [*place.questions.train, *place.held_out]
    ]


def split(place: Workplace, findings: Findings) -> None:
    """Sort questions into easy, middle and hard, cut on training rows only."""
    parts = [findings.scores_of(questions) for _, questions in findings.splits()]
    findings.split = split_questions(parts[0], parts[1:], place.config.split, place.config.seed)


def distill(place: Workplace, findings: Findings) -> None:
    """Ask the teacher about the questions that the method wants rationales for, and no others."""
    refuse_empty_classes(place, findings)
    asked = questions_for_teacher(place, findings)
    taught = taught_class(place)
    # An estimator may have had every rationale bought already.
    if asked and (taught or not findings.rationales):
        # A matched budget moves questions to other classes while it is asked.
        if _tunes(place.config) and not taught:
            from caft.pipeline.checking import check_answer_stages

            check_answer_stages(place, findings)
        buy_rationales(place, findings, asked, taught)


def buy_rationales(
    place: Workplace, findings: Findings, asked: Sequence[Question], taught: str | None = None
) -> None:
    """Have rationales written, and keep them in the store."""
    with measured() as effort, watch_asking(place.config.trainer.progress) as watcher:
        take_rationales(place, findings, asked, taught, watcher.show)
    # Replies that were paid for are kept by the ledger; the store keeps what was made of them.
    artifact = place.store.obtain(
        "distill",
        {"rationales": digest(findings.rationales)},
        lambda folder: write_table(folder / "rationales.parquet", Rationale, findings.rationales),
    )
    findings.note(
        StageKind.distill,
        "distill",
        replace(artifact, seconds=effort.seconds, peak_memory_bytes=effort.peak_memory_bytes),
    )


def take_rationales(
    place: Workplace,
    findings: Findings,
    asked: Sequence[Question],
    taught: str | None,
    progress: Watcher | None = None,
) -> None:
    """A rationale for every question that is asked, or the reason why there is none.

    `taught` is the class whose budget is to be matched, see matching.py. The store is left alone.
    """
    ask = partial(
        write_rationales,
        prompt=place.config.dataset.prompt,
        teacher=place.config.teacher,
        ledger_path=place.store.ledger_path,
        forbidden=special_tokens(place.student.tokenizer),
        shots=place.questions.shots,
        progress=progress,
        generate=LocalTeacher(place.config).generate,
    )
    matched = taught and match_budget(place, findings, taught, ask)
    findings.rationales = matched or ask(asked)


def refuse_empty_classes(place: Workplace, findings: Findings) -> None:
    """UserError where the split leaves a class that some stage trains without questions."""
    # Before a teacher is paid and an earlier stage is tuned for a method that cannot be finished.
    assert findings.split is not None
    placed = findings.split.complexity_of
    present = {placed[question.id] for question in place.questions.train}
    for stage in place.config.method.stages:
        for name in stage.targets:
            if name not in present:
                raise UserError(
                    f"the method {place.config.method.name} trains the class {name}, but no "
                    "training question is in it; move the split's cut points"
                )


def questions_for_teacher(place: Workplace, findings: Findings) -> list[Question]:
    """Training questions whose class some stage trains on rationales."""
    assert findings.split is not None
    wanted = {
        name
        for stage in place.config.method.stages
        for name, target in stage.targets.items()
        if target is Target.rationale
    }
    placed = findings.split.complexity_of
    return [question for question in place.questions.train if placed[question.id] in wanted]


def tune(place: Workplace, findings: Findings) -> None:
    """The method's stages in order, each from where the last one ended."""
    if not place.config.method.stages:
        return
    from caft.pipeline.checking import check_stages

    # A row that cannot be trained is found out before the first stage is, not hours later.
    check_stages(place, findings)
    student = starting_student(place.student, place.config.tuning)
    assert findings.logger is not None
    for number in range(len(place.config.method.stages)):
        work = tuning_of(place, findings, student, number)
        title = f"tuning, stage {number + 1} of {len(place.config.method.stages)}"
        logger = findings.logger.for_stage(number + 1)
        rows = findings.rows.pop(number, None)
        artifact = tune_student(work, place.store, place.config.trainer, logger, title, rows=rows)
        findings.note(StageKind.tune, f"tune {number + 1}", artifact)
        findings.tuning.append(read_numbers(artifact))
        if artifact.cached:
            for row in findings.tuning[-1].curve:
                log_row(logger, row)
        _say_reuse(title, artifact.cached)
        findings.weights = artifact
        student = read_tuned(student, artifact)
    findings.tuned = student


def lessons_of(place: Workplace, findings: Findings, stage: StageConfig) -> list[Lesson]:
    """The rows of one stage; UserError where a class that it names is left without any."""
    assert findings.split is not None
    return choose_lessons(
        place.questions.train, findings.split.complexity_of, findings.rationales, stage
    )


def tuning_of(place: Workplace, findings: Findings, student: Student, number: int) -> Tuning:
    """One stage of the method, with the rows that its table names."""
    stage = place.config.method.stages[number]
    return Tuning(
        student,
        lessons_of(place, findings, stage),
        stage.epochs,
        place.config.dataset.prompt,
        place.config.tuning,
        place.config.seed,
        _validation_of(place, findings, stage),
    )


def _validation_of(place: Workplace, findings: Findings, stage: StageConfig) -> Validation:
    """Validation questions, each asked as the stage trains its class.

    A class that the stage does not train is asked as the hardest one that it does.
    """
    assert findings.split is not None
    named = [name for name in place.config.split.classes if name in stage.targets]
    otherwise = stage.targets[named[-1]]
    placed = findings.split.complexity_of
    return Validation(
        [
            (question, stage.targets.get(placed[question.id], otherwise))
            for question in place.questions.validation
        ],
        place.config.evaluation.max_new_tokens,
    )


def evaluate(place: Workplace, findings: Findings) -> None:
    """Base and tuned model in every mode, on validation and test questions."""
    findings.base_replies = _examine(place, findings, place.student, "base")
    if findings.tuned is not None:
        findings.tuned_replies = _examine(place, findings, findings.tuned, "tuned")
    for who, replies in (("base", findings.base_replies), ("tuned", findings.tuned_replies)):
        by_mode = {mode.name: rows for mode, rows in replies.validation.items()} if replies else {}
        findings.best_mode[who] = pick_best_mode(by_mode)


def _examine(place: Workplace, findings: Findings, student: Student, who: str) -> Examined:
    modes = place.config.evaluation.modes
    replies: dict[Mode, list[Prediction]] = {}
    if Mode.answer in modes:
        replies[Mode.answer] = _answers(place, findings, student, who)
    if Mode.rationale in modes:
        work = writing_of(place, student, Wanted.rationale)
        replies[Mode.rationale] = _written(place, findings, work, f"{who} rationale")
    if Mode.routed in modes:
        routed_by = place.config.evaluation.routed_by
        answers = replies[Mode.answer]
        routing = choose_routing(place.config.split, routed_by, findings, answers, who)
        replies[Mode.routed] = route(answers, replies[Mode.rationale], routing)
    border = len(place.questions.validation)
    return Examined(
        validation={mode: rows[:border] for mode, rows in replies.items()},
        test={mode: rows[border:] for mode, rows in replies.items()},
    )


def _answers(place: Workplace, findings: Findings, student: Student, who: str) -> list[Prediction]:
    if student.tuned is None:
        # The base model's scores are its answers: the same prompt, the same pass.
        return [read_single_token(row) for row in findings.scores_of(place.held_out)]
    if place.config.tuning.answer_target is AnswerTarget.bracketed:
        work = writing_of(place, student, Wanted.bracketed)
        return _written(place, findings, work, f"{who} answer")
    artifact = score_questions(tuned_scoring(place, student), place.store, place.config.trainer)
    findings.note(StageKind.evaluate, f"evaluate {who} answer", artifact)
    return [read_single_token(row) for row in read_scores(artifact)]


def tuned_scoring(place: Workplace, student: Student) -> Scoring:
    """The tuned model's single-token answers to the held-out questions, without shots."""
    config = place.config.score
    dials = config if isinstance(config, ModelScoreConfig) else ModelScoreConfig()
    return Scoring(student, place.held_out, (), place.config.dataset.prompt, dials)


def writing_of(place: Workplace, student: Student, wanted: Wanted) -> Writing:
    """Greedy replies to the held-out questions; only the base model sees the shots."""
    evaluation = place.config.evaluation
    return Writing(
        student=student,
        questions=place.held_out,
        shots=place.questions.shots if student.tuned is None else (),
        prompt=place.config.dataset.prompt,
        wanted=wanted,
        max_new_tokens=evaluation.max_new_tokens,
        batch_size=evaluation.batch_size,
    )


def _written(place: Workplace, findings: Findings, work: Writing, title: str) -> list[Prediction]:
    artifact = write_predictions(work, place.store, place.config.trainer, title)
    findings.note(StageKind.evaluate, f"evaluate {title}", artifact)
    _say_reuse(title, artifact.cached)
    return read_predictions(artifact)


def _say_reuse(what: str, cached: bool) -> None:
    if cached:
        log.info("%s: taken from the store", what)


_STORY = {
    Until.score: score,
    Until.split: split,
    Until.distill: distill,
    Until.tune: tune,
    Until.evaluate: evaluate,
    # The report is written for every run, wherever it stops: see run_pipeline.
}
