"""The verdict of a sweep, in simulated sweeps whose truth is known."""

from __future__ import annotations

from itertools import takewhile
from math import acos, pi
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import pytest
from scipy import stats

from caft.statistics import ALPHA, Verdict, calibrate
from caft.statistics.calibrate import (
    CALM,
    DIFFERING,
    WILD,
    Truth,
    count,
    draw_arms,
    main,
    simulate_verdicts,
    smallest_difference_seen,
    write_page,
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
    assert len(rows) == 2 * 3 * 3
    assert all(row.count(" / ") == 8 for row in rows)
    assert "in percent of 1 sweeps" in page


@pytest.mark.parametrize("word", ["0", "-3", "many", "1000001"])
def test_a_number_of_simulations_that_is_none_is_refused(
    word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--simulations", word]) == 2
    assert ": give a whole number from 1 to 1,000,000" in capsys.readouterr().err


def test_the_site_has_the_page_that_the_code_writes() -> None:
    page = (Path(__file__).parents[2] / "docs" / "calibration.md").read_text("utf-8").splitlines()
    # The head, and the head of the first table: what needs no simulation.
    head = list(takewhile(lambda line: not line.startswith("| 200"), page))
    written = write_page(400, 1)
    assert [next(written) for _ in head] == head
    sizes = [
        line.split(" | ")[:2] for line in page if line.startswith(("| 200", "| 600", "| 2,400"))
    ]
    assert sizes == 2 * [[f"| {n}", f"{k}"] for n in ("200", "600", "2,400") for k in (3, 4, 5)]


def test_a_small_page(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "_QUESTIONS", (200, 1000))
    monkeypatch.setattr(calibrate, "_SEEDS", (3, 5))
    monkeypatch.setattr(calibrate, "EFFECTS", (0.0, 0.1))
    assert main(["--simulations", "4", "--seed", "3"]) == 0
    page = capsys.readouterr().out
    found = simulate_verdicts(truth(0.1, spread=WILD), 4, seed=3)
    cells = " / ".join(str(25 * found[word]) for word in (Verdict.yes, Verdict.no, Verdict.unclear))
    rows = [line for line in page.splitlines() if line.startswith(("| 200", "| 1,000"))]
    assert len(rows) == 2 * 2 * 2
    assert rows[0].startswith("| 200 | 3 | 11.8 points | ")
    assert rows[1].startswith("| 200 | 5 | 11.4 points | ")
    assert rows[4].startswith("| 200 | 3 | ")
    assert rows[4].endswith(f" | {cells} |")
    assert "in percent of 4 sweeps" in page
    assert "| no difference | 10 points |\n| ---: | ---: | ---: | ---: | ---: |\n" in page
    assert "by 2 points (a learning rate that falls to zero)" in page
    assert "by 13 points (a constant one, docs/results.md)" in page


def test_the_shares_of_a_cell_are_yes_no_and_unclear() -> None:
    cell = calibrate._write_cell(
        calibrate.Counter({Verdict.yes: 1, Verdict.no: 2, Verdict.unclear: 5})
    )
    assert cell == "12 / 25 / 62"


def test_numbers_of_simulations_at_the_border() -> None:
    assert [count(word) for word in ("1", "1000000")] == [1, 1_000_000]


def test_the_smallest_difference_by_its_formula() -> None:
    # By the interval: seeds are most of the variance, and the tests in test_detectable check it.
    alone = smallest_difference_seen(600, 3, CALM)
    assert alone == calibrate.smallest_paired_difference(600, DIFFERING, seeds=3, spread=CALM)
    # By the test over questions alone, corrected for fifty comparisons.
    seen = smallest_difference_seen(600, 3, 1e-6, 50)
    assert seen is not None
    of_questions = DIFFERING / 600
    needed = stats.t.ppf(1 - ALPHA / 50 / 2, 599) * of_questions**0.5
    needed += stats.t.ppf(0.8, 599) * (of_questions - seen**2 / 600) ** 0.5
    assert seen == pytest.approx(needed, rel=1e-6)
    two = smallest_difference_seen(600, 3, 1e-6, 2)
    assert two is not None
    assert (smallest_difference_seen(600, 3, 1e-6) or 1) < 0.95 * two < 0.95 * seen
    # Where seeds hide more than a test corrects, it is the interval's.
    assert smallest_difference_seen(600, 3, WILD, 2) == smallest_difference_seen(600, 3, WILD)
    assert smallest_difference_seen(600, 3, 0.6) is None


def test_large_arms_differ_as_normal_theory_says() -> None:
    generator = np.random.default_rng(6)
    drawn = draw_arms(truth(0.0, questions=40_000, seeds=3, spread=0.0), generator)
    one, two = (np.array(list(rows.values())) for rows in drawn.values())
    # Latent scores of two arms correlate by 0.5 and of two seeds by 0.7: they lie on different
    # sides of the median with probability arccos(r) / pi.
    assert np.mean(one[0] != two[0]) == pytest.approx(acos(0.5) / pi, abs=0.012)
    assert np.mean(one[0] != one[1]) == pytest.approx(acos(0.7) / pi, abs=0.012)
    drawn = draw_arms(truth(0.2, questions=40_000, seeds=3, spread=0.0), generator)
    first, second = (np.mean(list(rows.values())) for rows in drawn.values())
    assert (first, second) == pytest.approx((0.4, 0.6), abs=0.012)
    # Beyond all questions right or none nothing is drawn.
    drawn = draw_arms(truth(1.4, questions=2000), generator)
    assert [round(float(np.mean(list(rows.values())))) for rows in drawn.values()] == [0, 1]
