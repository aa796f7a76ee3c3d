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
TOKENS = "random, split.match=tokens"
OF_TOKENS = "mixed/entropy-tokens-float32.parquet"


# Of the sweep that asked, and of the two that were set side by side: what other machines add to
# the folder draws other resamples, and moves the last digits.
@pytest.mark.parametrize(
    ("files", "control", "said", "verdict"),
    [
        ([OF_TOKENS], TOKENS,
         rf"entropy was {NUMBER} points ahead of random questions \({BOUNDS}, three seeds", "yes"),
        ([OF_TOKENS, "mixed/sampled-calls-float32.parquet"], "random, split.match=calls",
         rf"at equal calls {NUMBER} \({BOUNDS}\)", "unequal budgets"),
        (["arithmetic"], TOKENS,
         rf"the two cannot be told apart \({NUMBER}, {BOUNDS}, five seeds\)", "not enough data"),
    ],
)  # fmt: skip
def test_readme_has_the_numbers_of_the_tables(
    files: list[str], control: str, said: str, verdict: str
) -> None:
    found = judge_predictions(read_predictions(*(RESULTS / name for name in files)))
    gap = subtract("entropy", control, found.comparisons)
    assert gap is not None
    (told,) = re.findall(said, " ".join((ROOT / "README.md").read_text(encoding="utf-8").split()))
    assert [float(number) for number in told] == [
        float(f"{100 * gap[key]:.1f}") for key in ("value", "low", "high")
    ]
    verdicts = {
        frozenset((pair["first"], pair["second"])): word
        for pair, word in zip(found.comparisons, found.verdicts, strict=True)
    }
    assert verdicts[frozenset(("entropy", control))] == verdict
