"""What a sweep saves: five settings of entropy_thresholds against five runs that share nothing.

    python benchmarks/sweep.py [--settings 5] [overrides ...]

Both sides ask a teacher on loopback that counts its calls. The last line is one JSON object:
`time_ratio` is the sweep's wall time over that of the five runs with empty stores;
`duplicate_teacher_calls` are the sweep's calls beyond one a question.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "teachers"))

from fake_server import FakeServer

from processor import describe_processor

TRAIN = Path(__file__).parents[1] / "train.py"
QUANTILES = ("[0.25,0.5]", "[0.25,0.75]", "[0.25,0.9]", "[0.5,0.75]", "[0.5,0.9]")
"""The sweep's own pairs; only the upper cut decides who gets a rationale."""
SIZES = (
    "dataset.train=200",
    "dataset.validation=40",
    "dataset.test=100",
    "teacher=openai",
    "teacher.model=fake",
    "teacher.keep=all",
    "trainer.progress=false",
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--settings", type=int, default=len(QUANTILES))
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    processor = describe_processor()
    quantiles = QUANTILES[: given.settings]
    with tempfile.TemporaryDirectory() as folder, FakeServer() as server:
        words = [*SIZES, f"teacher.base_url={server.base_url}", *given.overrides]
        # The model is made once and kept for good; neither side is charged for it.
        run(Path(folder), "warm", [*words, "until=score", "dataset.train=20", "dataset.test=10"])
        alone = sum(time_alone(Path(folder), words, pair) for pair in quantiles)
        server.log.clear()
        shared = time_sweep(Path(folder), words, quantiles)
        duplicates = count_duplicates(server)
    print(f"{len(quantiles)} runs: {alone:.0f} s; one sweep: {shared:.0f} s")
    figures = {"time_ratio": shared / alone, "duplicate_teacher_calls": duplicates}
    print(json.dumps(figures | {"processor": processor}))


def time_alone(folder: Path, words: Sequence[str], pair: str) -> float:
    """Seconds of one run with a store of its own."""
    name = "alone" + "".join(sign for sign in pair if sign.isdigit())
    return run(folder, name, [*words, f"split.quantiles={pair}", f"hydra.run.dir={name}"])


def time_sweep(folder: Path, words: Sequence[str], quantiles: Sequence[str]) -> float:
    """Seconds of all settings as one sweep."""
    cases = ",".join(f'["split=entropy","split.quantiles={pair}"]' for pair in quantiles)
    sweep = ["-m", "multirun_sweeps=entropy_thresholds", f"hydra.sweeper.cases=[{cases}]"]
    return run(folder, "together", [*sweep, *words])


def run(folder: Path, name: str, words: Sequence[str]) -> float:
    """Seconds of one command with the store `name`."""
    began = time.monotonic()
    command = [sys.executable, str(TRAIN), *words, f"store.path={folder / name}"]
    env = {**os.environ, "OPENAI_API_KEY": "none"}
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=sys.stderr)
    return time.monotonic() - began


def count_duplicates(server: FakeServer) -> int:
    """Finished calls beyond the first of every request."""
    bought = server.bought()
    return sum(bought.values()) - len(bought)


if __name__ == "__main__":
    main()
