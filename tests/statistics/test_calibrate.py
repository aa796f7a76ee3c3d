"""The verdict of a sweep, in simulated sweeps whose truth is known."""

from __future__ import annotations

from statistics import fmean, stdev

import numpy as np
import pytest

from caft.statistics import Verdict
from caft.statistics.calibrate import (
    CALM,
    DIFFERING,
    WILD,
    Truth,
    draw_arms,
    main,
    simulate_verdicts,
    smallest_difference_seen,
)

MOST_FALSE_ALARMS = 0.05


def truth(effect: float, questions: int = 200, seeds: int = 3, spread: float = CALM) -> Truth:
    return Truth(effect=effect, questions=questions, seeds=seeds, spread=spread)


@pytest.mark.parametrize("spread", [CALM, WILD])
def test_no_difference_is_rarely_a_yes(spread: float) -> None:
    found = simulate_verdicts(truth(0, spread=spread), 100, seed=1)
    assert found.total() == 100
    assert found[Verdict.yes] <= MOST_FALSE_ALARMS * 100


@pytest.mark.slow
@pytest.mark.parametrize("spread", [0.0, CALM, WILD])
@pytest.mark.parametrize(("questions", "seeds"), [(200, 3), (200, 5), (600, 4), (2400, 3)])
def test_no_difference_is_rarely_a_yes_at_any_size(
    questions: int, seeds: int, spread: float
) -> None:
    found = simulate_verdicts(truth(0, questions, seeds, spread), 600, seed=2)
    # At a true rate of 5%, 600 sweeps have more than 42 false alarms one time in forty.
    assert found[Verdict.yes] <= 42
    assert found[Verdict.yes] + found[Verdict.no] > 0


def test_a_large_difference_is_a_yes_and_never_a_no() -> None:
    found = simulate_verdicts(truth(0.15, questions=400, seeds=5), 60, seed=1)
    assert found[Verdict.yes] >= 54
    assert found[Verdict.no] == 0


def test_two_seeds_tell_nothing() -> None:
    found = simulate_verdicts(truth(0.3, seeds=2), 5, seed=1)
    assert found == {Verdict.unclear: 5}
    assert smallest_difference_seen(2400, 2, CALM) is None


@pytest.mark.slow
@pytest.mark.parametrize(("questions", "seeds"), [(200, 5), (600, 3), (2400, 5)])
def test_what_the_formula_promises_is_seen(questions: int, seeds: int) -> None:
    gap = smallest_difference_seen(questions, seeds, CALM)
    assert gap is not None
    found = simulate_verdicts(truth(gap, questions, seeds), 300, seed=3)
    # Of 300 sweeps at 80%, fewer than 226 one time in forty; it is a cautious formula.
    assert found[Verdict.yes] >= 226


def test_drawn_arms_have_the_accuracy_the_spread_and_the_pairs_that_they_should() -> None:
    generator = np.random.default_rng(0)
    drawn = draw_arms(truth(0.1, questions=4000, seeds=60, spread=0.05), generator)
    shares = {name: [float(np.mean(row)) for row in rows.values()] for name, rows in drawn.items()}
    assert fmean(shares["second"]) - fmean(shares["first"]) == pytest.approx(0.1, abs=0.03)
    assert stdev(shares["first"]) == pytest.approx(0.05, abs=0.012)
    one, two = (np.asarray(list(rows.values()))[0] for rows in drawn.values())
    # Two arms that shared no difficulty would differ on half of the questions.
    assert np.mean(one != two) == pytest.approx(DIFFERING, abs=0.06)


@pytest.mark.slow
def test_the_page_has_a_row_for_every_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--simulations", "1"]) == 0
    page = capsys.readouterr().out
    rows = [line for line in page.splitlines() if line.startswith(("| 200", "| 600", "| 2,400"))]
    assert len(rows) == 2 * 3 * 4
    assert all(row.count(" / ") == 8 for row in rows)
    assert "in percent of 1 sweeps" in page


@pytest.mark.parametrize("word", ["0", "-3", "many", "1000001"])
def test_a_number_of_simulations_that_is_none_is_refused(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--simulations", word])
    assert ": give a whole number from 1 to 1,000,000" in capsys.readouterr().err
