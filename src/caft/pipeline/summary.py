"""summary.json, schema 1: the results of a run. Pure, but for a warning."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from caft.data import QuestionSplits
from caft.data.further import FurtherSet
from caft.distill import Chance
from caft.distill.chance import at_least
from caft.errors import UserError
from caft.estimators import STAND_IN
from caft.evaluate.predictions import pick_best_mode
from caft.grading import RULES, rules_differ
from caft.packed import by_id, join, values_of
from caft.pipeline.rescoring import count_moved
from caft.pipeline.results import Evaluated, ModeReplies, RunResults, Taught, Tuned
from caft.records import AnswerScore, Mode
from caft.report.comparison import (
    compare_classes,
    compare_models,
    compare_modes,
    measure_chance,
)
from caft.report.engine_part import EnginePart
from caft.report.parts import ForgettingPart, GradingPart, OwnRationalesPart
from caft.report.run.accuracy import summarise_accuracy
from caft.report.run.caveats import find_warnings
from caft.report.run.cost import count_cost
from caft.report.run.estimator_auc import ScoreContext, describe_scores
from caft.report.run.timing import add_rates
from caft.report.schema import (
    Accuracy,
    AccuracyPart,
    ByMode,
    CostPart,
    ModelPart,
    RunPart,
    ScorePart,
    SplitPart,
    StagePart,
    Summary,
    TuningPart,
)
from caft.report.tables import ReportTables
from caft.run_config import RunConfig
from caft.score.config import Fallback
from caft.split import SplitResult, split_questions
from caft.teachers.config import WorkedTeacherConfig
from caft.teachers.refusals import count_reasons
from caft.text.config import OptionIds
from caft.tune.config import Loss, Select, describe_targets
from caft.tune.learning_curve import accuracies, best_epoch, questions_asked

log = logging.getLogger(__name__)


def build_summary(  # noqa: PLR0917
    config: RunConfig,
    questions: QuestionSplits,
    results: RunResults,
    tables: ReportTables,
    run: RunPart,
    model: ModelPart,
    *,
    engine: EnginePart | None = None,
    forgetting: ForgettingPart | None = None,
) -> Summary:
    """The keys of the schema; parts that the run did not reach are null.

    `model` is the base model; the number of trained parameters is added here.
    """
    placed, tuned, evaluated = results.placed, results.tuned, results.evaluated
    trained = tuned.numbers[-1].trainable_parameters if tuned else None
    summary: Summary = {
        "schema": 1,
        "run": run,
        "model": {**model, "trainable_parameters": trained},
        "dataset": {
            "name": config.dataset.name,
            "fingerprint": questions.fingerprint,
            "test_fingerprint": questions.test_fingerprint,
            "counts": {
                "train": len(questions.train),
                "validation": len(questions.validation),
                "test": len(questions.test),
            },
            "removed": dict(questions.removed),
        },
        "score": _score_part(config, questions, results),
        "split": _split_part(config, questions, placed) if placed else None,
        "method": {
            "name": config.method.name,
            "stages": _method_stages(config, questions, results),
        },
        "tuning": _tuning_part(config, tuned) if tuned else [],
        "accuracy": (
            _accuracy_part(config, questions, placed, evaluated, tables)
            if placed and evaluated
            else None
        ),
        "cost": _cost_part(results),
        "stages": add_rates(results.stages, run.get("seconds", 0.0)),
    }
    if config.tuning.loss is not Loss.ce:
        summary["method"]["loss"] = config.tuning.loss.value
    if isinstance(config.teacher, WorkedTeacherConfig) and not questions.solved:
        summary["method"]["untaught"] = True
    if engine:
        summary["engine"] = engine
    if forgetting:
        summary["forgetting"] = forgetting
    if grading := find_grading(tables):
        summary["grading"] = grading
    return {**summary, "warnings": [*find_warnings(summary)]}


def find_grading(tables: ReportTables) -> GradingPart | None:
    """Of free-text test questions; None without any."""
    free = {
        name: item
        for name, item in tables.questions.items()
        if item.gold_index is None and tables.split_of[name] == "test"
    }
    if not free:
        return None
    # Where math-verify decides, it decides those that may be mathematics.
    graded = {name: item for name, item in free.items() if item.grader} or free
    grader, _, version = next(iter(graded.values())).grader.partition(" ")
    rows = [
        row
        for (_, mode), part in tables.predictions.items()
        for row in part
        # What routing takes was written in another mode.
        if mode is not Mode.routed and row.question_id in graded
    ]
    ids = tables.option_ids
    return {
        "grader": grader or RULES,
        "version": version,
        "questions": len(graded),
        "replies": len(rows),
        "differ": sum(
            rules_differ(row.parsed, row.correct, graded[row.question_id], ids) for row in rows
        ),
    }


def _score_part(config: RunConfig, questions: QuestionSplits, results: RunResults) -> ScorePart:
    train = results.scored.of(questions.train)
    estimator = getattr(config.split, "estimator", STAND_IN)
    placed, ids = results.placed, [*values_of(questions.train, "id")]
    subjects = dict(zip(ids, values_of(questions.train, "subject"), strict=True))
    context = ScoreContext(
        subject_of=subjects,
        gold_of=dict(zip(ids, values_of(questions.train, "gold_index"), strict=True)),
        complexity_of=placed.complexity_of if placed else _show_classes(config, train, subjects),
        classes=config.split.classes,
        source=config.score.kind,
        fallback=results.scored.fallback,
        fallback_wording=getattr(config.score, "fallback", Fallback.certain).name,
        follow_ups=results.scored.follow_ups,
        chains=results.scored.chains,
        samples=results.scored.samples,
    )
    return describe_scores(train, estimator, config.evaluation.confidence, context)


def _show_classes(
    config: RunConfig, train: Sequence[AnswerScore], subjects: Mapping[str, str]
) -> Mapping[str, str]:
    """Those of a split, where a run stops before it; none if an estimate is missing."""
    try:
        return split_questions(train, (), config.split, config.seed, subjects).complexity_of
    except UserError as error:  # the scores are worth more than their classes
        log.warning("the scores are shown without classes: %s", error)
        return {}


def _split_part(config: RunConfig, questions: QuestionSplits, split: SplitResult) -> SplitPart:
    return {
        "strategy": config.split.strategy,
        "estimator": getattr(config.split, "estimator", None),
        "thresholds": list(split.thresholds),
        "counts": _count_classes(config, questions, split),
        "held_out_by": split.held_out_by or None,
        "unreadable": split.unreadable,
    }


def _method_stages(
    config: RunConfig, questions: QuestionSplits, results: RunResults
) -> list[StagePart]:
    tuned, placed = results.tuned, results.placed
    examples: list[int | None] = [numbers.examples for numbers in tuned.numbers] if tuned else []
    examples += [None] * (len(config.method.stages) - len(examples))
    parts: list[StagePart] = [
        {
            "targets": {name: describe_targets(own) for name, own in stage.shares.items()},
            "epochs": stage.epochs,
            "examples": count,
            "draw": dict(stage.draw),
            "weights": dict(stage.weights),
        }
        for stage, count in zip(config.method.stages, examples, strict=True)
    ]
    if tuned and placed:
        for number, split in tuned.rescored.items():
            part = config.method.part(number)
            dial = f"method.stages.{part.stage}.rescore={'epoch' if part.epochs > 1 else 'stage'}"
            parts[number]["rescored"] = {
                "counts": _count_classes(config, questions, split),
                "moved": count_moved(questions.train, placed, split),
                "dial": dial,
            }
    return parts


def _count_classes(
    config: RunConfig, questions: QuestionSplits, split: SplitResult
) -> dict[str, int]:
    counts = split.count(values_of(questions.train, "id"))
    return {name: counts[name] for name in config.split.classes}


def _tuning_part(config: RunConfig, tuned: Tuned) -> list[TuningPart]:
    parts: list[TuningPart] = []
    for numbers in tuned.numbers:
        measured, best = accuracies(numbers.curve), best_epoch(numbers.curve)
        parts.append(
            {
                "epochs": numbers.epochs,
                "by_epoch": measured,
                "best_epoch": best,
                "best": max(measured, default=None),
                "final": measured[-1] if measured else None,
                "questions": questions_asked(numbers.curve),
                "selected": (config.tuning.select is Select.best and best) or numbers.epochs,
                "dropped": len(numbers.dropped),
                "dropped_ids": numbers.dropped,
            }
        )
    return parts


def _accuracy_part(
    config: RunConfig,
    questions: QuestionSplits,
    split: SplitResult,
    evaluated: Evaluated,
    tables: ReportTables,
) -> AccuracyPart:
    confidence = config.evaluation.confidence
    by_mode = {
        name: _by_mode(config, questions, split, replies)
        for name, replies in evaluated.by_model.items()
    }
    best = {
        name: pick_best_mode({mode.name: rows for mode, rows in replies.validation.items()})
        for name, replies in evaluated.by_model.items()
    }
    base, tuned = best["base"], best.get("tuned")
    part: AccuracyPart = {
        "base": by_mode["base"],
        "tuned": by_mode.get("tuned"),
        "best_mode": {"base": base, "tuned": tuned},
        "confidence": confidence,
        "thinking": config.evaluation.thinking,
        "validation": {
            name: {
                mode.name: sum(row.correct for row in rows) / len(rows)
                for mode, rows in replies.validation.items()
            }
            for name, replies in evaluated.by_model.items()
        },
    }
    if evaluated.routed_at:
        part["routed_at"] = {
            name: {
                "estimator": cut.estimator,
                "value": cut.value,
                "share": cut.share,
                "by_tuned": cut.by_tuned,
            }
            for name, cut in evaluated.routed_at.items()
        }
    if tuned:
        part["comparison"] = compare_models(tables, Mode[base], Mode[tuned], confidence)
    part["same_mode"] = compare_modes(tables, confidence)
    part["chance"] = measure_chance(questions.test)
    part["class_comparisons"] = compare_classes(tables, config.split.classes, confidence)
    return part


def _by_mode(
    config: RunConfig, questions: QuestionSplits, split: SplitResult, replies: ModeReplies
) -> ByMode:
    subject_of = {question.id: question.subject for question in questions.test}

    def summarise(mode: Mode) -> Accuracy | None:
        if mode not in replies.test:
            return None
        return summarise_accuracy(
            replies.test[mode],
            split.complexity_of,
            subject_of,
            config.split.classes,
            config.evaluation.confidence,
        )

    return {
        "answer": summarise(Mode.answer),
        "rationale": summarise(Mode.rationale),
        "routed": summarise(Mode.routed),
    }


def _cost_part(results: RunResults) -> CostPart:
    stages = results.tuned.numbers if results.tuned else ()
    written = [
        rows
        for replies in (results.evaluated.by_model.values() if results.evaluated else ())
        for part in (replies.validation, replies.test)
        for mode, rows in part.items()
        # Routed replies were generated in the other two modes, and the routing estimates while
        # scoring.
        if mode is not Mode.routed
    ]
    also = results.evaluated.also.values() if results.evaluated else ()
    written += [rows for replies in also for rows in replies.values()]
    cost = count_cost(results.rationales, stages, join(*written), results.scored.judgements)
    tries = results.taught.tries if results.taught else ()
    part: CostPart = {
        **cost,
        "teacher_refused": count_reasons(results.rationales),
        "own_rationale_tries": len(tries),
        "own_rationale_tokens": sum(each.generated_tokens for each in tries),
    }
    if results.taught and results.taught.chance:
        part["own_rationales"] = _own_part(results.taught, results.taught.chance)
    return part


def _own_part(taught: Taught, chance: Chance) -> OwnRationalesPart:
    count, kept = len(taught.own), sum(row.accepted for row in taught.own)
    return {
        "questions": count,
        "kept": kept,
        "kept_by_chance": count * chance.kept_share,
        "p": at_least(kept, count, chance.kept_share),
        "right_tries": sum(each.correct for each in taught.tries),
        "right_tries_by_chance": len(taught.tries) * chance.rate,
        "tries": chance.tries,
        "needed": chance.needed,
    }


def collect_further(
    further: Sequence[FurtherSet], evaluated: Evaluated | None
) -> dict[str, ReportTables]:
    """All rows of every further set, by its name; empty where it was not evaluated."""
    also = evaluated.also if evaluated else {}
    return {
        each.name: ReportTables(
            questions={item.id: item for item in each.questions},
            predictions=also[each.name],
            option_ids=each.config.prompt.option_ids,
        )
        for each in further
        if each.name in also
    }


def collect_tables(
    questions: QuestionSplits, results: RunResults, option_ids: OptionIds = OptionIds.letters
) -> ReportTables:
    """All rows per question that the report shows."""
    evaluated = results.evaluated.by_model if results.evaluated else {}
    numbers = results.tuned.numbers if results.tuned else ()
    return ReportTables(
        questions=by_id(join(*(part for _, part in questions.parts()))),
        split_of={key: name for name, part in questions.parts() for key in values_of(part, "id")},
        scores=results.scored.scores,
        complexity_of=results.placed.complexity_of if results.placed else {},
        rationales=results.rationales,
        own=results.own,
        predictions={
            (name, mode): rows
            for name, replies in evaluated.items()
            for mode, rows in replies.test.items()
        },
        curves=[
            {"stage": number, **row}
            for number, stage in enumerate(numbers, start=1)
            for row in stage.curve
        ],
        option_ids=option_ids,
    )
