"""All checks before a model loads, so that an error does not appear hours later."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from caft.data import QuestionSplits, load_questions
from caft.data.checks import refuse_other_prompts
from caft.data.config import DatasetConfig
from caft.data.further import FurtherSet, load_further, naming_further
from caft.distill import check_teacher
from caft.engines.open import check_engine
from caft.errors import UserError, count_of
from caft.estimators import Need
from caft.evaluate.stage import ReplyInputs
from caft.grading import choose_grader, grade_by, is_right
from caft.models.adapters import find_adapter
from caft.models.encoding import uses_chat_template
from caft.models.thinking_span import thinking_form_of
from caft.packed import values_of
from caft.pipeline.engine_gate import refuse_beyond_engines
from caft.pipeline.entropy_gain import check_teacher_entropies, file_of, find_option_teacher
from caft.pipeline.estimators import check_estimators, find_judge
from caft.pipeline.rescoring import refuse_impossible_pool
from caft.pipeline.sharded import check_strategy, refuse_undivided
from caft.pipeline.stage_inputs import evaluation, refuse_sizes
from caft.pipeline.steps import (
    evaluates_with_engine,
    find_matched_budget,
    list_steps,
    own_classes,
    reaches,
    steps_of,
    taught_classes,
    teaches_with_engine,
    tunes,
    wanted_needs,
)
from caft.pipeline.teaching import refuse_unaskable_teacher
from caft.pipeline.workspace import Workspace
from caft.records import Mode, Question, Target
from caft.report.run.thinking import NOT_ASKED
from caft.run_config import RunConfig, RunContext, Until
from caft.score.config import ModelScoreConfig, PublishedScoreConfig
from caft.score.stage import CotInputs, SampleInputs, ScoreInputs
from caft.split import most_in_classes, refuse_small_subjects
from caft.store import StageKind, Store
from caft.teachers.config import LocalModelTeacherConfig, OpenAITeacherConfig, WorkedTeacherConfig
from caft.teachers.ledger import check_ledger
from caft.teachers.prices import check_paid
from caft.text.answers import gold_label
from caft.text.config import OptionIds
from caft.text.follow_up import FOLLOW_UPS
from caft.text.parsing import answers_agree, parse_answer
from caft.text.prompts import Wanted, bracketed, write_prompt
from caft.trainers.launched import find_launch, refuse_other_launch
from caft.trainers.loggers import check_logger
from caft.tune.check import refuse_unmeasured
from caft.tune.config import LoraConfig
from caft.tune.stage import starting_student

AskedStage = ScoreInputs | CotInputs | SampleInputs | ReplyInputs
"""A stage whose prompts are known before it runs."""

log = logging.getLogger(__name__)


def open_workspace(
    config: RunConfig,
    context: RunContext,
    questions: QuestionSplits | None = None,
    *,
    pays: bool | None = None,
) -> Workspace:
    """Read the questions and check everything that can be checked without a tokenizer.

    A dry run downloads nothing, makes no store and needs no key: NotHereError if the questions
    are not on this machine. UserError if the user must act. `questions` are given where another
    run of the same dataset has read them, and `pays` where a dry run needs prices and keys, too.
    """
    _check_paid(config, pays=not config.dry_run if pays is None else pays)
    if not config.dry_run:
        check_logger(config.logger)
    launch = find_launch(os.environ)
    # What several nodes will do may be asked on any machine.
    elsewhere = config.dry_run and config.trainer.num_nodes > 1
    if not elsewhere:
        refuse_other_launch(config.trainer, launch)
    if config.trainer.devices > 1 and not elsewhere:
        from caft.trainers.devices import refuse_too_many_devices

        refuse_too_many_devices(config.trainer)
    check_strategy(config.trainer)
    # Before anything is read.
    if tunes(config) and config.tuning.start_from is not None:
        find_adapter(config.tuning.start_from)
    for each in config.further:
        with naming_further(each.name):
            choose_grader(each.grader)
    if questions is None:
        questions = load_graded(config.dataset, fetch=not config.dry_run)
    refuse_other_prompts(questions.train, config.dataset)
    further = load_all_further(config, questions.train)
    store = Store(config.store.folder, ledger=config.store.ledger, reads_only=config.dry_run)
    if launch and not config.dry_run:
        from caft.trainers.joined import Node, join

        join(launch).check(Node.here(config, config.trainer), config.store.folder)
    workspace = Workspace(config, context, questions, store, further)
    if isinstance(config.score, PublishedScoreConfig):
        # A fault in them is known before a model is fetched.
        log.debug("%d published scores", len(workspace.published))
    refuse_beyond_engines(config)
    if evaluates_with_engine(config) or teaches_with_engine(config):
        check_engine(config.engine, starts=not config.dry_run)
    _refuse_impossible_classes(workspace)
    check_estimators(config, workspace.every_question)
    check_teacher_entropies(workspace)
    if tunes(config):
        _refuse_unmeasured_stages(workspace)
    _check_teacher(workspace)
    _check_ledger(workspace)
    _warn_of_thinking(config)
    for line in list_idle(config):
        log.warning("%s", line)
    return workspace


def _check_paid(config: RunConfig, *, pays: bool) -> None:
    """UserError for an endpoint that cannot be asked; before any data is fetched."""
    kinds = {step.kind for step in list_steps(config)}
    if StageKind.distill in kinds and isinstance(config.teacher, OpenAITeacherConfig):
        check_paid(config.teacher, pays=pays)
    if isinstance(config.score, PublishedScoreConfig):
        return  # which has no estimate of an endpoint's
    if StageKind.teacher_options in kinds:
        check_paid(find_option_teacher(config), pays=pays)
    if StageKind.judge in kinds:
        check_paid(find_judge(config), pays=pays)


def load_graded(config: DatasetConfig, *, fetch: bool = True) -> QuestionSplits:
    """A run's questions, with the grader of those whose answers it decides.

    UserError as `load_questions`, and for a grader that does not fit them.
    """
    choose_grader(config.grader)  # before anything is read
    questions = load_questions(config, fetch=fetch)
    graded = grade_by(config.grader, dict(questions.parts()))
    return replace(
        questions, train=graded["train"], validation=graded["validation"], test=graded["test"]
    )


def load_all_further(config: RunConfig, train: Sequence[Question]) -> list[FurtherSet]:
    """The sets of `evaluation.also`, if the run gets there; UserError names the set."""
    wanted = config.further if reaches(config, Until.evaluate) else []
    return [_grade(load_further(each, train, fetch=not config.dry_run)) for each in wanted]


def _grade(further: FurtherSet) -> FurtherSet:
    name, asked = further.name, further.config.grader
    with naming_further(name):
        refuse_other_prompts(further.questions, further.config)
        graded = grade_by(asked, {"test": further.questions}, where=f"evaluation.also, {name}: ")
    return replace(further, questions=graded["test"])


def list_idle(config: RunConfig) -> Iterator[str]:
    """Settings that were given and change nothing here, and what would make them count."""
    teacher = config.teacher
    if isinstance(teacher, OpenAITeacherConfig | LocalModelTeacherConfig):
        usual = type(teacher).__dataclass_fields__["reask_temperature"].default
        if teacher.attempts == 1 and teacher.reask_temperature != usual:
            yield (
                f"teacher.reask_temperature={teacher.reask_temperature:g} has no effect with "
                "teacher.attempts=1; set teacher.attempts=2 or more, or leave it out"
            )
    if file_of(config) and Need.teacher not in wanted_needs(config):
        yield (
            "score.teacher_entropies has no effect, since nothing here uses entropy_gain; add "
            "score.estimators=[entropy_gain] or split.estimator=entropy_gain, or leave it out"
        )
    if tunes(config) and config.tuning.start_from and config.tuning.lora != LoraConfig():
        yield (
            "tuning.lora has no effect beside tuning.start_from, whose adapter has its own rank, "
            "alpha, dropout and modules; leave it out"
        )


def _warn_of_thinking(config: RunConfig) -> None:
    """Of a method that trains thinking, where the tuned model is then asked not to think."""
    evaluation = config.evaluation
    written = reaches(config, Until.evaluate) and Mode.rationale in evaluation.modes
    if written and not evaluation.thinking and Target.thinking in taught_classes(config.method):
        log.warning("%s", NOT_ASKED)


def check_prompts_and_start(workspace: Workspace) -> None:
    """The checks that need the model's tokenizer, or the adapter that tuning starts from.

    UserError if answers or prompts do not fit: now, not after scoring or tuning.
    """
    check_gold_room(workspace)
    refuse_without_thinking(workspace)
    _check_prompts(workspace)
    refuse_undivided(workspace)
    if tunes(workspace.config):
        starting_student(workspace.student, workspace.config.tuning)


def refuse_without_thinking(workspace: Workspace) -> None:
    """UserError if the method trains thinking, and the student has no thinking span."""
    config = workspace.config
    trains = Target.thinking in taught_classes(config.method)
    if not trains or not reaches(config, Until.distill):
        return
    tokenizer, prompt = workspace.student.tokenizer, config.dataset.prompt
    chat = uses_chat_template(prompt.style, tokenizer)
    asked = write_prompt(workspace.questions.train[0], prompt, Wanted.rationale, chat=chat)
    thinking_form_of(asked, tokenizer, f"model {config.model.path or config.model.id}")


def _check_teacher(workspace: Workspace) -> None:
    config = workspace.config
    if any(step.kind is StageKind.distill for step in list_steps(config)):
        solved, count = workspace.questions.solved, len(workspace.questions.train)
        targets = taught_classes(config.method)
        check_teacher(solved > 0, config.teacher, targets=targets, fetch=not config.dry_run)
        if isinstance(config.teacher, WorkedTeacherConfig) and solved < count:
            log.warning(
                "teacher=worked: %d of %d training questions have no solution, and train no "
                "rationale",
                count - solved, count,
            )  # fmt: skip
        if not config.dry_run:
            refuse_unaskable_teacher(workspace)


def _check_ledger(workspace: Workspace) -> None:
    """UserError where replies are bought, or written here, and the ledger cannot keep them."""
    config = workspace.config
    kinds = {step.kind for step in list_steps(config)}
    asks = isinstance(config.teacher, OpenAITeacherConfig | LocalModelTeacherConfig)
    paid = kinds & {StageKind.judge, StageKind.teacher_options}
    if not config.dry_run and (paid or (asks and StageKind.distill in kinds)):
        check_ledger(workspace.store.ledger_path)


def _check_prompts(workspace: Workspace) -> None:
    stages = later_stages(workspace)
    if any(step.kind is StageKind.teacher for step in list_steps(workspace.config)):
        stages.append(workspace.teacher_scoring)
    for stage in stages:
        if not workspace.store.find(stage):
            stage.check()
    for name, further in further_stages(workspace):
        if not workspace.store.find(further):
            with naming_further(name):
                further.check()


def further_stages(workspace: Workspace) -> Iterator[tuple[str, ScoreInputs | ReplyInputs]]:
    """The base model's stages of further sets, whose prompts the tuned model sees, too."""
    for step in steps_of(workspace.config, Until.evaluate):
        if step.also and not step.tuned and step.kind is StageKind.evaluate:
            yield step.also, evaluation(workspace, step, workspace.student)


