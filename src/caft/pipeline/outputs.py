"""What every run leaves in its folder: the run contract of summary.json, schema 1."""

from __future__ import annotations

import json
import logging
import platform
import subprocess
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from caft.console import open_console
from caft.decoration import or_without
from caft.estimators import STAND_IN
from caft.evaluate.accuracy import summarise_accuracy
from caft.models.encoding import asks_in_chat
from caft.pipeline.delivery import deliver
from caft.pipeline.findings import Examined, Findings
from caft.pipeline.recipe import describe_recipe
from caft.pipeline.rows import prediction_rows, rationale_rows, score_rows
from caft.pipeline.tracking import track_run
from caft.records import Mode
from caft.report.card import Weights, write_card
from caft.report.comparison import compare_models
from caft.report.cost import StageTokens, count_cost
from caft.report.html import render_report
from caft.report.schema import SCHEMA, check_summary
from caft.report.score_part import ScoreContext, describe_scores
from caft.report.tables import ReportTables
from caft.report.terminal import print_summary
from caft.run_config import RunConfig, RunContext
from caft.score.config import Fallback
from caft.split import split_questions
from caft.store import disk_may_be_full, write_durably, write_rows
from caft.teachers.refusals import count_reasons
from caft.tune.config import Select
from caft.tune.course import accuracies, best_epoch, questions_asked

log = logging.getLogger(__name__)
_WHERE_THERE_IS_NO_ROOM = (
    "make room there and run the same command again (it takes finished stages from the store)"
)
_GIT_SECONDS = 10.0
_VERSIONS = ("caft", "torch", "transformers", "peft", "pytorch-lightning", "hydra-core")


def write_outputs(
    config: RunConfig, context: RunContext, findings: Findings, *, started: datetime
) -> bool:
    """summary.json, report.html, tables and adapter into the run's folder; then one screen.

    Returns whether the page could be drawn: a fault in it is ours, and costs no numbers.
    UserError where the folder's disk is full.
    """
    tables = _collect_tables(findings)
    summary = build_summary(config, context, findings, tables, started)
    check_summary(summary)
    folder = context.folder
    with disk_may_be_full(folder, _WHERE_THERE_IS_NO_ROOM):
        drawn = _write_files(config, context, findings, tables, summary)
    # From here on everything that was asked for is there.
    or_without("what the logger shows", partial(track_run, findings, tables, summary, folder), None)
    or_without("the summary on the terminal", partial(_print, summary, folder), None)
    return drawn


def _write_files(
    config: RunConfig,
    context: RunContext,
    findings: Findings,
    tables: ReportTables,
    summary: dict[str, Any],
) -> bool:
    folder = context.folder
    if findings.scores is not None:
        write_rows(folder / "scores.parquet", score_rows(findings, tables))
    if tables.predictions:
        write_rows(folder / "predictions.parquet", prediction_rows(tables))
    if findings.rationales:
        write_rows(folder / "rationales.parquet", rationale_rows(findings))
    if findings.tuned is not None and findings.weights is not None:
        card = partial(_write_card, config, findings, summary)
        chat = asks_in_chat(config.dataset.prompt.style, findings.tuned.tokenizer)
        merge = config.tuning.merge
        deliver(findings.tuned, findings.weights, folder, card, merge=merge, chat=chat)
    # Before the page is drawn and the logger is told: whatever becomes of them, it is there.
    write_durably(folder / "summary.json", json.dumps(summary, indent=1))
    return not config.report.html or _write_page(config, context, summary, tables)


def _write_card(
    config: RunConfig, findings: Findings, summary: dict[str, Any], weights: Weights
) -> str | None:
    def write() -> str:
        assert findings.tuned is not None
        recipe = describe_recipe(config, findings.tuned, findings.questions.train[0])
        return write_card(summary, recipe, weights)

    return or_without("the model card", write, None)


def _write_page(
    config: RunConfig, context: RunContext, summary: dict[str, Any], tables: ReportTables
) -> bool:
    try:
        page = render_report(
            summary,
            tables,
            context.config_yaml,
            config.name,
            questions=config.report.questions,
            option_ids=config.dataset.prompt.option_ids,
        )
    except Exception:
        # The numbers are worth more than the page that shows them.
        log.exception("report.html could not be drawn; summary.json and the tables are complete")
        return False
    (context.folder / "report.html").write_text(page, encoding="utf-8")
    return True


