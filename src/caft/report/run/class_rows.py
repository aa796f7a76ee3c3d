"""One row for each class: its range, and how accurate the base model is there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from caft.estimators import difficulty
from caft.packed import keep, values_of
from caft.records import AnswerScore
from caft.report.cells import Cell, Column, Table, count_cell, share_cell
from caft.report.parts import Share
from caft.report.schema import MethodPart, SplitPart, StagePart
from caft.report.tables import ReportTables
from caft.report.wording import count_of, unit_of, write_number


def tabulate_classes(
    split: SplitPart, method: MethodPart, shares: Mapping[str, Share], estimator: str
) -> Table:
    """One row a class, in the split's order; `estimator` is what its cut points are in.

    `shares` are the summary's `accuracy_by_class`: the base model's on training questions.
    """
    names, unit = list(split["counts"]), unit_of(estimator)
    spans = _describe_spans(split["thresholds"], len(names), estimator)
    return Table("Classes", [
        Column("class", "head", [Cell(name, place) for place, name in enumerate(names)]),
        *([Column(f"estimate, {unit}" if unit else "estimate", "text", spans)]
          if split["thresholds"] else []),
        Column("training questions", "number", [*map(count_cell, split["counts"].values())]),
        Column("base accuracy", "text",
               [share_cell(shares.get(name), "unknown") for name in names]),
        *(Column(f"stage {number}, {count_of(stage['epochs'], 'epoch')}", "text",
                 [_describe_target(stage, name) for name in names])
          for number, stage in enumerate(method["stages"], 1)),
    ])  # fmt: skip


def _describe_target(stage: StagePart, name: str) -> str:
    """What the stage trains the class on, such as "rationale, 1,024 an epoch, weight 2"."""
    if name not in stage["targets"]:
        return "not in it"
    drawn, weight = stage.get("draw", {}).get(name), stage.get("weights", {}).get(name)
    parts = (
        stage["targets"][name],
        f"{drawn:,} an epoch" if drawn else "",
        f"weight {weight:g}" if weight else "",
        "classes made anew" if "rescored" in stage else "",
    )
    return ", ".join(filter(None, parts))


def training_scores(tables: ReportTables) -> Sequence[AnswerScore]:
    """Scores of training questions: the rows that cut points and the AUC come from."""
    ids = values_of(tables.scores, "question_id")
    return keep(tables.scores, [tables.split_of.get(name) == "train" for name in ids])


def _describe_spans(cuts: Sequence[float], classes: int, estimator: str) -> list[Cell]:
    """From easy to hard; an estimate that is a cut point belongs to the class behind it.

    They are sorted by their estimates, whichever of them are easy.
    """
    # A random split has no cut points: its classes have no range.
    if not cuts or len(cuts) != classes - 1:
        return [Cell("")] * classes
    falls = (difficulty(estimator, 1.0) or 0.0) < 0
    easiest, hardest = ("above", "below") if falls else ("below", "above")
    written = [*map(write_number, cuts)]
    between = [f"{first} to {last}" for first, last in pairwise(written)]
    spans = [f"{easiest} {written[0]}", *between, f"{written[-1]} and {hardest}"]
    return [Cell(span, -place if falls else place) for place, span in enumerate(spans)]
