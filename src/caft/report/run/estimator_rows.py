"""The validation of scores as rows of a table: one for each estimate, best first. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from caft.estimators import CONTROL
from caft.report.schema import Area, ScorePart
from caft.report.wording import name_estimator, percent_between


@dataclass(frozen=True, slots=True)
class AreaRow:
    """One estimate: its area, and the differences from the one in use and from the control.

    The differences are texts, empty if there is nothing to compare.
    """

    name: str
    title: str
    area: Area
    in_use: bool
    against: str
    against_random: str


def list_area_rows(score: ScorePart) -> list[AreaRow]:
    """The one in use first, then by falling area; those without an area last, then the control."""
    chosen = score["estimator"]
    rows = [
        AreaRow(
            name,
            name_estimator(name) if name != CONTROL else "random (control)",
            area,
            name == chosen,
            write_difference(score, chosen, name),
            write_difference(score, CONTROL, name),
        )
        for name, area in score["roc_auc"].items()
    ]
    return sorted(rows, key=_rank)


def _rank(row: AreaRow) -> tuple[bool, bool, bool, float]:
    value = row.area["value"]
    return (not row.in_use, row.name == CONTROL, value is None, -(value or 0.0))


def write_difference(score: ScorePart, first: str, second: str) -> str:
    """Area of `second` minus that of `first`: +0.021 (-0.010 to +0.052, n=200), or why none.

    The summary stores a pair in one direction; empty if it has none.
    """
    for missing in score.get("not_compared") or ():
        if {missing["first"], missing["second"]} == {first, second}:
            return f"none: {missing['reason']}"
    for pair in score.get("differences") or ():
        value, low, high = pair["value"], pair["low"], pair["high"]
        if (pair["second"], pair["first"]) == (first, second):
            value, low, high = -value, -high, -low
        elif (pair["first"], pair["second"]) != (first, second):
            continue
        return f"{value:+.3f} ({low:+.3f} to {high:+.3f}, n={pair['n']:,})"
    return ""


def list_differences(score: ScorePart) -> list[tuple[str, str, str]]:
    """Every two estimates: the second's name, the first's, and the difference of their areas."""
    pairs = [
        *((pair["first"], pair["second"]) for pair in score.get("differences") or ()),
        *((pair["first"], pair["second"]) for pair in score.get("not_compared") or ()),
    ]
    return [
        (name_estimator(second), name_estimator(first), write_difference(score, first, second))
        for first, second in pairs
    ]


def list_facts(score: ScorePart) -> Iterator[tuple[str, str]]:
    """Further facts of the scores, as name and text."""
    if accuracy := score.get("accuracy"):
        yield "Base model right", percent_between(accuracy)
    for name, share in (score.get("accuracy_by_class") or {}).items():
        yield f"Base model right, {name}", f"{percent_between(share)}, n = {share['n']:,}"
    if calibration := score.get("calibration"):
        yield (
            "Calibration of the options",
            f"ECE {calibration['ece']:.3f}, Brier {calibration['brier']:.3f} "
            f"(guessing {calibration['brier_of_guessing']:.3f})",
        )
    if fallback := score.get("fallback"):
        yield (
            f"Allowed to decline if not {fallback['wording']}",
            f"{fallback['declined']:,} of {fallback['n']:,} declined, "
            f"{fallback['correct']:,} right, {fallback['invalid']:,} no allowed reply",
        )
    chains = (("Own", score.get("chain")), ("Drawn", score.get("samples")))
    for whose, chain in chains:
        if chain:
            yield (
                f"{whose} chains of thought",
                f"{chain['correct']:,} of {chain['n']:,} right, {chain['unparsable']:,} without "
                f"an answer, {chain['tokens'] / chain['n']:.1f} tokens each",
            )
