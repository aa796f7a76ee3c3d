"""The smallest difference between its settings that a sweep could see, known before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import comb

from caft.data import load_questions
from caft.errors import UserError
from caft.run_config import RunConfig, Until
from caft.sweeps.run_folders import digest_config


def describe_smallest_difference(configs: Sequence[RunConfig]) -> str:
    """A sentence or two; "" where no two settings are evaluated, or the questions are not known.

    `configs` are those of all jobs. Jobs that differ only in their seed are one setting; that with
    the fewest seeds, and the smallest test set, decide.
    """
    evaluated = [config for config in configs if config.until in (Until.evaluate, Until.report)]
    seeds_of: dict[str, set[int]] = {}
    for config in evaluated:
        setting = digest_config(replace(config, seed=0, name="any"))
        seeds_of.setdefault(setting, set()).add(config.seed)
    if len(seeds_of) < 2:
        return ""
    try:
        counts = {str(config.dataset): config.dataset for config in evaluated}
        questions = min(len(load_questions(data, fetch=False).test) for data in counts.values())
    except UserError:
        return ""  # the plan of the job says what is wrong
    return _describe(questions, min(map(len, seeds_of.values())), len(seeds_of))


def _describe(questions: int, seeds: int, settings: int) -> str:
    from caft.statistics import FEWEST_SEEDS
    from caft.statistics.calibrate import CALM, WILD, smallest_difference_seen

    enough = max(seeds, FEWEST_SEEDS)
    pairs = comb(settings, 2)

    def among(comparisons: int) -> tuple[str, str]:
        calm, wild = (
            smallest_difference_seen(questions, enough, spread, comparisons)
            for spread in (CALM, WILD)
        )
        return _points(calm), _points(wild)

    calm, wild = among(1)
    seen = (
        f"the smallest difference seen in four of five such sweeps is {calm} if seeds "
        f"move accuracy by {_points(CALM)}, and {wild} if they move it by {_points(WILD)}"
    )
    if pairs > 1:
        seen += f"; corrected for all {pairs} pairs of settings, {' and '.join(among(pairs))}"
    with_ = f"{questions:,} test questions and {enough} seeds a setting"
    if seeds == enough:
        return f"With {with_}, {seen} (docs/calibration.md)."
    return (
        f"With {seeds} seed{'s' * (seeds > 1)} a setting, the report will say 'not enough "
        f"data', whatever comes out. With {with_}, {seen} (docs/calibration.md)."
    )


def _points(share: float | None) -> str:
    return "more than 100 points" if share is None else f"{100 * share:.3g} points"
