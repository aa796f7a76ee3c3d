"""The validation of scores as rows of a table: one for each estimate, best first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from caft.report.run.estimate_verdict import is_reversed, judge_estimate
from caft.report.schema import Area, ScorePart
from caft.report.wording import area_between, name_estimator, percent_between, reason_of

UNDEFINED = "undefined"
REVERSED = "no, reversed"


@dataclass(frozen=True, slots=True)
class AreaRow:
    """One estimate: its area, whether that is above chance, and Δ to the selected estimator.

    The texts are empty if there is nothing to tell.
    """

    name: str
    title: str
    area: Area
    selected: bool
    above_chance: str
    against: str


def list_area_rows(score: ScorePart) -> list[AreaRow]:
    """The selected estimator first, then by falling area; those without an area last."""
    chosen = score["estimator"]
    rows = [
        AreaRow(
            name,
            name_estimator(name),
            area,
            name == chosen,
            _judge(area),
            write_difference(score, chosen, name),
        )
        for name, area in score["roc_auc"].items()
    ]
    return sorted(rows, key=_rank)


def _rank(row: AreaRow) -> tuple[bool, bool, float]:
    value = row.area["value"]
    return (not row.selected, value is None, -(value or 0.0))


def _judge(area: Area) -> str:
    verdict = judge_estimate(area)
    if verdict is None:
        return UNDEFINED
    return REVERSED if is_reversed(area) else verdict.value


def write_difference(score: ScorePart, first: str, second: str) -> str:
    """Area of `second` minus that of `first`: +0.021 (-0.010 to +0.052, n=200), or why none.

    The summary stores a pair in one direction; empty if it has none.
    """
    for missing in score.get("not_compared") or ():
        if {missing["first"], missing["second"]} == {first, second}:
            return f"{UNDEFINED}: {missing['reason']}"
    for pair in score.get("differences") or ():
        value, low, high = pair["value"], pair["low"], pair["high"]
        if (pair["second"], pair["first"]) == (first, second):
            value, low, high = -value, -high, -low
        elif (pair["first"], pair["second"]) != (first, second):
            continue
        return f"{value:+.3f} ({low:+.3f} to {high:+.3f}, n={pair['n']:,})"
    return ""


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
