"""Formats numbers for people: shares, token counts, prices, durations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from caft import errors
from caft.estimators import ESTIMATORS, Estimator
from caft.report.schema import AccuracyPart, Area, CostPart
from caft.statistics import ALPHA

MODES_IN_WORDS = {
    "answer": "the answer at once",
    "rationale": "a rationale, which is a text that reasons, and then the answer",
    "routed": "a rationale where the estimate is past a cut, else the answer at once",
}
"""What a model writes in each mode."""


def describe_fitted_cut(accuracy: AccuracyPart | None) -> str:
    """Where rationales begin in routed mode, as a sentence; empty if validation did not fit it."""
    cuts = (accuracy.get("routed_at") if accuracy else None) or {}
    model = "tuned" if "tuned" in cuts else "base"
    if model not in cuts:
        return ""
    cut = cuts[model]
    if cut["value"] is None:
        return (
            f"In routed mode the {model} model writes no rationale: on validation questions none "
            "was worth it."
        )
    found = describe_estimator(cut["estimator"])
    whose = "its own" if cut.get("by_tuned") else "the base model's"
    side = "at most" if found.lower_is_harder else "at least"
    value = f"{write_number(cut['value'], 3)} {found.unit}".rstrip()
    return (
        f"In routed mode the {model} model writes a rationale where {whose} {found.title} "
        f"is {side} {value}, the cut that is best on validation questions: {percent(cut['share'])} "
        "of the test questions."
    )


def describe_estimator(name: str) -> Estimator:
    """The estimator of that name; for an unknown name, an estimator with only a name."""
    return ESTIMATORS.get(name) or Estimator(name=name, title=name.replace("_", " "))


def name_estimator(name: str) -> str:
    """An estimator's name in a sentence; a circular one is marked as such."""
    return describe_estimator(name).title


def name_routing(rule: str) -> str:
    """An estimate that routes, with the strategy in brackets if it is no plain cut of all rows."""
    estimator, _, strategy = rule.partition(", ")
    return name_estimator(estimator) + (f" ({strategy})" if strategy else "")


def unit_of(name: str) -> str:
    """Nats for entropies, nothing for shares and margins."""
    return describe_estimator(name).unit


def percent(share: float) -> str:
    """0.6234 is 62.3%."""
    return f"{100 * share:.1f}%"


def percent_between(share: Mapping[str, Any]) -> str:
    """A share with its bounds: 62.3% (56.7 to 67.6)."""
    return f"{percent(share['value'])} ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def points_between(difference: Mapping[str, Any]) -> str:
    """A difference of shares in percentage points: +8.1 points (+2.0 to +14.2)."""
    value, low, high = (100 * difference[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} points ({low:+.1f} to {high:+.1f})"


def area_between(area: Mapping[str, Any]) -> str:
    """An AUC with its bounds: 0.763 (0.731 to 0.795); 'none' where it does not exist."""
    if area["value"] is None:
        return "none"
    return f"{area['value']:.3f} ({area['low']:.3f} to {area['high']:.3f})"


def reason_of(area: Area) -> str:
    """Why an area does not exist."""
    return area.get("reason") or "no reason was recorded"


def p_in_words(p: float) -> str:
    """No p-value is 0."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def limit_of_p(difference: Mapping[str, Any], p: float, seeds: int) -> str:
    """What a small p leaves out, where the interval beside it has 0; else empty.

    The p of several seeds is of other questions put to these very models, the interval of other
    seeds as well.
    """
    open_ = difference["low"] <= 0 <= difference["high"]
    return "these seeds only" if p < ALPHA and open_ and seeds > 1 else ""


count_of = errors.count_of


def list_names(names: Sequence[str]) -> str:
    """The first three of several names: a, b, c and 2 more; with ";" where a name has commas."""
    mark, last = ("; ", "; and ") if any(", " in name for name in names) else (", ", " and ")
    if len(names) > 3:
        return f"{mark.join(names[:3])}{last}{len(names) - 3} more"
    return last.join(filter(None, (mark.join(names[:-1]), *names[-1:])))


def short_count(number: float) -> str:
    """12.3k, 4.56M, 7.9e+15."""
    if float(f"{number:.3g}") >= 1e15:
        return f"{number:.2g}"
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if float(f"{number:.3g}") >= size:  # so that three digits are never 1e+03
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"


def write_number(value: float, digits: int = 4) -> str:
    """An estimate or a cut point: significant digits, and whole numbers from 1,000 on: 12,346.

    templates/questions.js has the same rule.
    """
    short = f"{value:.{digits}g}"
    return f"{value:,.0f}" if abs(float(short)) >= 1000 else short


def usd(amount: float) -> str:
    """Cents, and as many digits for smaller amounts that nothing that was spent reads as 0."""
    if not 0 < amount < 0.1:
        return f"${amount:,.2f}"
    digits = max(4, -math.floor(math.log10(amount)))
    return f"${amount:.{digits}f}"


def tell_batches(cost: CostPart) -> str:
    """How a teacher's calls divide into live ones and batches; empty if all were live."""
    if not (count := cost.get("teacher_batch_calls", 0)):
        return ""
    spent, live = cost["teacher_batch_usd"], cost["teacher_calls"] - count
    live_usd = max(0.0, cost["teacher_usd"] - spent)
    return f" ({live:,} live for {usd(live_usd)}, {count:,} in batches for {usd(spent)})"


def duration(seconds: float) -> str:
    """3.2 s, 2 min 31 s, 5 h 04 min."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def memory(size: int | None) -> str:
    """Bytes as GB (10^9), MB or kB."""
    if size is None:
        return "not measured"
    if size >= 1e9:
        return f"{size / 1e9:.2f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def capitalise(text: str) -> str:
    """The text with a capital first letter, otherwise unchanged."""
    return text[:1].upper() + text[1:]


def clip(text: str, length: int) -> str:
    """The text's beginning, and how much was left out."""
    if len(text) <= length:
        return text
    return f"{text[:length].rstrip()} … ({len(text) - length:,} more characters)"


def clip_middle(text: str, length: int) -> str:
    """The text's beginning and its end, where an answer stands; and how much was left out."""
    if len(text) <= length:
        return text
    end = length // 3
    left_out = f" … ({len(text) - length:,} more characters) … "
    return text[: length - end].rstrip() + left_out + text[len(text) - end :].lstrip()
