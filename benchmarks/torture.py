"""Whether anything is lost, differs, is bought twice or is used in spite of damage.

    python benchmarks/torture.py [--small] [--parts kills,...] [--kills 100] [--signals 30] ...

Every part runs the tiny pipeline, with a teacher on loopback that fails a fifth of all calls. What
went wrong is said on standard error at once; a table follows, one line a part. The last line is one
JSON object. Moments and damages are drawn by seeds, the same ones in every run.

`mutants` and `killed` are those of mutants/mutmut-cicd-stats.json, which `mutmut export-cicd-stats`
writes after a run of mutation testing; they are null where that file is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM, Signals

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / room) for room in (".", "teachers", "store")]
# One thread, before torch is imported: threads would not be there in a forked child.
os.environ |= {"OPENAI_API_KEY": "none", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}

from processor import describe_processor
from torturing.forks import import_everything
from torturing.tally import GOALS, Tally


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--small", action="store_true", help="a few cases of each part")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of them, with commas")
    for name, (full, _) in SIZES.items():
        parser.add_argument(f"--{name}", type=int, help=f"{full} by default")
    asked = parser.parse_args()
    sizes = argparse.Namespace(
        **{
            name.replace("-", "_"): given if given is not None else pair[asked.small]
            for name, pair in SIZES.items()
            for given in [getattr(asked, name.replace("-", "_"))]
        }
    )
    # A shell starts background jobs with SIGINT ignored, and what is ignored stays ignored.
    signal.signal(SIGINT, signal.default_int_handler)
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="torture") as folder:
        os.environ["CAFT_CACHE"] = f"{folder}/cache"
        import_everything(Path(folder) / "warm")
        try:
            for part in asked.parts.split(","):
                work = Path(folder) / part
                work.mkdir()
                PARTS[part](tally, sizes, work)
        except KeyboardInterrupt:
            tally.wrong.append("stopped by Ctrl-C")
            print("stopped by Ctrl-C: what follows was done before", file=sys.stderr)
    print(tally.table())
    figures = tally.figures(ROOT / "mutants/mutmut-cicd-stats.json")
    print(json.dumps(figures | {"processor": describe_processor()}))
    raise SystemExit(any(figures[name] for name in GOALS) or bool(tally.wrong))


def kill_runs(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """Each method gets its share of the kills and signals."""
    from torturing.kills import METHODS, torture_method

    for number, method in enumerate(METHODS):
        if mine := _endings(sizes)[number :: len(METHODS)]:
            torture_method(tally, method, mine, work / method)


def kill_sweeps(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """The command, its job and both in turn."""
    from torturing.sweeping import torture_sweeps

    torture_sweeps(tally, _endings(sizes), work)


def kill_teachers(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """At concurrency 8 and 64, each with all kills and signals."""
    from torturing.asking import torture_teacher

    for at_once in (8, 64):
        torture_teacher(tally, at_once, _endings(sizes), work / str(at_once))


def kill_postgres(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """The same at 8 with its ledger in a database."""
    from torturing.asking import torture_postgres

    torture_postgres(tally, _endings(sizes), work)


def damage_files(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """Of every kind, in every way."""
    from torturing.damage import torture_files

    torture_files(tally, sizes.damages, sizes.damaged_runs, work)


def spoil_disks(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """Full, read-only and vanishing ones, below each folder of a run."""
    from torturing.disks import torture_disks

    torture_disks(tally, sizes.troubles, work)


def try_bad_inputs(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """Settings, data, replies, model folders, environments."""
    from torturing.bad import torture_inputs

    torture_inputs(tally, sizes.inputs, work)


def run_together(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """Processes that share a store and a ledger."""
    from torturing.asking import torture_together
    from torturing.kills import torture_store

    torture_together(tally, sizes.processes, work)
    torture_store(tally, sizes.processes, work)


def vary_circumstances(tally: Tally, sizes: argparse.Namespace, work: Path) -> None:
    """Threads, batch sizes, devices, order of runs; against the tolerances that it states."""
    from torturing.determinism import torture_determinism

    torture_determinism(tally, sizes.runs, work)


def _endings(sizes: argparse.Namespace) -> Sequence[Signals]:
    return [SIGKILL] * sizes.kills + [SIGTERM] * sizes.signals + [SIGINT] * sizes.signals


SIZES = {
    "kills": (100, 4),
    "signals": (30, 2),
    "damages": (100, 10),
    "damaged-runs": (10, 2),
    "troubles": (10, 1),
    "inputs": (1000, 40),
    "processes": (8, 8),
    "runs": (10, 4),
}
"""How many cases each part has, in full and in the small form."""
PARTS = {
    "kills": kill_runs,
    "sweeps": kill_sweeps,
    "teachers": kill_teachers,
    "postgres": kill_postgres,
    "together": run_together,
    "damage": damage_files,
    "disks": spoil_disks,
    "inputs": try_bad_inputs,
    "determinism": vary_circumstances,
}

if __name__ == "__main__":
    main()
