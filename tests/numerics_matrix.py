"""Runs the numerical tests as other processors would run them: `make test-numerics`.

torch picks its own kernels by ATEN_CPU_CAPABILITY, oneDNN its products by ONEDNN_MAX_CPU_ISA, and
threads cut sums. Nine processes hold every pair of two settings' values, which are what a kernel is
chosen by; all eighteen triples would take twice as long. The ninth, the processor's best with one
thread, is `make test`. The dtypes are the tests' own parameters.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from numerics import FIGURES

# Kernels of torch, instructions of oneDNN, threads. None is the processor's best.
PROCESSES = (
    ("default", "AVX2", 1),
    ("default", None, 2),
    ("default", "AVX2", 4),
    ("avx2", None, 1),
    ("avx2", "AVX2", 2),
    ("avx2", None, 4),
    (None, None, 2),
    (None, "AVX2", 4),
)


def main() -> int:
    """Exit status 1 where a test failed in one of the processes."""
    failed = [process for process in PROCESSES if not run_tests(*process)]
    for process in failed:
        print("FAILED under", describe(*process))
    return 1 if failed else 0


def run_tests(kernels: str | None, instructions: str | None, threads: int) -> bool:
    """Whether all pass; prints the multiples that would just have been enough."""
    print(f"--- {describe(kernels, instructions, threads)}", flush=True)
    with TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        given = {"ATEN_CPU_CAPABILITY": kernels, "ONEDNN_MAX_CPU_ISA": instructions}
        kept = {name: value for name, value in os.environ.items() if name not in given}
        environment = {
            **kept,
            **{name: value for name, value in given.items() if value},
            "OMP_NUM_THREADS": str(threads),
            # More threads than cores spin for each other's time otherwise.
            "OMP_WAIT_POLICY": "PASSIVE",
            FIGURES: str(figures),
        }
        at_once = max(1, (os.cpu_count() or 1) // threads)
        words = [sys.executable, "-m", "pytest", "-q", "-m", "numerics and not slow"]
        spread = ["-n", str(at_once), "--dist", "loadfile"] if at_once > 1 else []
        quiet = ["-W", "ignore", "-r", "fE", "-p", "no:cacheprovider"]
        command = [*words, *spread, *quiet, *sys.argv[1:]]
        done = subprocess.run(command, env=environment, check=False)
        if figures.exists():
            print(summarise(figures.read_text(encoding="utf-8")), flush=True)
    return done.returncode == 0


def describe(kernels: str | None, instructions: str | None, threads: int) -> str:
    """The settings as a shell has them."""
    return (
        f"ATEN_CPU_CAPABILITY={kernels or '(best)'} "
        f"ONEDNN_MAX_CPU_ISA={instructions or '(best)'} OMP_NUM_THREADS={threads}"
    )


def summarise(lines: str) -> str:
    """By dtype and measure, the largest multiple of the plain way's error that was needed."""
    needed: dict[tuple[str, str], list[tuple[float, str]]] = defaultdict(list)
    for line in lines.splitlines():
        test, _, dtype, measure, error, usual, floor = json.loads(line)
        over = max(0.0, error - floor)
        needed[dtype, measure].append((over / usual if over else 0.0, test))
    return "\n".join(
        f"{dtype:9} {measure:6} {max(multiples)[0]:.2f} of {len(multiples)} ({max(multiples)[1]})"
        for (dtype, measure), multiples in sorted(needed.items())
    )


if __name__ == "__main__":
    sys.exit(main())