def build_summary(
    config: RunConfig,
    context: RunContext,
    findings: Findings,
    tables: ReportTables,
    started: datetime,
) -> dict[str, Any]:
    """The contract's keys; parts that the run did not reach are null."""
    counts = {name: len(questions) for name, questions in findings.splits()}
    return {
        "schema": SCHEMA,
        "run": {
            "name": config.name,
            "seed": config.seed,
            "overrides": list(context.overrides),
            "git_commit": or_without("the commit", _git_commit, None),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": or_without("the versions of packages", _versions, dict[str, str]()),
            "device": or_without("the device's name", partial(_device_name, config), "unknown"),
        },
        "model": {
            "id": config.model.path or config.model.id,
            "revision": findings.revision,
            **findings.template,
            "parameters": findings.parameters,
            "trainable_parameters": (
                findings.tuning[-1].trainable_parameters if findings.tuning else None
            ),
        },
        "dataset": {
            "name": config.dataset.name,
            "fingerprint": findings.questions.fingerprint,
            "test_fingerprint": findings.questions.test_fingerprint,
            "counts": counts,
            "removed": dict(findings.questions.removed),
        },
        "score": _score_part(config, findings),
        "split": _split_part(config, findings),
        "method": {"name": config.method.name, "stages": _method_stages(config, findings)},
        "tuning": _tuning_part(config, findings),
        "accuracy": _accuracy_part(config, findings, tables),
        "cost": _cost_part(findings),
        "stages": findings.stages,
    }


def _score_part(config: RunConfig, findings: Findings) -> dict[str, Any] | None:
    if findings.scores is None:
        return None
    train = findings.scores_of(findings.questions.train)
    estimator = getattr(config.split, "estimator", STAND_IN)
    # Whoever stops after scoring sees the classes too that a split would make.
    placed = findings.split or split_questions(train, (), config.split, config.seed)
    context = ScoreContext(
        subject_of={item.id: item.subject for item in findings.questions.train},
        gold_of={item.id: item.gold_index for item in findings.questions.train},
        complexity_of=placed.complexity_of,
        classes=config.split.classes,
        source=config.score.kind,
        fallback=findings.fallback,
        fallback_wording=getattr(config.score, "fallback", Fallback.certain).name,
        chains=findings.chains,
    )
    return describe_scores(train, estimator, config.evaluation.confidence, context)


def _split_part(config: RunConfig, findings: Findings) -> dict[str, Any] | None:
    if findings.split is None:
        return None
    placed = findings.split.complexity_of
    train = [placed[question.id] for question in findings.questions.train]
    return {
        "strategy": config.split.strategy,
        "estimator": getattr(config.split, "estimator", None),
        "thresholds": list(findings.split.thresholds),
        "counts": {name: train.count(name) for name in config.split.classes},
        "held_out_by": findings.split.held_out_by or None,
        "unreadable": findings.split.unreadable,
    }


def _method_stages(config: RunConfig, findings: Findings) -> list[dict[str, Any]]:
    examples: list[int | None] = [numbers.examples for numbers in findings.tuning]
    examples += [None] * (len(config.method.stages) - len(examples))
    return [
        {
            "targets": {name: target.name for name, target in stage.targets.items()},
            "epochs": stage.epochs,
            "examples": count,
        }
        for stage, count in zip(config.method.stages, examples, strict=True)
    ]


def _tuning_part(config: RunConfig, findings: Findings) -> list[dict[str, Any]]:
    parts = []
    for numbers in findings.tuning:
        measured, best = accuracies(numbers.curve), best_epoch(numbers.curve)
        takes_best = config.tuning.select is Select.best and best is not None
        parts.append(
            {
                "epochs": numbers.epochs,
                "by_epoch": measured,
                "best_epoch": best,
                "best": max(measured, default=None),
                "final": measured[-1] if measured else None,
                "questions": questions_asked(numbers.curve),
                "selected": best if takes_best else numbers.epochs,
                "dropped": len(numbers.dropped),
                "dropped_ids": numbers.dropped,
            }
        )
    return parts


