"""The torture in its smallest form, at every change: `make torture` is the full one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

COMMAND = Path(__file__).parents[1] / "benchmarks" / "torture.py"


def test_a_run_that_is_killed_and_resumed_loses_nothing() -> None:
    words = ["--parts", "kills", "--kills", "1", "--signals", "0"]
    done = subprocess.run(
        [sys.executable, str(COMMAND), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    # Another command's, where it has run.
    del figures["mutants"], figures["killed"]
    zero = ("lost", "different", "bought_twice_after_arrival", "bad_inputs", "well_refused")
    assert figures == {"kills": 1, **dict.fromkeys((*zero, "damaged", "silently_used"), 0)}
