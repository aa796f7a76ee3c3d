"""How often a sweep's verdict is right: sweeps whose truth is known, judged as the report does.

python -m caft.statistics.calibrate > docs/calibration.md     some minutes on one core
python -m caft.statistics.calibrate --simulations 100         quicker, and less exact
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist

import numpy as np

from caft.console import tell
from caft.statistics.arms import Outcomes, compare_arms
from caft.statistics.intervals import Floats
from caft.statistics.paired import smallest_paired_difference
from caft.statistics.verdict import ALPHA, FEWEST_SEEDS, WORTHWHILE_GAIN, Verdict, judge_difference
from caft.subcommands import make_parser, run_command

CALM, WILD = 0.02, 0.13
"""Standard deviations of accuracy from seed to seed: with a learning rate that falls to zero, and
with a constant one (docs/results.md)."""
DIFFERING = 0.3
"""About the share of questions on which one of two models alone is right."""
EFFECTS = (0.0, 0.02, 0.05, 0.10)
_QUESTIONS = (200, 600, 2400)
_SEEDS = (3, 4, 5)
_MOST = 1_000_000
_LEVEL = 0.5
_NO_SPREAD = 1e-9
# Shares of what decides about a reply: the question, the question for this arm, and chance.
_OF_QUESTION, _OF_ARM, _OF_CHANCE = 0.5, 0.2, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A sweep with two arms: the second is better by `effect`; seeds move accuracy by `spread`."""

    effect: float
    questions: int
    seeds: int
    spread: float


def simulate_verdicts(truth: Truth, simulations: int, seed: int = 0) -> Counter[Verdict]:
    """How often each verdict is reached in so many sweeps."""
    generator = np.random.default_rng(seed)
    return Counter(_judge_once(truth, generator) for _ in range(simulations))


def smallest_difference_seen(
    questions: int, seeds: int, spread: float, comparisons: int = 1
) -> float | None:
    """The difference of two arms that is a yes four times in five; None if none ever is.

    `spread` is how much seeds move accuracy, a standard deviation. Among several `comparisons` the
    test over questions is corrected for all of them, as Holm's first step is; the interval over
    questions and seeds is not.
    """
    if seeds < FEWEST_SEEDS:
        return None
    by_interval = smallest_paired_difference(questions, DIFFERING, seeds=seeds, spread=spread)
    by_test = smallest_paired_difference(
        questions, DIFFERING, alpha=ALPHA / comparisons, seeds=seeds, spread=_NO_SPREAD
    )
    if by_interval is None or by_test is None:
        return None
    return max(by_interval, by_test) if comparisons > 1 else by_interval


def _judge_once(truth: Truth, generator: np.random.Generator) -> Verdict:
    arms = draw_arms(truth, generator)
    (gap,) = compare_arms(arms, [("first", "second")], seed=int(generator.integers(2**32)))
    return judge_difference(gap.difference, gap.p_value, gap.seeds)


def draw_arms(truth: Truth, generator: np.random.Generator) -> dict[str, Outcomes]:
    """Both arms' outcomes. A seed's accuracy over all questions there could be is normal.

    A reply is right where a standard normal sum of the question's difficulty (the same for both
    arms, so that their outcomes correlate), the arm's own difficulty with it, and chance stays
    below the quantile of that seed's accuracy.
    """
    of_question = generator.normal(size=truth.questions)
    drawn: dict[str, Outcomes] = {}
    for name, shift in (("first", -truth.effect / 2), ("second", truth.effect / 2)):
        of_arm = generator.normal(size=truth.questions)
        chance = generator.normal(size=(truth.seeds, truth.questions))
        latent = _OF_QUESTION**0.5 * of_question + _OF_ARM**0.5 * of_arm + _OF_CHANCE**0.5 * chance
        levels = _LEVEL + shift + generator.normal(0, truth.spread, truth.seeds)
        right = latent < _quantiles(levels)[:, None]
        drawn[name] = dict(enumerate(right))
    return drawn


