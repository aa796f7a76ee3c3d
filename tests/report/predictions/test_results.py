"""The differences that README publishes are what the command says of the tables beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from caft.report.predictions import judge_predictions, read_predictions
from caft.report.sweep.answers import subtract

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs" / "results"
NUMBER = r"([+-]?[\d.]+)"
BOUNDS = rf"{NUMBER} to {NUMBER}"
TOKENS, CALLS = "random, split.match=tokens", "random, split.match=calls"
OF_TOKENS = "mixed/entropy-tokens-float32.parquet"
ALLOCATION = "mixed-bfloat16/complexity-aware.parquet"


# Of the sweep that asked: what other machines add to a folder draws other resamples, and moves the
# last digits.
@pytest.mark.parametrize(
    ("file", "pair", "said", "verdict"),
    [
        (ALLOCATION, ("entropy", TOKENS),
         rf"{NUMBER} points ahead of random questions at equal teacher tokens \({BOUNDS}, five",
         "not enough data"),
        (OF_TOKENS, ("entropy", TOKENS), rf"in float32 {NUMBER}, {BOUNDS}, three", "yes"),
        (ALLOCATION, ("entropy", CALLS), rf"{NUMBER} at equal calls \({BOUNDS}\)",
         "unequal budgets"),
        (ALLOCATION, ("sampled, split.temperature=0.1", CALLS),
         rf"near the hardest quarter {NUMBER} \({BOUNDS}\)", "unequal budgets"),
        ("arithmetic", ("entropy", TOKENS),
         rf"cannot be told apart \({NUMBER}, {BOUNDS}, five seeds\)", "not enough data"),
    ],
)  # fmt: skip
def test_readme_has_the_numbers_of_the_tables(
    file: str, pair: tuple[str, str], said: str, verdict: str
) -> None:
    found = judge_predictions(read_predictions(RESULTS / file))
    gap = subtract(*pair, found.comparisons)
    assert gap is not None
    (told,) = re.findall(said, " ".join((ROOT / "README.md").read_text(encoding="utf-8").split()))
    assert [float(number) for number in told] == [
        float(f"{100 * gap[key]:.1f}") for key in ("value", "low", "high")
    ]
    verdicts = {
        frozenset((both["first"], both["second"])): word
        for both, word in zip(found.comparisons, found.verdicts, strict=True)
    }
    assert verdicts[frozenset(pair)] == verdict
