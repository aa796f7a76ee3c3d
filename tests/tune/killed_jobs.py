"""Two tuning stages, killed again and again: run by test_resume.py in a process of one thread.

    python killed_jobs.py MODELS FOLDER KILLS

Every attempt is a fork, so that torch is imported once. Its rows of the curve come through a
pipe; after a random number of them, and a random moment, the attempt is killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from test_resume import EPOCHS, STEPS, outcome, work

from caft.signals import watch_signals
from caft.store import Store
from caft.tune.stage import read_tuned

ROWS_A_STAGE = STEPS + EPOCHS


class Pipe:
    """A logger that writes a byte a row: the number of the stage."""

    def __init__(self, end: int, stage: int) -> None:
        self.end, self.stage = end, stage

    def __call__(self, row: dict[str, float]) -> None:
        os.write(self.end, str(self.stage).encode())


def run(models: str, store: Path, end: int) -> list[Any]:
    tuning = work(models, checkpoint_seconds=0.01)
    first = Store(store).obtain(replace(tuning, record=Pipe(end, 1)))
    tuned = read_tuned(tuning.student, first)
    second = replace(tuning, student=tuned, seed=6, record=Pipe(end, 2))
    return [first, Store(store).obtain(second)]


def fork(models: str, store: Path) -> tuple[int, int]:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        status = 1
        try:
            with watch_signals() as caught:
                try:
                    run(models, store, writer)
                    status = 0
                except SystemExit:
                    status = caught.status
        finally:
            os._exit(status)
    os.close(writer)
    return child, reader


def kill_after(
    child: int, reader: int, place: int, *, wait: float, number: int
) -> tuple[int, str, int]:
    """The place of the signal, the stage that ran then, and the rows that came after it.

    Places count rows over both stages. A resumed stage tells its earlier rows again.
    """
    seen, reached = b"", 0
    while reached < place:
        byte = os.read(reader, 1)
        if not byte:
            break
        seen += byte
        reached = (int(byte) - 1) * ROWS_A_STAGE + seen.count(byte)
    time.sleep(wait)
    os.kill(child, number)
    late = b""
    while byte := os.read(reader, 1):
        late += byte
    os.close(reader)
    return reached, seen[-1:].decode() or "1", len(late)


def results(models: str, store: Path) -> list[Any]:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    return [outcome(artifact) for artifact in run(models, store, nowhere)]


def same(left: list[Any], right: list[Any], part: int) -> bool:
    if part == 1:
        return all(a[1] == b[1] for a, b in zip(left, right, strict=True))
    return all(
        a[0][name].equal(b[0][name]) for a, b in zip(left, right, strict=True) for name in a[0]
    )


def main(models: str, folder: Path, kills: int) -> None:
    whole = results(models, folder / "whole")
    draw = random.Random(7)
    in_stage = {"1": 0, "2": 0}
    ends: list[Any] = []
    # A run is killed until it ends in spite of it; then comes the next one.
    place = 0
    while sum(in_stage.values()) < kills:
        store = folder / f"run{len(ends)}"
        child, reader = fork(models, store)
        place, stage, _ = kill_after(
            child,
            reader,
            place + draw.randint(1, 5),
            wait=draw.uniform(0, 0.02),
            number=signal.SIGKILL,
        )
        _, status = os.waitpid(child, 0)
        if os.waitstatus_to_exitcode(status) == 0:
            ends.append(results(models, store))
            place = 0
        else:
            in_stage[stage] += 1
    ends.append(results(models, store))
    child, reader = fork(models, folder / "asked")
    _, _, late = kill_after(child, reader, 4, wait=0.0, number=signal.SIGTERM)
    _, status = os.waitpid(child, 0)
    asked = results(models, folder / "asked")
    print(
        json.dumps(
            {
                "kills": sum(in_stage.values()),
                "killed_in_stage": in_stage,
                "same_weights": all(same(end, whole, 0) for end in ends),
                "same_curves": all(same(end, whole, 1) for end in ends),
                "sigterm_status": os.waitstatus_to_exitcode(status),
                "steps_after_sigterm": late,
                "sigterm_same_weights": same(asked, whole, 0),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
