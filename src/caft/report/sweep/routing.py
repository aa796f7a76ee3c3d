"""Whether routing by complexity beats routing at random, at an equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from caft.estimators import STAND_IN
from caft.report.comparison import as_interval
from caft.report.headlines import routes_by_class
from caft.report.sweep.arms import Arm, budget_key, equal_budgets, pick_common_mode
from caft.report.sweep.comparisons import compare_pairs
from caft.report.sweep.schema import RoutingAnswerPart, RoutingPart, RoutingTestPart
from caft.report.wording import (
    capitalise,
    count_of,
    limit_of_p,
    list_names,
    p_in_words,
    points_between,
)
from caft.statistics import (
    FEWEST_SEEDS,
    WORTHWHILE_GAIN,
    Verdict,
    join_verdicts,
    judge_difference,
)

ENTROPY = STAND_IN
"""The estimate that the paper routes by; others are answered in sentences of their own."""
_CUTS = ("entropy", "entropy_threshold")


def answer_routing(arms: Sequence[Arm], confidence: float) -> RoutingPart:
    """The answer for the paper's estimate, which is always there, and for others where tested.

    Every routed arm is tested against every random one that differs in nothing but the routing
    and had the same budget, both in their common mode. The intervals of all tests hold together.
    """
    tests = [test for test in _test_routing(arms, confidence) if test["estimator"]]
    by_rule: dict[str, list[RoutingTestPart]] = {ENTROPY: []}
    for test in tests:
        by_rule.setdefault(name_rule(test), []).append(test)
    plain = [arm for arm in arms if arm.estimator == ENTROPY and arm.strategy in _CUTS]
    missing = name_what_is_missing(arms)
    if tests and not plain:
        missing = "no evaluated job cuts by entropy alone; other rules have their own answers"
    of_entropy, *others = (_answer(name, own, arms, missing) for name, own in by_rule.items())
    return {
        "verdict": of_entropy["verdict"],
        "sentence": of_entropy["sentence"],
        "others": others,
        "tests": tests,
    }


def name_rule(test: RoutingTestPart) -> str:
    """The estimate that routed, and the strategy if it is no plain cut of all rows.

    A rule that draws, or cuts inside subjects, is a claim of its own.
    """
    estimator = test["estimator"] or ""
    plain = test["strategy"] in _CUTS
    return estimator if plain else f"{estimator}, {test['strategy']}"


def _test_routing(arms: Sequence[Arm], confidence: float) -> list[RoutingTestPart]:
    matched: dict[tuple[str, str], tuple[Arm, list[str]]] = {}
    pairs = []
    for control, arm in product(arms, arms):
        if not _are_rivals(control, arm):
            continue
        equal, mode = equal_budgets(control, arm), pick_common_mode(control, arm)
        if equal and mode:
            matched[control.name, arm.name] = arm, equal
            pairs.append((control.in_mode(mode), arm.in_mode(mode)))
    tests: list[RoutingTestPart] = []
    for pair in compare_pairs(pairs, confidence, together=True):
        arm, equal = matched[pair["first"], pair["second"]]
        verdict = judge_difference(as_interval(pair), pair["p_adjusted"], pair["seeds"])
        accuracy = arm.in_mode(pair["mode"] or "").accuracy
        tests.append({**pair, "strategy": arm.strategy, "estimator": arm.estimator,
                      "equal_in": equal, "budget": arm.mean_cost(budget_key(arms)),
                      "accuracy": accuracy, "rank": 0, "verdict": verdict.value})  # fmt: skip
    return _rank(tests)


def _rank(tests: Sequence[RoutingTestPart]) -> list[RoutingTestPart]:
    """The tests with the arm's place among those of its control, the first place first.

    Accuracies of two modes have no order: a control has a place in each.
    """
    ranked: list[RoutingTestPart] = []
    for control, mode in dict.fromkeys((test["first"], test["mode"]) for test in tests):
        alike = [test for test in tests if (test["first"], test["mode"]) == (control, mode)]
        alike.sort(key=lambda test: -test["accuracy"])
        # The control has a place as well: arms below it come after it.
        ranked += [
            {**test, "rank": place + (test["value"] < 0)}
            for place, test in enumerate(alike, start=1)
        ]
    controls = [*dict.fromkeys(test["first"] for test in tests)]
    return sorted(ranked, key=lambda test: (controls.index(test["first"]), test["rank"]))


def _are_rivals(control: Arm, arm: Arm) -> bool:
    """Whether one is routed at random and one not, all else is equal, and training uses routing."""
    return (
        control.is_random
        and not arm.is_random
        and control.first["model"]["id"] == arm.first["model"]["id"]
        and control.stages == arm.stages
        and _beside_routing(control) == _beside_routing(arm)
        and routes_by_class(control.first)
    )


def _beside_routing(arm: Arm) -> dict[str, str]:
    """The settings outside of the split: a gain by them is no gain of routing."""
    return {key: value for key, value in arm.settings.items() if key.split(".")[0] != "split"}


def _answer(
    estimator: str, tests: Sequence[RoutingTestPart], arms: Sequence[Arm], missing: str
) -> RoutingAnswerPart:
    verdict = _judge_together(tests)
    text = _describe_budgets(tests, verdict) if tests else f"{missing}."
    if calls := tell_estimate_calls(tests, arms):
        text += f" {calls}"
    sentence = f"{capitalise(verdict.value)}: {text}"
    return {"estimator": estimator, "verdict": verdict.value, "sentence": sentence}


def _judge_together(tests: Sequence[RoutingTestPart]) -> Verdict:
    # Equal calls favours routing by difficulty, since hard questions have longer rationales: a
    # gain that another control does not confirm is none yet.
    return join_verdicts([Verdict(test["verdict"]) for test in tests])


def _describe_budgets(tests: Sequence[RoutingTestPart], verdict: Verdict) -> str:
    """A sentence for each way in which budgets are equal."""
    by_budget: dict[tuple[str, ...], list[RoutingTestPart]] = {}
    for test in tests:
        by_budget.setdefault(tuple(test["equal_in"]), []).append(test)
    verdicts = [_judge_together(group) for group in by_budget.values()]
    # If all budgets agree, the verdict is not repeated.
    agree = len(set(verdicts)) == 1
    sentences = [
        _describe_budget(group, of_budget, "" if agree else f" {of_budget.value}")
        for group, of_budget in zip(by_budget.values(), verdicts, strict=True)
    ]
    if verdict is Verdict.yes and not any("teacher tokens" in equal for equal in by_budget):
        sentences.append("no random arm had as many teacher tokens.")
    return " ".join([sentences[0], *map(capitalise, sentences[1:])])


def _describe_budget(tests: Sequence[RoutingTestPart], verdict: Verdict, word: str) -> str:
    """The verdict at one budget, with the numbers of the test that supports it least."""
    agreeing = [test for test in tests if test["verdict"] == verdict.value] or tests
    weakest = max(agreeing, key=lambda test: test["p_adjusted"])
    budget = f"at equal {' and '.join(weakest['equal_in'])}"
    if len(tests) > 1:
        budget += f", in the weakest of {count_of(len(tests), 'comparison')}"
    return f"{budget}{word}, {_describe_test(weakest)}"


def _describe_test(test: RoutingTestPart) -> str:
    limit = limit_of_p(test, test["p_adjusted"], test["seeds"])
    text = (
        f"{test['second']} minus {test['first']} is {points_between(test)} in {test['mode']} mode "
        f"over {count_of(test['n'], 'test question')} and {count_of(test['seeds'], 'seed')}, "
        f"{p_in_words(test['p_adjusted'])} after Holm's correction"
        f"{limit and f' ({limit})'}"
    )
    if test["verdict"] != Verdict.unclear.value:
        return f"{text}."
    if test["seeds"] < FEWEST_SEEDS:
        return f"{text}; fewer than {FEWEST_SEEDS} seeds say nothing about other seeds."
    worth = f"{100 * WORTHWHILE_GAIN:g} points"
    return f"{text}; neither chance nor a gain above {worth} is ruled out."


def tell_estimate_calls(tests: Sequence[RoutingTestPart], arms: Sequence[Arm]) -> str:
    """What tested arms asked a teacher or judge for their estimate; empty if nothing."""
    tested = {test["second"] for test in tests}
    told = [f"{arm.name} ({calls})" for arm in arms
            if arm.name in tested and (calls := arm.estimate_calls)]  # fmt: skip
    if not told:
        return ""
    return f"Random routing needs none of the calls for an estimate: {list_names(told)}."


def name_what_is_missing(arms: Sequence[Arm]) -> str:
    """Why no routed arm could be tested."""
    if not any(arm.is_random for arm in arms):
        return "no evaluated job routes at random (split=random)"
    if not any(arm.estimator == ENTROPY for arm in arms):
        return f"no evaluated job routes by entropy (split=entropy split.estimator={ENTROPY})"
    return (
        "no random arm had the same method, the same other settings and the same teacher calls "
        "or tokens"
    )
