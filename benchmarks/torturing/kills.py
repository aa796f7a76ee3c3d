"""Runs of the tiny pipeline that are killed at seeded moments, and the same command again.

A run counts as lost if the same command does not end well, if it makes a stage again that was
finished, or if a reply that the server wrote before SIGTERM or SIGINT is not in the ledger. After
SIGKILL as many replies as are asked at once may have been on their way to the disk.
"""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any

from fake_server import FAULTS, FakeServer
from numpy import allclose, ndarray
from safetensors.numpy import load_file

from caft.hydra_bridge import compose, main
from caft.pipeline import run_pipeline
from caft.pipeline.own_rationales import own_sampling
from caft.pipeline.preflight import open_workspace
from caft.run_config import RunContext
from caft.sweeps.run_folders import is_finished
from same_results import read_rows
from scripted_chains import write_tries
from torturing.forks import TEACHER, TINY, Child, fork, fork_command, time_whole
from torturing.tally import Tally
from torturing.watching import Watch

TOLERANCE = 1e-6
"""Of every number of a table and every weight, beside its own size: float32, one thread."""
TABLES = ("scores", "predictions", "rationales", "own_rationales")
METHODS = {
    "complexity_aware": (),
    "distill": ("method.epochs.alone=1",),
    "self_taught": ("method.epochs.alone=1", "score.samples.count=2"),
    "redraw": ("method.epochs.drawn=3", "method.draws.hard=6", "method.draws.easy=4"),
}
Ending = tuple[Signals, float]
"""A signal and the seconds after which it comes."""


@dataclass(frozen=True)
class Case:
    """One method in one folder, whose teacher is `server`."""

    method: str
    folder: Path
    server: FakeServer
    out: str = "out"

    @property
    def words(self) -> list[str]:
        """Of the command line."""
        places = [f"store.path={self.folder}/store", f"hydra.run.dir={self.folder}/{self.out}"]
        teacher = [*TEACHER, f"teacher.base_url={self.server.base_url}"]
        method = [f"method={self.method}", *METHODS[self.method], "report.html=true"]
        return [*TINY, *teacher, *method, *places]

    def start(self) -> Child:
        """The run, in a child."""
        told = self.folder / f"told-{self.out}"
        return fork(lambda: main(run_pipeline, self.words), self.folder, told)

    def finished(self) -> set[str]:
        """Stages that the store holds."""
        return {path.parts[-2] for path in self.folder.glob("store/[!.]*/[!.]*/manifest.json")}

    def reused(self) -> set[str]:
        """Stages that the last run took from the store."""
        rows = json.loads((self.folder / "out/summary.json").read_text())["stages"]
        return {row["fingerprint"] for row in rows if row["cached"]}


def open_case(method: str, folder: Path, server: FakeServer, prepared: Path | None = None) -> Case:
    """A case with an empty store, or a copy of `prepared`."""
    case = Case(method, folder, server)
    folder.mkdir(parents=True)
    if prepared:
        shutil.copytree(prepared, folder / "store")
    return case


def prepare_own_rationales(folder: Path) -> Path:
    """A store with right chains of the student: a tiny model writes none."""
    with FakeServer() as server:
        case = open_case("self_taught", folder, server)
        words = case.words
        assert fork_command([*words, "until=split"], folder).wait() == 0
        rows = read_rows(folder / "out/scores.parquet")
        workspace = open_workspace(compose(words), RunContext(folder=folder))
    middle = {row["question_id"] for row in rows if row["complexity"] == "middle"}
    asked = [item for item in workspace.questions.train if item.id in middle]
    # Both tries: one of two digits is right by chance too often.
    write_tries(workspace, own_sampling(workspace, asked), {item.id: 0 for item in asked[:-3]})
    shutil.rmtree(folder / "store" / "score")
    return folder / "store"


def read_asked(path: Path) -> set[str]:
    """The questions whose replies are in the ledger's file."""
    if not path.exists():
        return set()
    with closing(sqlite3.connect(path, timeout=60)) as ledger:
        try:
            rows = ledger.execute("SELECT request FROM replies").fetchall()
        except sqlite3.OperationalError:  # killed before its tables were made
            return set()
    return {name_question(text) for (text,) in rows}


def name_question(request: str) -> str:
    """What a kept request asked, as the server's log has it."""
    return json.loads(request)["messages"][-1]["content"]


