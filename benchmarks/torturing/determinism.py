"""The same command in other circumstances: ten runs, each beside one that began with nothing.

Where the same sums are made in the same order, a result is the same to the bit. Threads, sizes of
batches and devices change the order: a float32 sum of some hundred terms then differs by about
1e-7 of its size, an entropy by 1e-5 nats at most (conf/score/model.yaml), and a weight by more,
since AdamW divides a gradient by its own size, however small it is: hence `REORDERED`. What is no
number (classes, answers, texts of greedy replies, accepted rationales) is equal everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from fake_server import FakeServer

from caft.hydra_bridge import main
from caft.pipeline import run_pipeline
from torturing.forks import TEACHER, TINY, fork
from torturing.kills import find_differences
from torturing.tally import Tally

EXACT, REORDERED = 0.0, 1e-4
"""The tolerance of every number of a table and every weight, beside its size and 1."""
_STEPS = tuple((f"until={stage}",) for stage in ("score", "split", "distill", "tune"))
_SMALL = ("score.batch_tokens=64", "tuning.batch_tokens=64", "evaluation.batch_size=1")


@dataclass(frozen=True)
class Circumstance:
    """What is other than in the first run; `before` are runs in the same store."""

    name: str
    tolerance: float
    words: tuple[str, ...] = ()
    before: Sequence[tuple[str, ...]] = ()
    threads: int = 1


CIRCUMSTANCES = (
    Circumstance("once more", EXACT),
    Circumstance("with a full store", EXACT, before=[()]),
    Circumstance("stage by stage", EXACT, before=_STEPS),
    Circumstance("after another method", EXACT, before=[("method=sft", "until=tune")]),
    Circumstance("with two threads", REORDERED, threads=2),
    Circumstance("scored in small passes", REORDERED, _SMALL[:1]),
    Circumstance("tuned in small passes", REORDERED, _SMALL[1:2]),
    Circumstance("replies one by one", REORDERED, _SMALL[2:]),
    Circumstance("all of these", REORDERED, _SMALL, threads=2),
    Circumstance("on two devices", REORDERED, ("trainer.devices=2",)),
)


def torture_determinism(tally: Tally, runs: int, work: Path) -> None:
    """Compare the first `runs` of `CIRCUMSTANCES` with a first run."""
    with FakeServer() as server:
        words = [*TINY, *TEACHER, f"teacher.base_url={server.base_url}"]
        first = _run(work / "first", words, Circumstance("first", EXACT))
        for number, circumstance in enumerate(CIRCUMSTANCES[:runs]):
            out = _run(work / str(number), words, circumstance)
            part = f"determinism, {circumstance.name}"
            tally.add(part, "runs")
            tally.add(part, "different", 0)
            for line in find_differences(first, out, circumstance.tolerance):
                tally.fail(part, "different", line)
                break


def _run(folder: Path, words: Sequence[str], circumstance: Circumstance) -> Path:
    """The run's folder, after the runs before it."""
    folder.mkdir()
    for number, own in enumerate([*circumstance.before, circumstance.words]):
        out = folder / f"out{number}"
        places = [f"store.path={folder}/store", f"hydra.run.dir={out}"]

        def work(given: Sequence[str] = (*words, *own, *places)) -> int:
            torch.set_num_threads(circumstance.threads)
            return main(run_pipeline, given)

        child = fork(work, folder, folder / "told")
        assert child.wait() == 0, child.last_line()
    return out