def _accuracy_part(
    config: RunConfig, findings: Findings, tables: ReportTables
) -> dict[str, Any] | None:
    if findings.base_replies is None:
        return None
    part: dict[str, Any] = {
        "base": _by_mode(config, findings, findings.base_replies),
        "tuned": (
            _by_mode(config, findings, findings.tuned_replies) if findings.tuned_replies else None
        ),
        "best_mode": {"base": findings.best_mode["base"], "tuned": findings.best_mode["tuned"]},
        "confidence": config.evaluation.confidence,
        "validation": _validation_part(findings),
    }
    base, tuned = findings.best_mode["base"], findings.best_mode["tuned"]
    if base and tuned:
        part["comparison"] = compare_models(
            tables, Mode[base], Mode[tuned], config.evaluation.confidence
        )
    return part


def _validation_part(findings: Findings) -> dict[str, dict[str, float]]:
    replies = {"base": findings.base_replies, "tuned": findings.tuned_replies}
    return {
        who: {
            mode.name: sum(row.correct for row in rows) / len(rows)
            for mode, rows in examined.validation.items()
        }
        for who, examined in replies.items()
        if examined is not None
    }


def _by_mode(config: RunConfig, findings: Findings, replies: Examined) -> dict[str, Any]:
    assert findings.split is not None
    subject_of = {question.id: question.subject for question in findings.questions.test}
    return {
        mode.name: summarise_accuracy(
            replies.test[mode],
            findings.split.complexity_of,
            subject_of,
            config.split.classes,
            config.evaluation.confidence,
        )
        if mode in replies.test
        else None
        for mode in Mode
    }


def _cost_part(findings: Findings) -> dict[str, Any]:
    stages = [
        StageTokens(
            epochs=numbers.epochs,
            prompt_tokens=numbers.prompt_tokens,
            trained_tokens=numbers.trained_tokens,
            rationale_tokens=numbers.rationale_tokens,
            parameters=numbers.parameters,
            trainable_parameters=numbers.trainable_parameters,
        )
        for numbers in findings.tuning
    ]
    written = [
        prediction
        for replies in (findings.base_replies, findings.tuned_replies)
        if replies is not None
        for part in (replies.validation, replies.test)
        for mode, rows in part.items()
        # Routed replies were generated in the other two modes, and what decided while scoring.
        if mode is not Mode.routed
        for prediction in rows
    ]
    cost = count_cost(findings.rationales, stages, written, findings.judgements)
    return {**cost, "teacher_refused": count_reasons(findings.rationales)}


def _collect_tables(findings: Findings) -> ReportTables:
    predictions = {
        (who, mode): rows
        for who, replies in (("base", findings.base_replies), ("tuned", findings.tuned_replies))
        if replies is not None
        for mode, rows in replies.test.items()
    }
    return ReportTables(
        questions={item.id: item for _, part in findings.splits() for item in part},
        split_of={item.id: name for name, part in findings.splits() for item in part},
        scores=findings.scores or (),
        complexity_of=findings.split.complexity_of if findings.split else {},
        rationales=findings.rationales,
        predictions=predictions,
        curves=[
            {"stage": number, **row}
            for number, numbers in enumerate(findings.tuning, start=1)
            for row in numbers.curve
        ],
    )


def _git_commit() -> str | None:
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
        # Git on a network drive may not come back.
        timeout=_GIT_SECONDS,
    )
    return found.stdout.strip() or None if found.returncode == 0 else None


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _device_name(config: RunConfig) -> str:
    """The device and the dtype in which the student multiplies, such as "cpu, float32"."""
    import torch

    from caft.models.loading import name_dtype
    from caft.trainers.build import pick_device

    device = pick_device(config.trainer)
    dtype = name_dtype(config.model, device)
    name = f"cuda ({torch.cuda.get_device_name()})" if device == "cuda" else device
    return f"{name}, {dtype}"


def _print(summary: dict[str, Any], folder: Path) -> None:
    print_summary(summary, folder, open_console())
