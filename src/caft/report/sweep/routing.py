"""Whether routing by complexity beats routing at random, at an equal budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from caft.estimators import STAND_IN
from caft.report.headlines import routes_by_class
from caft.report.sweep.arms import Arm, equal_budgets, pick_common_mode
from caft.report.sweep.comparisons import ArmComparison, compare_pairs
from caft.report.wording import count_of, name_estimator, p_in_words, points_between_bounds
from caft.statistics import FEWEST_SEEDS, WORTHWHILE_GAIN, Verdict, judge_difference

ENTROPY = STAND_IN
"""The estimate that the paper routes by; others are answered in sentences of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingTest:
    """One arm against its random control: `comparison` is routed minus random."""

    strategy: str
    estimator: str | None
    equal_in: tuple[str, ...]
    comparison: ArmComparison
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class RoutingAnswer:
    """What the sweep says of routing by one estimate, in a word and plainly, and by which tests."""

    estimator: str
    verdict: Verdict
    sentence: str
    tests: tuple[RoutingTest, ...]

    @property
    def asked(self) -> str:
        """The question that this answers."""
        named = f"routing by {name_estimator(self.estimator)}"
        routing = "entropy routing" if self.estimator == ENTROPY else named
        return f"Does {routing} beat random routing at an equal budget?"


def answer_routing(arms: Sequence[Arm], confidence: float) -> list[RoutingAnswer]:
    """One answer an estimate, the paper's first: it is always there, others where tested.

    Every routed arm is tested against every random one that differs in nothing but the routing
    and had the same budget, both in their common mode.
    """
    tests = _test_routing(arms, confidence)
    estimators = dict.fromkeys([ENTROPY, *(test.estimator for test in tests if test.estimator)])
    return [
        _answer(name, [test for test in tests if test.estimator == name], arms)
        for name in estimators
    ]


def _test_routing(arms: Sequence[Arm], confidence: float) -> list[RoutingTest]:
    matched = {}
    pairs = []
    for control, arm in product(arms, arms):
        if not _are_rivals(control, arm):
            continue
        equal, mode = equal_budgets(control, arm), pick_common_mode(control, arm)
        if equal and mode:
            matched[control.name, arm.name] = (arm, equal)
            pairs.append((control.examine_in(mode), arm.examine_in(mode)))
    found = []
    for comparison in compare_pairs(pairs, confidence):
        arm, equal = matched[comparison.first, comparison.second]
        found.append(
            RoutingTest(
                strategy=arm.strategy,
                estimator=arm.estimator,
                equal_in=equal,
                comparison=comparison,
                verdict=judge_difference(
                    comparison.difference, comparison.p_adjusted, comparison.seeds
                ),
            )
        )
    return found


def _are_rivals(control: Arm, arm: Arm) -> bool:
    """One routed at random and one not, all else equal, and routing plays a part."""
    return (
        is_random(control)
        and not is_random(arm)
        and control.first["model"]["id"] == arm.first["model"]["id"]
        and control.stages == arm.stages
        and _beside_routing(control) == _beside_routing(arm)
        and routes_by_class(control.first)  # type: ignore[arg-type]
    )


def _beside_routing(arm: Arm) -> dict[str, str]:
    """The settings that are not the split's: a gain of theirs is no gain of routing."""
    return {key: value for key, value in arm.settings.items() if key.split(".")[0] != "split"}


def is_random(arm: Arm) -> bool:
    """Whether its classes were drawn at random."""
    return arm.strategy.startswith("random")


def _answer(estimator: str, tests: Sequence[RoutingTest], arms: Sequence[Arm]) -> RoutingAnswer:
    verdict = _judge_together([test.verdict for test in tests])
    said = _say_budgets(tests, verdict) if tests else f"{_say_what_is_missing(arms)}."
    return RoutingAnswer(
        estimator=estimator,
        verdict=verdict,
        sentence=f"{capitalise(verdict.value)}: {said}",
        tests=tuple(tests),
    )


def _judge_together(verdicts: Sequence[Verdict]) -> Verdict:
    # Equal calls favours routing by difficulty, since hard questions have longer rationales: a
    # gain that another control does not confirm is none yet.
    for same in (Verdict.yes, Verdict.no):
        if verdicts and all(verdict is same for verdict in verdicts):
            return same
    return Verdict.mixed if {Verdict.yes, Verdict.no} <= set(verdicts) else Verdict.unclear


def _say_budgets(tests: Sequence[RoutingTest], verdict: Verdict) -> str:
    """A sentence for each way in which budgets are equal."""
    budgets = dict.fromkeys(test.equal_in for test in tests)
    by_budget = [[test for test in tests if test.equal_in == equal] for equal in budgets]
    verdicts = [_judge_together([test.verdict for test in group]) for group in by_budget]
    # The word that opens the answer need not be said again where all budgets agree.
    agree = len(set(verdicts)) == 1
    said = [
        _say_budget(group, of_budget, "" if agree else f" {of_budget.value}")
        for group, of_budget in zip(by_budget, verdicts, strict=True)
    ]
    if verdict is Verdict.yes and not any("teacher tokens" in equal for equal in budgets):
        said.append("no random arm had as many teacher tokens.")
    return " ".join([said[0], *map(capitalise, said[1:])])


def _say_budget(tests: Sequence[RoutingTest], verdict: Verdict, word: str) -> str:
    """The verdict at one budget, with the numbers of the test that supports it least."""
    agreeing = [test for test in tests if test.verdict is verdict] or tests
    told = max(agreeing, key=lambda test: test.comparison.p_adjusted)
    budget = f"at equal {' and '.join(told.equal_in)}"
    if len(tests) > 1:
        budget += f", in the weakest of {count_of(len(tests), 'comparison')}"
    return f"{budget}{word}, {_say_test(told)}"


def capitalise(text: str) -> str:
    """The text with its first letter large, all others as they are."""
    return text[:1].upper() + text[1:]


def _say_what_is_missing(arms: Sequence[Arm]) -> str:
    if not any(is_random(arm) for arm in arms):
        return "no finished job routes at random (split=random)"
    if not any(arm.estimator == ENTROPY for arm in arms):
        return f"no finished job routes by entropy (split=entropy split.estimator={ENTROPY})"
    return (
        "no random arm had the same method, the same other settings and the same teacher calls "
        "or tokens"
    )


def _say_test(test: RoutingTest) -> str:
    found = test.comparison
    gain = found.difference
    text = (
        f"{found.second} minus {found.first} is "
        f"{points_between_bounds(gain.value, gain.low, gain.high)} in {found.mode} mode over "
        f"{count_of(gain.n, 'test question')} and {count_of(found.seeds, 'seed')}, "
        f"{p_in_words(found.p_adjusted)} after Holm's correction"
    )
    if test.verdict is not Verdict.unclear:
        return f"{text}."
    if found.seeds < FEWEST_SEEDS:
        return f"{text}; fewer than {FEWEST_SEEDS} seeds say nothing about other seeds."
    worth = f"{100 * WORTHWHILE_GAIN:g} points"
    return f"{text}; neither chance nor a gain above {worth} is ruled out."