def later_stages(workspace: Workspace) -> list[AskedStage]:
    """The base model's stages after the first one, those of own rationales for all questions."""
    config = workspace.config
    needs = wanted_needs(config)
    stages: list[AskedStage] = []
    if Need.fallback in needs:
        stages.append(workspace.fallback_scoring)
    stages += _expected_follow_ups(workspace)
    if Need.chain in needs:
        stages.append(workspace.base_chains)
    if Need.samples in needs or (reaches(config, Until.distill) and own_classes(config.method)):
        stages.append(workspace.base_samples)
    # A tuned model's prompts are shorter: they have no shots.
    if reaches(config, Until.evaluate) and Mode.rationale in config.evaluation.modes:
        stages.append(workspace.base_rationales)
    return stages


def _expected_follow_ups(workspace: Workspace) -> list[ScoreInputs]:
    """No answer is known yet: the right ones stand in, which are about as long."""
    config, questions = workspace.config, workspace.every_question
    golds = {each.id: gold_label(each, config.dataset.prompt.option_ids) for each in questions}
    kinds = [step.kind for step in steps_of(config, Until.score)]
    return [workspace.follow_up(kind, golds) for kind in kinds if kind.name in FOLLOW_UPS]


def check_gold_room(workspace: Workspace) -> None:
    """Warn of gold answers with more tokens than a model may write: replies can only be wrong.

    UserError if most of those of a set are so long.
    """
    _check_golds(workspace, workspace.every_question, _limits(workspace))
    modes = workspace.config.evaluation.modes
    for each in workspace.further:
        limits = {}
        if Mode.answer in modes:
            limits["score.free_answer_tokens"] = workspace.scoring.free_answer_tokens
        if Mode.rationale in modes:
            limits["max_new_tokens"] = each.config.max_new_tokens
        _check_golds(workspace, each.questions, limits, f"evaluation.also, {each.name}: ")


