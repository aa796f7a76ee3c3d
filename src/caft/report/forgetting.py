"""Did tuning make the model forget? Both models on further data sets, paired. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from caft.records import Mode, Prediction
from caft.report.comparison import as_interval, compare_models, measure_chance
from caft.report.parts import ChangePart, ForgettingPart, ForgettingTestPart
from caft.report.run.accuracy import share_true
from caft.report.schema import MODELS, Summary
from caft.report.tables import ReportTables
from caft.report.wording import p_in_words, percent, points_between
from caft.statistics import (
    MARGIN,
    Verdict,
    holm_adjusted,
    judge_forgetting,
    score_difference,
)

_FIRST = (Verdict.yes, Verdict.unclear, Verdict.no)
NOT_TUNED = "nothing was tuned"
NOTHING_TO_LOSE = "base may be at chance"


def measure_forgetting(
    sets: Mapping[str, ReportTables], left_out: Mapping[str, int], confidence: float
) -> ForgettingPart | None:
    """Every further set in every mode; None without any. `left_out` counts rows by set."""
    tests = [
        _measure(name, tables, mode, left_out[name], confidence)
        for name, tables in sets.items()
        for mode in Mode
        if ("base", mode) in tables.predictions
    ]
    if not tests:
        return None
    changes = [change for test in tests if (change := test["change"])]
    adjusted = holm_adjusted([change["p_value"] for change in changes])
    for change, p in zip(changes, adjusted, strict=True):
        change["p_adjusted"] = p
    for test in tests:
        test["verdict"], test["reason"] = judge_test(test)
    return {"verdict": join_tests(tests), "margin": MARGIN, "tests": tests}


def _measure(
    name: str, tables: ReportTables, mode: Mode, left_out: int, confidence: float
) -> ForgettingTestPart:
    rows: dict[str, Sequence[Prediction]] = {
        model: found for model in MODELS if (found := tables.predictions.get((model, mode)))
    }
    shares = {model: share_true([row.correct for row in own], confidence)
              for model, own in rows.items()}  # fmt: skip
    change = compare_models(tables, mode, mode, confidence, score_difference)
    return {
        "dataset": name,
        "mode": mode.name,
        "left_out": left_out,
        "chance": measure_chance(tables.questions.values()),
        "grader": next((item.grader for item in tables.questions.values() if item.grader), ""),
        "base": shares["base"],
        "tuned": shares.get("tuned"),
        "change": {**change, "p_adjusted": change["p_value"]} if change else None,
        "unparsable": {
            model: sum(row.parsed is None for row in own) for model, own in rows.items()
        },
        "verdict": Verdict.undefined.value,
        "reason": "",
    }


def judge_test(test: ForgettingTestPart) -> tuple[str, str]:
    """The verdict, and why there is none; a base model at chance has nothing to lose."""
    if not (change := test["change"]):
        return Verdict.undefined.value, NOT_TUNED
    verdict = judge_forgetting(as_interval(change), change["p_adjusted"])
    if verdict is not Verdict.yes and test["base"]["low"] <= (test["chance"] or 0.0):
        return Verdict.undefined.value, NOTHING_TO_LOSE
    return verdict.value, ""


def join_tests(tests: Sequence[ForgettingTestPart]) -> str:
    """One clear loss is forgetting; no needs every test that is defined."""
    given = {test["verdict"] for test in tests}
    return next((each for each in _FIRST if each.value in given), Verdict.undefined).value


def find_worst(part: ForgettingPart) -> ForgettingTestPart | None:
    """The largest loss among the tests with the verdict of all; None if nothing was compared."""
    own = [test for test in part["tests"] if test["verdict"] == part["verdict"]]
    compared = [(change["value"], test) for test in own if (change := test["change"])]
    return min(compared, key=lambda found: found[0])[1] if compared else None


def describe_change(change: ChangePart) -> str:
    """Such as "-5.5 points (-9.8 to -1.2), p = 0.031, n=200"."""
    p = p_in_words(change["p_adjusted"])
    return f"{points_between(change)}, {p}, n={change['n']:,}"


def list_changes(summary: Summary) -> Iterator[str]:
    """A line for every set and mode; none without further sets."""
    part = summary.get("forgetting")
    for test in part["tests"] if part else ():
        shares = " → ".join(percent(share["value"]) for share in (test["base"], test["tuned"])
                            if share)  # fmt: skip
        change = f", {describe_change(test['change'])}" if test["change"] else ""
        why = f" ({test['reason']})" if test["reason"] else ""
        yield (
            f"{test['dataset']}, {test['mode']} mode: {shares}{change}; forgotten: "
            f"{test['verdict']}{why}"
        )


def warn_of_forgetting(part: ForgettingPart | None) -> Iterator[str]:
    """What was clearly lost, and what was not asked."""
    tests = part["tests"] if part else []
    lost = [_describe_loss(test) for test in tests if test["verdict"] == Verdict.yes.value]
    if lost:
        yield f"Tuning made the model forget (p after Holm): {'; '.join(lost)}."
    for name, count in {test["dataset"]: test["left_out"] for test in tests}.items():
        if count:
            stand = "question stands" if count == 1 else "questions stand"
            yield (
                f"{count:,} test {stand} in the training questions, too, and cannot show what was "
                f"forgotten: left out of {name}."
            )


def _describe_loss(test: ForgettingTestPart) -> str:
    assert test["change"] is not None
    unread, n = test["unparsable"], test["base"]["n"]
    text = f"{test['dataset']} in {test['mode']} mode {describe_change(test['change'])}"
    if unread["tuned"] <= unread["base"]:
        return text
    return (
        f"{text}; {unread['tuned']:,} of {n:,} replies have no readable answer, and "
        f"{unread['base']:,} had none before"
    )
