"""The scores' validation as rows to read: one an estimate, the best first. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caft.estimators import CONTROL
from caft.report.wording import name_estimator, percent_between


@dataclass(frozen=True, slots=True)
class AreaRow:
    """One estimate: its area, and how much more or less than the one in use it has.

    `against` and `against_random` have the reason instead of numbers where the two share no area,
    and are None where there is nothing to compare.
    """

    name: str
    title: str
    area: Mapping[str, Any]
    in_use: bool
    against: Mapping[str, Any] | None
    against_random: Mapping[str, Any] | None


def list_area_rows(score: Mapping[str, Any]) -> list[AreaRow]:
    """The one in use first, then by falling area; those without an area last, then the control."""
    chosen = score["estimator"]
    rows = [
        AreaRow(
            name,
            name_estimator(name) if name != CONTROL else "random (control)",
            area,
            name == chosen,
            find_difference(score, chosen, name),
            find_difference(score, CONTROL, name),
        )
        for name, area in score["roc_auc"].items()
    ]
    return sorted(rows, key=_rank)


def _rank(row: AreaRow) -> tuple[bool, bool, bool, float]:
    value = row.area["value"]
    return (not row.in_use, row.name == CONTROL, value is None, -(value or 0.0))


def find_difference(score: Mapping[str, Any], first: str, second: str) -> dict[str, Any] | None:
    """Area of `second` minus area of `first`, however the summary has stored the pair.

    For two that could not be compared, the entry with the reason.
    """
    for pair in score.get("not_compared") or ():
        if {pair["first"], pair["second"]} == {first, second}:
            return dict(pair)
    for pair in score.get("differences") or ():
        if (pair["first"], pair["second"]) == (first, second):
            return dict(pair)
        if (pair["second"], pair["first"]) == (first, second):
            turned = {"value": -pair["value"], "low": -pair["high"], "high": -pair["low"]}
            return {**pair, **turned, "first": first, "second": second}
    return None


def area_gap(difference: Mapping[str, Any] | None) -> str:
    """+0.021 (-0.010 to +0.052, n=200), or why there is none; nothing with nothing to compare."""
    if difference is None:
        return ""
    if "reason" in difference:
        return f"none: {difference['reason']}"
    value, low, high = (difference[key] for key in ("value", "low", "high"))
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f}, n={difference['n']:,})"


def list_facts(score: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What else a reader wants to know of the scores, as name and words."""
    facts = []
    if score.get("accuracy"):
        facts.append(("Base model right", percent_between(score["accuracy"])))
    for name, share in (score.get("accuracy_by_class") or {}).items():
        facts.append((f"Base model right, {name}", f"{percent_between(share)}, n = {share['n']:,}"))
    calibration = score.get("calibration")
    if calibration:
        facts.append(
            (
                "Calibration of the options",
                f"ECE {calibration['ece']:.3f}, Brier {calibration['brier']:.3f} "
                f"(guessing {calibration['brier_of_guessing']:.3f})",
            )
        )
    fallback = score.get("fallback")
    if fallback:
        facts.append(
            (
                f"Allowed to decline if not {fallback['wording']}",
                f"{fallback['declined']:,} of {fallback['n']:,} declined, "
                f"{fallback['correct']:,} right, {fallback['invalid']:,} no allowed reply",
            )
        )
    chain = score.get("chain")
    if chain:
        facts.append(
            (
                "Own chains of thought",
                f"{chain['correct']:,} of {chain['n']:,} right, {chain['unparsable']:,} without "
                f"an answer, {chain['tokens'] / chain['n']:.1f} tokens each",
            )
        )
    return facts
