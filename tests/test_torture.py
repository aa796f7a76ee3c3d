"""The torture in its smallest form, at every change: `make torture` is the full one."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COMMAND = BENCHMARKS / "torture.py"


def test_a_run_that_is_killed_and_resumed_loses_nothing() -> None:
    words = ["--parts", "kills", "--kills", "1", "--signals", "0"]
    done = subprocess.run(
        [sys.executable, str(COMMAND), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    # Another command's, where it has run, and of the machine.
    del figures["mutants"], figures["killed"], figures["processor"]
    zero = ("lost", "different", "bought_twice_after_arrival", "bad_inputs", "well_refused")
    assert figures == {"kills": 1, **dict.fromkeys((*zero, "damaged", "silently_used"), 0)}


def test_a_mutant_that_was_never_checked_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    read_mutants = import_module("torturing.tally").read_mutants
    file = tmp_path / "stats.json"
    assert read_mutants(file) == {"mutants": None, "killed": None}
    told = {
        "killed": 5, "survived": 2, "total": 99, "no_tests": 1, "skipped": 7, "suspicious": 1,
        "timeout": 3, "check_was_interrupted_by_user": 0, "segfault": 1,
    }  # fmt: skip
    file.write_text(json.dumps(told), encoding="utf-8")
    assert read_mutants(file) == {"mutants": 13, "killed": 9}
