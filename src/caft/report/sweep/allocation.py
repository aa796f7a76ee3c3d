"""How a teacher's budget should be spent, by the tests of routed arms against random ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from caft.report.headlines import Headline, Tone
from caft.report.sweep.arms import Arm, budget_key
from caft.report.sweep.routing import name_what_is_missing, tell_estimate_calls
from caft.report.sweep.schema import AllocationPart, RoutingTestPart
from caft.report.wording import count_of, list_names, percent, points_between, short_count
from caft.statistics import FEWEST_SEEDS, Verdict, join_verdicts

ASKED = "How should a teacher's budget be spent?"


def advise_allocation(
    arms: Sequence[Arm], tests: Sequence[RoutingTestPart], confidence: float
) -> tuple[AllocationPart, Headline]:
    """The most accurate arm that beats every random arm of its budget, or why there is none."""
    by_arm: dict[str, list[RoutingTestPart]] = {}
    for test in tests:
        by_arm.setdefault(test["second"], []).append(test)
    verdicts = {
        arm: join_verdicts([Verdict(test["verdict"]) for test in own])
        for arm, own in by_arm.items()
    }
    winners = [arm for arm, verdict in verdicts.items() if verdict is Verdict.yes]
    if winners:
        best = max(winners, key=lambda arm: min(test["accuracy"] for test in by_arm[arm]))
        others = [arm for arm in winners if arm != best]
        unit = "teacher" if budget_key(arms) == "teacher_tokens" else "rationale"
        (arm,) = (arm for arm in arms if arm.name == best)
        verdict, found = Verdict.yes, _praise(arm, by_arm[best], others, unit, confidence)
    elif not tests:
        best, verdict = None, Verdict.undefined
        found = _say("Undefined", "no random control", f"{name_what_is_missing(arms)}.")
    elif set(verdicts.values()) == {Verdict.no}:
        best, verdict, found = None, Verdict.no, _advise_random(by_arm)
    else:
        best, verdict, found = None, Verdict.unclear, _tell_what_could_be_seen(tests)
    sentence = f"{found.answer}. {found.detail}"
    return {"verdict": verdict.value, "arm": best, "sentence": sentence}, found


def _say(answer: str, figure: str, detail: str, tone: Tone = Tone.unclear) -> Headline:
    return Headline(ASKED, answer, figure, detail[:1].upper() + detail[1:], tone)


def _praise(
    arm: Arm,
    tests: Sequence[RoutingTestPart],
    others: Sequence[str],
    unit: str,
    confidence: float,
) -> Headline:
    """The arm, by the test that supports it least."""
    weakest = min(tests, key=lambda test: test["low"])
    ways = list(dict.fromkeys(way for test in tests for way in test["equal_in"]))
    detail = (
        f"With {short_count(weakest['budget'])} {unit} tokens it is right on "
        f"{percent(weakest['accuracy'])} of the test questions, {points_between(weakest)} against "
        f"{weakest['first']} at equal {' and '.join(ways)} ({count_of(weakest['seeds'], 'seed')}, "
        f"simultaneous {100 * confidence:g}% interval)."
    )
    if "teacher tokens" not in ways:
        detail += " No random arm had as many teacher tokens."
    if calls := tell_estimate_calls(tests, [arm]):
        detail += f" {calls}"
    if others:
        detail += f" {list_names(others)} beat random routing, too."
    figure = f"{points_between(weakest)} against random"
    method = arm.first["method"]["name"]
    # Where all settings have one method, their names leave it out.
    name = arm.name if method in arm.name else f"{method}, {arm.name}"
    answer = f"Spend your budget like this: {name}"
    return _say(answer, figure, detail, Tone.good)


def _advise_random(by_arm: Mapping[str, Sequence[RoutingTestPart]]) -> Headline:
    """The bound of a setting's gain is the lowest of its controls, of which one refutes it."""
    several = any(len(own) > 1 for own in by_arm.values())
    beaten = "every random control" if several else "random routing"
    comparisons = count_of(sum(map(len, by_arm.values())), "comparison")
    highest = max(min(test["high"] for test in own) for own in by_arm.values())
    most = round(100 * highest, 1)
    if most >= 0:
        over = " over all controls of a setting" if several else ""
        left = f"leave no gain above {abs(most):.1f} points{over}."
    else:
        behind = "one of its controls" if several else "random questions"
        left = f"put every setting {-most:.1f} points or more below {behind}."
    detail = f"The intervals of {comparisons} at an equal budget, which hold together, {left}"
    answer = f"Nothing here beat {beaten}: ask random questions, the cheapest rule"
    return _say(answer, comparisons, detail, Tone.bad)


def _tell_what_could_be_seen(tests: Sequence[RoutingTestPart]) -> Headline:
    """The difference that would have been seen in every comparison that is still open."""
    still_open = [test for test in tests if test["verdict"] == Verdict.unclear.value]
    largest = max(still_open, key=lambda test: test["high"])
    figure = f"{points_between(largest)} against random"
    if min(test["seeds"] for test in still_open) < FEWEST_SEEDS:
        answer = f"Not enough data: fewer than {FEWEST_SEEDS} seeds a setting"
        detail = "They say nothing about other seeds: run seed=1,2,3."
        return _say(answer, figure, detail)
    spreads = [test["detectable"] for test in still_open if test["detectable"] is not None]
    varies = any(test["only_first"] + test["only_second"] for test in still_open)
    if not spreads and varies:
        answer = "Not enough data: this sweep could not have seen any difference"
        return _say(answer, figure, "Seeds and questions vary too much: run more of both.")
    if not spreads:
        answer = "Not enough data: the settings were right on the same questions for every seed"
        detail = "Nothing varies, so no detectable difference is known: ask more test questions."
        return _say(answer, figure, detail)
    seen = max(spreads)
    answer = f"Not enough data: this sweep could have seen a difference of {100 * seen:.1f} points"
    detail = (
        f"That is the minimum detectable difference (80% power) of "
        f"{count_of(len(tests), 'comparison')} with random routing, together. Most is open for "
        f"{largest['second']}: {points_between(largest)} against {largest['first']}."
    )
    return _say(answer, figure, detail)
