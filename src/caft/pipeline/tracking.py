"""Sends numbers, tables, and products with their lineage to the logger when a run ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from caft.estimators import difficulty
from caft.pipeline.results import RunResults
from caft.pipeline.rows import prediction_rows, rationale_rows, score_rows
from caft.pipeline.steps import OF_NEED, OWN
from caft.report.comparison import best_mode, best_result, results_by_mode
from caft.report.run.cost import spent_usd
from caft.report.schema import ModelName, Summary
from caft.report.tables import ReportTables, take_evenly
from caft.store import StageKind
from caft.trainers.tracker import MOST_ROWS, Product, RunLogger

_RATIONALES_SHOWN = 200
_FIRST = ("score", "distill")
_OF_A_STAGE = ("name", "cached", "seconds", "peak_memory_bytes", "tokens_per_second")
_FURTHER = [step.kind for step in OF_NEED.values() if step.kind is not StageKind.distill]


def track_run(
    logger: RunLogger,
    results: RunResults,
    tables: ReportTables,
    summary: Summary,
    folder: Path,
) -> None:
    """`folder` is the run's own, already filled."""
    logger.log_series("roc/false_positive_rate", list_roc(summary, tables))
    # Rows are made of those alone that are shown.
    scores = take_evenly(results.scored.scores, MOST_ROWS)
    logger.log_table("scores", [*score_rows(scores, tables)])
    logger.log_table("predictions", [*prediction_rows(_show_some(tables))])
    logger.log_table("rationales", [*rationale_rows(results.rationales[:_RATIONALES_SHOWN])])
    stages = [{key: stage.get(key) for key in _OF_A_STAGE} for stage in summary["stages"]]
    logger.log_table("stages", stages)
    logger.log_table("numbers", list_numbers(summary))
    for product in list_products(summary, folder):
        logger.log_product(product)
    if (page := folder / "report.html").exists():
        logger.log_report(page)
    logger.log_summary(headline_numbers(summary))


def _show_some(tables: ReportTables) -> ReportTables:
    """With at most `MOST_ROWS` replies: of every model and mode those to the same questions."""
    each = MOST_ROWS // max(1, len(tables.predictions))
    shown = {key: take_evenly(rows, each) for key, rows in tables.predictions.items()}
    return replace(tables, predictions=shown)


def list_roc(summary: Summary, tables: ReportTables) -> list[dict[str, float]]:
    """The ROC curve of the estimate in use against the base model's mistakes, thinned."""
    from caft.report.figures.estimates import thin
    from caft.report.run.class_rows import training_scores
    from caft.statistics import roc_points

    estimator = summary["score"]["estimator"] if summary["score"] else ""
    known = [
        (difficulty(estimator, row.estimates[estimator]) or 0.0, not row.correct)
        for row in training_scores(tables)
        if row.estimates.get(estimator) is not None
    ]
    if len({wrong for _, wrong in known}) < 2:
        return []
    points = roc_points([value for value, _ in known], [wrong for _, wrong in known])
    return [
        {
            "roc/false_positive_rate": point.false_positive_rate,
            "roc/true_positive_rate": point.true_positive_rate,
        }
        for point in thin(points)
    ]


def list_products(summary: Summary, folder: Path) -> Iterator[Product]:
    """Dataset, scores, rationales and adapter, each with the fingerprints of those before it.

    Scores also depend on the stages of further estimates: fallback, p_true, chains, judge ...
    """
    model, dataset = summary["model"]["id"], summary["dataset"]
    made_from = {"dataset": dataset["fingerprint"]}
    yield Product(
        kind="dataset",
        name=dataset["name"],
        fingerprint=dataset["fingerprint"],
        metadata={"counts": dataset["counts"]},
        taken=True,
    )
    # Of the tuning stages the last one, which made the adapter. The student's own rationales are
    # drawn after the split, and no score depends on them.
    stages = {row["kind"]: row for row in summary["stages"] if row["name"] != OWN.name}
    # Nor do they on what a later stage of the method has scored or asked for anew.
    stages |= {row["kind"]: row for row in summary["stages"] if row["name"] in _FIRST}
    further = {kind.name: stages[kind.name] for kind in _FURTHER if kind.name in stages}
    prefix = f"{Path(model).name}-{dataset['name']}"
    for kind, stage, path in (
        ("scores", StageKind.score, folder / "scores.parquet"),
        ("rationales", StageKind.distill, folder / "rationales.parquet"),
        ("adapter", StageKind.tune, folder / "adapter"),
    ):
        if stage.name not in stages or not path.exists():
            continue
        made = stages[stage.name]
        parts = further if stage is StageKind.score else {}
        yield Product(
            kind=kind,
            name=f"{kind}-{prefix}" if kind != "adapter" else f"adapter-{summary['run']['name']}",
            fingerprint=made["fingerprint"],
            files=(path,),
            made_from=made_from | {name: part["fingerprint"] for name, part in parts.items()},
            metadata={"model": model},
            taken=all(part["cached"] for part in (made, *parts.values())),
        )
        made_from[kind] = made["fingerprint"]


def headline_numbers(summary: Summary) -> dict[str, float | str]:
    """What runs are compared by; whatever the run did not reach is left out.

    `accuracy` is the tuned model's on test questions in its `best_mode`, the base model's if
    nothing was tuned; `base_accuracy` is the base model's in its own best mode. `hard_cut` is the
    estimate from which a question is in the last class. Tokens of a teacher are read and written;
    `usd` is the money of teacher and judge.
    `forgetting/SET/MODE` is tuned minus base on a further set.
    """
    accuracy, score, split, cost = (
        summary["accuracy"],
        summary["score"],
        summary["split"],
        summary["cost"],
    )
    area = score["roc_auc"].get(score["estimator"]) if score else None
    model: ModelName = "tuned" if results_by_mode(accuracy, "tuned") else "base"
    reached, base = best_result(accuracy, model), best_result(accuracy, "base")
    found = {
        "accuracy": reached["value"] if reached else None,
        "best_mode": best_mode(accuracy, model),
        "base_accuracy": base["value"] if base else None,
        "roc_auc": area["value"] if area else None,
        "hard_cut": split["thresholds"][-1] if split and split["thresholds"] else None,
        "teacher_calls": cost["teacher_calls"],
        "teacher_tokens": cost["teacher_prompt_tokens"] + cost["teacher_completion_tokens"],
        "usd": spent_usd(cost),
        "trained_tokens": cost["trained_total_tokens"],
    }
    known: dict[str, float | str] = {
        name: value for name, value in found.items() if value is not None
    }
    part = summary.get("forgetting")
    for test in part["tests"] if part else ():
        if test["change"]:
            known[f"forgetting/{test['dataset']}/{test['mode']}"] = test["change"]["value"]
    return known


def list_numbers(summary: Summary) -> list[dict[str, object]]:
    """All final numbers under the names that summary.json gives them, such as cost/teacher_usd."""
    parts = {
        "score": summary["score"],
        "split": summary["split"],
        "accuracy": summary["accuracy"],
        "forgetting": summary.get("forgetting"),
        "cost": summary["cost"],
    }
    return [{"name": name, "value": value} for name, value in _flatten(parts, "")]


def _flatten(value: object, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping | list):
        items = value.items() if isinstance(value, Mapping) else enumerate(value)
        for name, item in items:
            yield from _flatten(item, f"{path}/{name}" if path else str(name))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, float(value)
