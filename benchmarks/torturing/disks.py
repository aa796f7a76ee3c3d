"""Disks that are full, read-only or gone below a folder of a run, and the same command afterwards.

Each folder is a small file system in memory of its own, which needs the right to mount one.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from pathlib import Path

from caft.hydra_bridge import main
from caft.pipeline import run_pipeline
from torturing.forks import TEACHER, TINY, Child, fork
from torturing.kills import find_differences, open_server, read_asked
from torturing.tally import Tally

FOLDERS = ("store", "outputs", "cache", "tmp")
TROUBLES = ("full", "read-only", "vanishing")
_PART = "disks, {} of {}"


def torture_disks(tally: Tally, each: int, work: Path) -> None:
    """`each` seeded moments of every trouble below every folder; said where none can be mounted."""
    if not can_mount(work):
        print("no file system can be mounted here (try `unshare -rm`): disks are not tried")
        return
    run = DiskRun(work / "whole", "")
    run.prepare()
    began = time.monotonic()
    child = run.start()
    assert child.wait() == 0, child.last_line()
    seconds = time.monotonic() - began
    run.close()
    for folder in FOLDERS:
        for trouble in TROUBLES:
            for number in range(each):
                dice = random.Random(f"{folder}/{trouble}/{number}")
                moment = seconds * dice.random()
                place, whole = work / f"{folder}-{trouble}-{number}", run.at("outputs") / "out"
                while not _try_once(tally, DiskRun(place, folder), (trouble, moment), whole):
                    moment /= 2


def can_mount(work: Path) -> bool:
    """Whether this process may mount a file system in memory."""
    place = work / "mountable"
    place.mkdir(parents=True)
    if mounted := not _mount(place):
        subprocess.run(["umount", place], check=True)
    return mounted


class DiskRun:
    """The tiny pipeline in folders of its own; the one that is `bad` is a disk."""

    def __init__(self, work: Path, bad: str) -> None:
        self.work, self.bad, self.server = work, bad, open_server(0)
        self.server.__enter__()

    def at(self, folder: str) -> Path:
        """Where the folder of that name is."""
        return self.work / folder

    def prepare(self) -> None:
        """Make the folders, and mount the disk."""
        for folder in FOLDERS:
            self.at(folder).mkdir(parents=True)
        if self.bad:
            assert not _mount(self.at(self.bad))

    def start(self, out: str = "out") -> Child:
        """The run, in a child."""
        told = [self.work / f"{out}.{stream}" for stream in ("out", "err")]
        return fork(lambda: self._run(out), self.work, *told)

    def _run(self, out: str) -> int:
        os.environ |= {"TMPDIR": str(self.at("tmp")), "CAFT_CACHE": str(self.at("cache"))}
        places = [f"store.path={self.at('store')}", f"hydra.run.dir={self.at('outputs')}/{out}",
                  f"teacher.base_url={self.server.base_url}"]  # fmt: skip
        method = ["method=distill", "method.epochs.alone=1"]
        return main(run_pipeline, [*TINY, *TEACHER, *method, *places])

    def spoil(self, trouble: str) -> None:
        """Let the trouble begin."""
        place = self.at(self.bad)
        if trouble == "full":
            _fill(place)
        elif trouble == "read-only":
            # A file that is open for writing keeps a disk writable.
            subprocess.run(["mount", "-o", "remount,ro", place], check=False, capture_output=True)
        else:
            subprocess.run(["umount", "-l", place], check=True)
            # The run may have made a folder there in the meantime.
            shutil.rmtree(place, ignore_errors=True)

    def mend(self, trouble: str) -> None:
        """Let it end. A disk that vanished comes back empty: what it held is lost by right."""
        place = self.at(self.bad)
        if trouble == "full":
            (place / "filling").unlink(missing_ok=True)
        elif trouble == "read-only":
            subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        else:
            if place.exists():
                shutil.rmtree(place)
            place.mkdir()
            assert not _mount(place)

    def close(self) -> None:
        """End the server and unmount the disk."""
        self.server.__exit__(None, None, None)
        if self.bad:
            subprocess.run(["umount", "-l", self.at(self.bad)], check=False, capture_output=True)
            shutil.rmtree(self.work)


def _try_once(tally: Tally, run: DiskRun, case: tuple[str, float], whole: Path) -> bool:
    """False if the run ended before its trouble began."""
    trouble, moment = case
    part = _PART.format(trouble, run.bad)
    name = f"{run.work.name} after {moment:.2f} s"
    run.prepare()
    try:
        child = run.start()
        if not child.runs_after(moment):
            return False
        for goal in ("troubles", "lost", "different", "bought_twice_after_arrival"):
            tally.add(part, goal, goal == "troubles")
        run.spoil(trouble)
        status = child.wait()
        said = child.errors.read_text(errors="replace")
        if status not in (0, 2) or "Traceback" in said + child.told.read_text(errors="replace"):
            tally.fail(part, "wrong_status", f"{name}: {status}: {child.last_line()}")
        elif status and (lines := said.count("\n")) != 1:
            tally.fail(part, "not_one_line", f"{name}: {lines} lines: {said!r}")
        tally.add(part, "refused" if status else "went on")
        run.mend(trouble)
        kept, calls = read_asked(run.at("store") / "ledger.sqlite"), len(run.server.log)
        # A folder with a finished run takes no other.
        out = "out" if status else "out2"
        again = run.start(out)
        if status := again.wait():
            tally.fail(part, "lost", f"{name}: then {status}: {again.last_line()}")
            return True
        later = [call.question for call in list(run.server.log)[calls:]]
        if twice := kept.intersection(later):
            tally.fail(part, "bought_twice_after_arrival", f"{name}: {len(twice)}")
        for line in find_differences(whole, run.at("outputs") / out):
            tally.fail(part, "different", f"{name}: {line}")
            break
        return True
    finally:
        run.close()


def _mount(place: Path) -> int:
    words = ["mount", "-t", "tmpfs", "-o", "size=64m", "none", place]
    return subprocess.run(words, check=False, capture_output=True).returncode


def _fill(place: Path) -> None:
    with (place / "filling").open("wb", buffering=0) as stream:
        try:
            while stream.write(b"\0" * 65536) == 65536:
                pass
        except OSError:
            return
