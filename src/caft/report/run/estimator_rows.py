"""The validation of scores: a table of all estimates, and further facts. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from caft.report.cells import Cell, Column, Table, area_cell, count_cell
from caft.report.run.estimate_verdict import is_reversed, judge_estimate
from caft.report.schema import Area, ScorePart
from caft.report.wording import area_between, name_estimator, percent_between, reason_of

UNDEFINED = "undefined"
REVERSED = "no, reversed"
AGAINST = "Δ to the selected estimator"
_CAPTION = (
    "ROC: predicting base-model errors, on training questions. An area of 0.5 is chance. Δ are "
    "paired bootstraps over the questions (n) that have both estimates"
)


def tabulate_estimates(score: ScorePart) -> Table:
    """The selected estimator first, then by falling area; those without an area last.

    A text is empty if there is nothing to tell.
    """
    chosen = score["estimator"]

    def rank(item: tuple[str, Area]) -> tuple[bool, bool, float]:
        name, area = item
        return (name != chosen, area["value"] is None, -(area["value"] or 0.0))

    areas = dict(sorted(score["roc_auc"].items(), key=rank))
    return Table("Estimates and their ROC AUC", [
        Column("estimate", "head",
               [Cell(name_estimator(name), tag="selected" if name == chosen else "")
                for name in areas]),
        Column("ROC AUC", "text", [area_cell(area, reason_of(area)) for area in areas.values()]),
        Column("above chance", "text", [_judge(area) for area in areas.values()]),
        Column(AGAINST, "text", [difference_cell(score, chosen, name) for name in areas]),
        Column("questions", "number", [count_cell(area["n"]) for area in areas.values()]),
        Column("incorrect", "number", [count_cell(area["incorrect"]) for area in areas.values()]),
    ], _CAPTION)  # fmt: skip


def _judge(area: Area) -> str:
    verdict = judge_estimate(area)
    if verdict is None:
        return UNDEFINED
    return REVERSED if is_reversed(area) else verdict.value


def difference_cell(score: ScorePart, first: str, second: str) -> Cell:
    """Area of `second` minus that of `first`: +0.021 (-0.010 to +0.052, n=200), or why none.

    The summary stores a pair in one direction; empty if it has none.
    """
    for missing in score.get("not_compared") or ():
        if {missing["first"], missing["second"]} == {first, second}:
            return Cell(f"{UNDEFINED}: {missing['reason']}", "")
    for pair in score.get("differences") or ():
        value, low, high = pair["value"], pair["low"], pair["high"]
        if (pair["second"], pair["first"]) == (first, second):
            value, low, high = -value, -high, -low
        elif (pair["first"], pair["second"]) != (first, second):
            continue
        return Cell(f"{value:+.3f} ({low:+.3f} to {high:+.3f}, n={pair['n']:,})", value)
    return Cell("")


def list_facts(score: ScorePart) -> Iterator[tuple[str, str]]:
    """Further facts of the scores, as name and text."""
    if accuracy := score.get("accuracy"):
        yield "Base accuracy", percent_between(accuracy)
    for name, share in (score.get("accuracy_by_class") or {}).items():
        yield f"Base accuracy, {name}", f"{percent_between(share)}, n = {share['n']:,}"
    if within := score.get("within_subjects"):
        known = f"{area_between(within)} over pairs of one subject, n = {within['n']:,}"
        yield "ROC AUC within subjects", known if within["value"] is not None else reason_of(within)
    if calibration := score.get("calibration"):
        yield (
            "Calibration of the options",
            f"expected calibration error {calibration['ece']:.3f}; Brier score over all options "
            f"{calibration['brier']:.3f} (0 is perfect, guessing scores "
            f"{calibration['brier_of_guessing']:.3f})",
        )
    if fallback := score.get("fallback"):
        yield (
            f"Allowed to decline if not {fallback['wording']}",
            f"{fallback['declined']:,} of {fallback['n']:,} declined, "
            f"{fallback['correct']:,} correct, {fallback['invalid']:,} outside the allowed answers",
        )
    chains = (("Greedy", score.get("chain")), ("Sampled", score.get("samples")))
    for whose, chain in chains:
        if chain:
            yield (
                f"{whose} chains of thought",
                f"{chain['correct']:,} of {chain['n']:,} correct, {chain['unparsable']:,} without "
                f"a readable answer, {chain['tokens'] / chain['n']:.1f} tokens each",
            )