def _quantiles(levels: Floats) -> Floats:
    return np.array([NormalDist().inv_cdf(level) for level in levels.clip(0.001, 0.999)])


_HEAD = """# How far a sweep's verdict can be trusted

`python -m caft.statistics.calibrate` wrote this page. It simulates sweeps of two arms whose
true difference is known, and judges them with the code of the sweep's report. Each cell is how
often, in percent of {simulations:,} sweeps, the verdict was **yes / no / not enough data**.

- Yes under "no difference" is a false alarm: at most 5% is allowed.
- No means that a gain of {worthwhile:g} points or more is ruled out: right where there is no
  difference, and wrong under 5 and 10 points.
- With fewer than {fewest} seeds the verdict is always "not enough data".
- "Smallest seen" is the difference that becomes a yes in at least four sweeps of five, by the
  formula that `dry_run=true` of a sweep uses.
- These are sweeps of two settings. Among more, the test is corrected for all pairs, and a yes needs
  a larger difference: the dry run gives it, too.

An arm has an accuracy of about 50%. Questions are equally difficult for both arms, as far as half
of what decides about a reply; a fifth is the question's difficulty for that arm, and the rest is
chance. About {differing:.0%} of the questions are answered right by one of two models alone.
"""
_SECTION = """
## Seeds move accuracy by {spread:g} points{when}

| questions | seeds | smallest seen | {effects} |
| ---: | ---: | ---: | {rules} |
"""
_WHEN = {
    CALM: " (a learning rate that falls to zero)",
    WILD: " (a constant one, docs/results.md)",
}


def write_page(simulations: int, seed: int = 0) -> Iterator[str]:
    """The page in Markdown, line by line: a row takes some seconds."""
    head = _HEAD.format(simulations=simulations, worthwhile=100 * WORTHWHILE_GAIN,
                        fewest=FEWEST_SEEDS, differing=DIFFERING)  # fmt: skip
    yield from head.splitlines()
    effects = [f"{100 * effect:g} points" if effect else "no difference" for effect in EFFECTS]
    for spread in (CALM, WILD):
        section = _SECTION.format(spread=100 * spread, when=_WHEN[spread],
                                  effects=" | ".join(effects), rules=" | ".join(
                                      ["---:"] * len(effects)))  # fmt: skip
        yield from section.splitlines()
        for questions, seeds in product(_QUESTIONS, _SEEDS):
            yield _write_row(questions, seeds, spread, simulations, seed)


def _write_row(questions: int, seeds: int, spread: float, simulations: int, seed: int) -> str:
    truths = [
        Truth(effect=effect, questions=questions, seeds=seeds, spread=spread) for effect in EFFECTS
    ]
    cells = [_write_cell(simulate_verdicts(truth, simulations, seed)) for truth in truths]
    seen = smallest_difference_seen(questions, seeds, spread)
    assert seen is not None, f"no verdict with {seeds} seeds can be a yes"
    return f"| {questions:,} | {seeds} | {100 * seen:.1f} points | {' | '.join(cells)} |"


def _write_cell(verdicts: Counter[Verdict]) -> str:
    whole = verdicts.total()
    shares = (verdicts[word] / whole for word in (Verdict.yes, Verdict.no, Verdict.unclear))
    return " / ".join(f"{100 * share:.0f}" for share in shares)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; prints the page."""
    parser = make_parser("python -m caft.statistics.calibrate", __doc__)
    parser.add_argument("--simulations", type=count, default=400, help="sweeps a cell (400)")
    parser.add_argument("--seed", type=count, default=1, help="of the simulation (1)")
    return run_command(parser, arguments, _print_page)


def _print_page(given: argparse.Namespace) -> None:
    for line in write_page(given.simulations, given.seed):
        tell(line)


def count(word: str) -> int:
    """A number of simulations, or of a seed."""
    if not word.isdecimal() or not 1 <= int(word) <= _MOST:
        raise argparse.ArgumentTypeError(f"{word!r}: give a whole number from 1 to {_MOST:,}")
    return int(word)


if __name__ == "__main__":
    raise SystemExit(main())
