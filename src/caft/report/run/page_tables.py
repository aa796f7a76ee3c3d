"""The tables of a run's page, but those of estimates, classes and unread replies. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from caft.report.cells import (
    Cell,
    Column,
    Table,
    area_cell,
    count_cell,
    points_cell,
    share_cell,
    value_cell,
)
from caft.report.comparison import best_mode, best_result, results_by_mode
from caft.report.parts import ForgettingPart, Share
from caft.report.run.rationales import Teaching
from caft.report.run.timing import list_time_rows
from caft.report.schema import MODELS, AccuracyPart, ScorePart, Summary
from caft.report.wording import clip, duration, memory, p_in_words, percent, reason_of

_SUBJECTS_SHOWN = 100
_LONGEST_SUBJECT = 80


def tabulate_accuracy(accuracy: AccuracyPart, classes: Sequence[str]) -> Table:
    """Every model in every mode, over all test questions and by class."""
    rows = [
        (Cell(f"{model}, {mode}", tag="best" if mode == best_mode(accuracy, model) else ""), result)
        for model in MODELS
        for mode, result in results_by_mode(accuracy, model).items()
    ]
    results = [result for _, result in rows]
    return Table("Accuracy by model and mode", [
        Column("model and mode", "head", [name for name, _ in rows]),
        Column("all", "text", [share_cell(result) for result in results]),
        *(Column(name, "text", [_share(result["by_complexity"].get(name)) for result in results])
          for name in classes),
        Column("no readable answer", "number",
               [Cell(f"{result['unparsable']:,} of {result['n']:,}", result["unparsable"])
                for result in results]),
        Column("tokens a question", "number",
               [f"{result['generated_tokens'] / result['n']:.1f}" for result in results]),
        *([Column("of these, thinking", "number",
                  [f"{result.get('thinking_tokens', 0) / result['n']:.1f}" for result in results])]
          if any("thinking_tokens" in result for result in results) else []),
        *([Column("mode obeyed", "text", [_share(result.get("obeyed")) for result in results])]
          if any("obeyed" in result for result in results) else []),
    ])  # fmt: skip


def _share(share: Share | None) -> Cell:
    return share_cell(share, "not evaluated")


def tabulate_subjects(accuracy: AccuracyPart) -> Table:
    """The largest subjects, with the share of each model in its best mode."""
    shares = {
        model: result["by_subject"] for model in MODELS if (result := best_result(accuracy, model))
    }
    sizes = {name: share["n"] for own in reversed(shares.values()) for name, share in own.items()}
    names = sorted(sizes, key=lambda name: (-sizes[name], name))[:_SUBJECTS_SHOWN]
    return Table("Accuracy by subject", [
        Column("subject", "head", [_name_subject(name) for name in names]),
        Column("questions", "number", [str(sizes[name]) for name in names]),
        *(Column(model, "text", [_share(shares.get(model, {}).get(name)) for name in names])
          for model in MODELS if model == "base" or accuracy["tuned"]),
    ])  # fmt: skip


def _name_subject(name: str) -> str:
    return clip(name, _LONGEST_SUBJECT) or "no subject"


def tabulate_score_subjects(score: ScorePart) -> Table:
    """The area under the curve of the largest subjects; a file may have one a question."""
    areas = score.get("by_subject") or {}
    names = sorted(sorted(areas, key=lambda name: (-areas[name]["n"], name))[:_SUBJECTS_SHOWN])
    cells = [area_cell(areas[name], reason_of(areas[name])) for name in names]
    return Table("AUC by subject", [
        Column("subject", "head", [_name_subject(name) for name in names]),
        Column("ROC AUC", "text", [Cell(str(cell), cell.value) for cell in cells]),
        Column("questions", "number", [count_cell(areas[name]["n"]) for name in names]),
        Column("incorrect", "number", [count_cell(areas[name]["incorrect"]) for name in names]),
    ])  # fmt: skip


def tabulate_forgetting(part: ForgettingPart) -> Table:
    """Every further set in every mode, before and after tuning."""
    tests = part["tests"]
    gaps = [test["change"] for test in tests]
    return Table("Accuracy on further data sets", [
        Column("data set and mode", "head",
               [Cell(Markup("<bdi>{}</bdi>, {}").format(test["dataset"], test["mode"]),
                     aside=f"graded by {test['grader']}" if test.get("grader") else "")
                for test in tests]),
        *(Column(model, "text", [_share(test[model]) for test in tests]) for model in MODELS),
        Column("change", "text", [points_cell(gap) if gap else "" for gap in gaps]),
        Column("forgot?", "text", [Cell(test["verdict"], aside=test["reason"]) for test in tests]),
        Column("p, Holm", "number",
               [value_cell(gap and gap["p_adjusted"], p_in_words) for gap in gaps]),
        Column("lost", "number", [count_cell(gap and gap["only_base"]) for gap in gaps]),
        Column("won", "number", [count_cell(gap and gap["only_tuned"]) for gap in gaps]),
        Column("unreadable", "number",
               [" → ".join(map(str, test["unparsable"].values())) for test in tests]),
    ])  # fmt: skip


def tabulate_stages(summary: Summary) -> Table:
    """Where the run's time went."""
    rows = list_time_rows(summary)
    stages = [row.stage for row in rows]
    return Table("Stages of this run", [
        Column("stage", "head", [Cell(row.name, place) for place, row in enumerate(rows)]),
        Column("source", "text", ["cached" if row.cached else "computed" for row in rows]),
        Column("time", "number", [Cell(duration(row.seconds), row.seconds) for row in rows]),
        Column("share", "number", [value_cell(row.share, percent) for row in rows]),
        Column("tokens", "number",
               [Cell(f"{count:,} {done}" if count else "", count or "")
                for count, done in (row.tokens for row in rows)]),
        Column("tokens/s", "number",
               [Cell(row.rate, row.stage and row.stage.get("tokens_per_second")) for row in rows]),
        Column("memory", "number",
               [Cell(memory(size := stage["peak_memory_bytes"]), size or "") if stage else ""
                for stage in stages]),
        Column("fingerprint", "text",
               [Markup("<code>{}</code>").format(stage["fingerprint"][:12]) if stage else ""
                for stage in stages]),
    ], "Stages of this run")  # fmt: skip


def tabulate_rejections(teaching: Teaching) -> Table:
    """Rationales that were not taken, by reason."""
    return Table("Rejected rationales", [
        Column("reason", "head", [reason for reason, _ in teaching.reasons]),
        Column("rationales", "number", [count_cell(number) for _, number in teaching.reasons]),
    ], "Rejected, by reason")  # fmt: skip


def tabulate_rationales(teaching: Teaching) -> Table:
    """How many questions of each class have a rationale to train on."""
    rows = [(kept, asked - kept, 1 - kept / asked) for _, asked, kept in teaching.changes]
    return Table("Rationales by class", [
        Column("class", "head",
               [Cell(name, place) for place, (name, *_) in enumerate(teaching.changes)]),
        Column("requested", "number", [count_cell(asked) for _, asked, _ in teaching.changes]),
        Column("kept", "number", [count_cell(kept) for kept, *_ in rows]),
        Column("rejected", "number",
               [Cell(f"{lost:,} ({percent(share)})", lost) for _, lost, share in rows]),
    ], "Questions with a rationale to train on, by class")  # fmt: skip