def _check_golds(
    workspace: Workspace, questions: Sequence[Question], limits: Mapping[str, int], where: str = ""
) -> None:
    golds = {q.id: q.gold_text for q in questions if q.gold_text}
    if not golds:
        return
    _tell_unreadable([q for q in questions if q.gold_text], where)
    encoded = workspace.student.tokenizer(list(golds.values()), add_special_tokens=False).input_ids
    lengths = {name: len(ids) for name, ids in zip(golds, encoded, strict=True)}
    for setting, most in limits.items():
        long = {name: length for name, length in lengths.items() if length > most}
        if not long:
            continue
        name, longest = max(long.items(), key=lambda item: item[1])
        line = (
            f"{where}{len(long)} of {count_of(len(golds), 'gold answer')}: more tokens than the "
            f"{most} that {setting} lets a model write, so whatever it writes counts as wrong "
            f"(question {name}: {longest}); set {setting}={longest} or more, or give shorter "
            "answers"
        )
        if 2 * len(long) > len(golds):
            raise UserError(line)
        log.warning("%s", line)


def _tell_unreadable(questions: Sequence[Question], where: str) -> None:
    """Warn of gold answers that no reply can give: in the marker they are read as another text."""
    lost = [question for question in questions if not _is_readable(question)]
    if lost:
        log.warning(
            "%s%d of %s: its marker, such as %s of question %s, is not read as the answer itself, "
            "so whatever a model writes there counts as wrong; give the answers in another form",
            where,
            len(lost),
            count_of(len(questions), "gold answer"),
            bracketed(lost[0].gold_text or ""),
            lost[0].id,
        )