def find_differences(one: Path, two: Path, tolerance: float = TOLERANCE) -> Iterator[str]:
    """Tables and weights of two run folders that are not equal within `tolerance`."""
    close = partial(_is_close, tolerance)
    for table in TABLES:
        rows = [_read_table(folder / f"{table}.parquet") for folder in (one, two)]
        if len(rows[0]) != len(rows[1]):
            yield f"{table}.parquet has {len(rows[1])} rows instead of {len(rows[0])}"
        for number, (before, now) in enumerate(zip(*rows, strict=False)):
            if unequal := [name for name in before if not close(before[name], now.get(name))]:
                yield f"{table}.parquet, row {number}: {unequal}"
    adapters = [folder / "adapter/adapter_model.safetensors" for folder in (one, two)]
    before, now = (load_file(path) if path.exists() else {} for path in adapters)
    for name in sorted({*before, *now}):
        if name not in before or name not in now or not close(before[name], now[name]):
            yield f"adapter, {name}"


def _read_table(path: Path) -> list[dict[str, Any]]:
    # A key of the ledger names the server's port, which each case has for itself.
    return [{**row, "ledger_key": ""} for row in read_rows(path)]


def _is_close(tolerance: float, one: Any, two: Any) -> bool:
    if isinstance(one, float | ndarray) and isinstance(two, float | ndarray):
        return allclose(one, two, rtol=tolerance, atol=tolerance, equal_nan=True)
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(partial(_is_close, tolerance), one, two))
    return one == two


def torture_method(tally: Tally, method: str, endings: Sequence[Signals], work: Path) -> None:
    """Kill a method's run once for each of `endings`, each time with a fresh store."""
    prepared = prepare_own_rationales(work / "prepared") if method == "self_taught" else None
    with open_server(0) as server:
        whole = open_case(method, work / "whole", server, prepared)
        seconds = time_whole(whole.start)
    for number, ending in enumerate(endings):
        moment = seconds * random.Random(f"{method}/{number}").random()
        with open_server(number) as server:
            case = open_case(method, work / str(number), server, prepared)
            while not kill_once(tally, case, (ending, moment), whole.folder / "out"):
                moment /= 2
                shutil.rmtree(case.folder)
                case = open_case(method, case.folder, server, prepared)
        shutil.rmtree(case.folder)


def open_server(seed: int) -> FakeServer:
    """One that fails a fifth of all calls, and whose replies take 20 ms."""
    faults = tuple(fault for fault in FAULTS if fault != "hang")
    return FakeServer(seed=seed, fault_rate=0.2, latency=0.02, faults=faults)


def kill_once(tally: Tally, case: Case, ending: Ending, whole: Path) -> bool:
    """Kill, run to the end and compare with the folder `whole`; False if it ended before."""
    part = f"kills, {case.method}"
    name = f"{case.folder.name}, {ending[0].name} after {ending[1]:.2f} s"
    watch = Watch(tally, part, name, case.server)
    child = case.start()
    status = child.kill_after(ending[1], ending[0])
    if status is None or is_finished(case.folder / "out"):
        return False
    watch.see_status(child, status, ending[0])
    finished = case.finished()
    watch.see_arrived(lambda: read_asked(case.folder / "store/ledger.sqlite"), ending[0])
    again = case.start()
    if status := again.wait():
        tally.fail(part, "lost", f"{name}: ended with {status}: {again.last_line()}")
        return True
    if made_again := finished - case.reused():
        tally.fail(part, "lost", f"{name}: made again: {sorted(made_again)}")
    watch.see_bought_once()
    for line in find_differences(whole, case.folder / "out"):
        tally.fail(part, "different", f"{name}: {line}")
        break
    return True


def torture_store(tally: Tally, processes: int, work: Path) -> None:
    """So many runs of one method with one store at once: each makes the same, each reply once."""
    part = f"{processes} processes, store"
    with open_server(0) as server:
        cases = [Case("distill", work, server, out=f"out{number}") for number in range(processes)]
        children = [case.start() for case in cases]
        for case, child in zip(cases, children, strict=True):
            tally.add(part, "processes")
            if status := child.wait():
                tally.fail(part, "lost", f"{case.out}: {status}: {child.last_line()}")
                continue
            for line in find_differences(work / "out0", work / case.out):
                tally.fail(part, "different", f"{case.out}: {line}")
                break
        bought = server.bought()
    tally.add(part, "replies", len(bought))
    tally.add(part, "bought_twice_after_arrival", bought.total() - len(bought))
