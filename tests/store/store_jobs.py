"""Jobs for other processes: `python store_jobs.py STORE LOG WHAT`; each says in LOG what it did."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from caft.store import Store

KEY = {"stage": "shared", "numbers": {3, 1, 2}, "words": {"a", "b", "c"}}


def main(store_path: str, log: str, what: str) -> None:
    def note(word: str) -> None:
        with Path(log).open("a", encoding="utf-8") as stream:
            stream.write(f"{word}\n")

    def produce(folder: Path) -> None:
        note("produced")
        (folder / "half").write_text("half")
        if what == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "hold":
            wait_for(f"{log}-making")
        time.sleep(0.5)
        (folder / "whole").write_text("whole")

    store = Store(Path(store_path))
    stage = SimpleNamespace(
        kind=SimpleNamespace(value="job"),
        key=KEY,
        produce=produce,
        resumable=False,
        scratch=(),
    )
    artifact = store.obtain(stage)
    note("cached" if artifact.cached else "made")
    if what == "hold":
        wait_for(f"{log}-reading")
        note((artifact.folder / "whole").read_text())


def wait_for(path: str) -> None:
    """Until somebody has written that file; a minute at most."""
    for _ in range(6000):
        if Path(path).exists():
            return
        time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