def _is_readable(question: Question) -> bool:
    """By our rules, or else by its grader, which is asked of few: it may take long."""
    gold = question.gold_text or ""
    parsed = parse_answer(bracketed(gold), ())
    if answers_agree(parsed, gold):
        return True
    return bool(question.grader) and is_right(parsed, question, OptionIds.letters)


def _limits(workspace: Workspace) -> dict[str, int]:
    """The limits of an answer in tokens, by setting."""
    limits, evaluation = {}, workspace.config.evaluation
    if isinstance(workspace.config.score, ModelScoreConfig):
        limits["score.free_answer_tokens"] = workspace.config.score.free_answer_tokens
    if reaches(workspace.config, Until.evaluate) and Mode.rationale in evaluation.modes:
        limits["evaluation.max_new_tokens"] = evaluation.max_new_tokens
    return limits


def _refuse_impossible_classes(workspace: Workspace) -> None:
    """UserError where the classes cannot be as the config has them, whatever the scores are."""
    config, train = workspace.config, workspace.questions.train
    budget = find_matched_budget(config)
    # A run that stops after scoring shows classes, too.
    placed = budget.split.budget_of if budget else config.split
    refuse_small_subjects(values_of(train, "subject"), placed)
    # Published estimates may be rounded, and equal ones make classes of other sizes.
    published = isinstance(config.score, PublishedScoreConfig)
    if reaches(config, Until.distill) and not published:
        subjects = [*values_of(train, "subject")]
        sizes = most_in_classes(config.split, subjects, distinct=True)
        refuse_sizes(workspace, sizes)
        refuse_impossible_pool(config, sizes)


def _refuse_unmeasured_stages(workspace: Workspace) -> None:
    config = workspace.config
    for number, stage in enumerate(config.method.stages, start=1):
        # Classes are not known yet, so every question is checked with every target.
        questions = [
            (question, target)
            for question in workspace.questions.validation
            for target in dict.fromkeys(each for own in stage.shares.values() for each in own)
        ]
        refuse_unmeasured(questions, config.dataset.prompt, config.tuning, number)
