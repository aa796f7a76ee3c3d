"""Whether routing by complexity beats routing at random, at an equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from caft.report.findings import routes_by_class
from caft.report.sweep.arms import Arm, equal_budgets
from caft.report.sweep.comparisons import ArmComparison, compare_pairs
from caft.report.wording import count_of, p_in_words, points_between_bounds
from caft.statistics import FEWEST_SEEDS, WORTHWHILE_GAIN, Verdict, judge_difference

ASKED = "Does entropy routing beat random routing at an equal budget?"


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTest:
    """One arm against its random control: `comparison` is routed minus random."""

    strategy: str
    equal_in: tuple[str, ...]
    comparison: ArmComparison
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingAnswer:
    """The sweep's answer, in one word and in one plain sentence, and the tests it rests on."""

    verdict: Verdict
    sentence: str
    tests: tuple[RoutingTest, ...]


def answer_routing(arms: Sequence[Arm], confidence: float) -> RoutingAnswer:
    """Every routed arm against every random one with the same stages and the same budget."""
    matched = {
        (control.name, arm.name): (control, arm, equal)
        for control, arm in product(arms, arms)
        if _are_rivals(control, arm) and (equal := equal_budgets(control, arm))
    }
    pairs = [(control, arm) for control, arm, _ in matched.values()]
    tests = tuple(
        RoutingTest(
            strategy=matched[found.first, found.second][1].strategy,
            equal_in=matched[found.first, found.second][2],
            comparison=found,
            verdict=judge_difference(found.difference, found.p_adjusted, found.seeds),
        )
        for found in compare_pairs(pairs, confidence)
    )
    asked = [test for test in tests if "entropy" in test.strategy]
    verdict = _judge_together([test.verdict for test in asked])
    return RoutingAnswer(verdict=verdict, sentence=_say(verdict, asked, arms), tests=tests)


def _are_rivals(control: Arm, arm: Arm) -> bool:
    """Same model and stages, one routed at random and one not, and routing plays a part."""
    return (
        is_random(control)
        and not is_random(arm)
        and control.first["model"]["id"] == arm.first["model"]["id"]
        and _stages(control) == _stages(arm)
        and routes_by_class(control.first)
    )


def is_random(arm: Arm) -> bool:
    """Whether its classes were drawn at random."""
    return arm.strategy.startswith("random")


def _stages(arm: Arm) -> list[tuple[dict[str, str], int]]:
    return [(stage["targets"], stage["epochs"]) for stage in arm.first["method"]["stages"]]


def _judge_together(verdicts: Sequence[Verdict]) -> Verdict:
    # Several methods may be tested: one that gains and none that certainly does not is a yes.
    if Verdict.yes in verdicts and Verdict.no not in verdicts:
        return Verdict.yes
    if verdicts and all(verdict is Verdict.no for verdict in verdicts):
        return Verdict.no
    return Verdict.unclear


def _say(verdict: Verdict, tests: Sequence[RoutingTest], arms: Sequence[Arm]) -> str:
    if not tests:
        return f"Not enough data to tell: {_say_what_is_missing(arms)}."
    if len({test.verdict for test in tests}) > 1 and verdict is Verdict.unclear:
        return f"Not enough data to tell: the {len(tests)} comparisons do not agree."
    told = max(tests, key=lambda test: (test.verdict is verdict, -test.comparison.p_adjusted))
    return f"{verdict.value.capitalize()}: {_say_test(told)}"


def _say_what_is_missing(arms: Sequence[Arm]) -> str:
    if not any(is_random(arm) for arm in arms):
        return "no finished job routes at random (split=random)"
    if not any("entropy" in arm.strategy for arm in arms):
        return "no finished job routes by entropy (split=entropy)"
    return "no random arm had the same method and the same teacher calls or tokens"


def _say_test(test: RoutingTest) -> str:
    found = test.comparison
    gain = found.difference
    text = (
        f"at equal {' and '.join(test.equal_in)}, {found.second} minus {found.first} is "
        f"{points_between_bounds(gain.value, gain.low, gain.high)} over "
        f"{count_of(gain.n, 'test question')} and {count_of(found.seeds, 'seed')}, "
        f"{p_in_words(found.p_adjusted)} after Holm's correction"
    )
    if test.verdict is not Verdict.unclear:
        return f"{text}."
    if found.seeds < FEWEST_SEEDS:
        return f"{text}; fewer than {FEWEST_SEEDS} seeds say nothing about other seeds."
    return f"{text}; neither a gain nor one above {100 * WORTHWHILE_GAIN:g} points is ruled out."
