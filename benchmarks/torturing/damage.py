"""Files of every kind, damaged in every way at seeded places: never used as if they were sound."""

from __future__ import annotations

import json
import logging
import random
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from damage_kinds import empty, flip_bit
from fake_server import FakeServer

from caft.errors import UserError
from caft.store import Checkpoints, Journal, Store
from caft.store.stage import StageKind
from caft.teachers.ledger import Ledger
from caft.teachers.ledger.copying import copy_ledger
from caft.teachers.prices import Caps
from front_door import call
from same_results import read_figures
from torturing.forks import TEACHER, TINY
from torturing.kills import find_differences
from torturing.tally import Tally


def cut_anywhere(path: Path, dice: random.Random) -> None:
    """Leave a beginning of the file that is not the whole of it."""
    content = path.read_bytes()
    path.write_bytes(content[: dice.randrange(1, len(content))])


def flip_anywhere(path: Path, dice: random.Random) -> None:
    """Turn over one bit."""
    flip_bit(path, dice.randrange(path.stat().st_size * 8))


HOW: dict[str, Callable[[Path, random.Random], None]] = {
    "cut": cut_anywhere,
    "emptied": lambda path, _: empty(path),
    "removed": lambda path, _: path.unlink(),
    "flipped": flip_anywhere,
}


def torture_files(tally: Tally, each: int, runs: int, work: Path) -> None:
    """`each` damages of every way and kind; `runs` where a whole run follows each."""
    logging.getLogger("caft").setLevel(logging.CRITICAL)  # it names every damage
    with FakeServer() as server:
        words = [*TINY, *TEACHER, f"teacher.base_url={server.base_url}", "method=distill",
                 "method.epochs.alone=1", f"store.path={work}/store"]  # fmt: skip
        assert call([*words, f"hydra.run.dir={work}/whole"])[0] == 0
        _damage_stages(tally, each, work)
        _damage_journal(tally, each, work / "journal")
        _damage_checkpoints(tally, each, work / "checkpoints")
        _damage_ledger(tally, each, work)
        _damage_runs(tally, runs, work, words)
        _damage_model(tally, runs, work)
    _damage_sweep(tally, runs, work)


def damage_each(
    tally: Tally, part: str, files: Sequence[Path], each: int, check: Callable[[Path], str]
) -> None:
    """Damage one of `files`, in every way `each` times, and put it back after `check`.

    `check` says what is wrong: "" where the damage was noticed, or did no harm.
    """
    part = f"damage, {part}"
    for how, do in HOW.items():
        for number in range(each if how in ("cut", "flipped") else min(each, len(files))):
            dice = random.Random(f"{part}/{how}/{number}")
            path = dice.choice(files) if len(files) < each else files[number % len(files)]
            sound = path.read_bytes()
            do(path, dice)
            if path.exists() and path.read_bytes() == sound:
                continue
            tally.add(part, "damaged")
            tally.add(part, "silently_used", 0)
            try:
                if problem := check(path):
                    tally.fail(part, "silently_used", f"{path.name} {how} ({number}): {problem}")
            finally:
                path.write_bytes(sound)


def _damage_stages(tally: Tally, each: int, work: Path) -> None:
    """The store takes no artefact of which any file differs."""
    store = work / "store"

    def check(path: Path) -> str:
        folder = next(above for above in path.parents if above.parent.parent == store)
        found = Store(store).find_made(StageKind(folder.parent.name), folder.name)
        return "the artefact is taken" if found else ""

    kinds = {"manifest": "manifest.json", "table": "*.parquet", "adapter": "adapter/*"}
    for kind, pattern in {**kinds, "rationales": "rationales.parquet"}.items():
        files = sorted(store.glob(f"[!.l]*/*/{pattern}"))
        damage_each(tally, kind, files, each, check)


def _damage_journal(tally: Tally, each: int, folder: Path) -> None:
    """A journal gives back rows that were written, or fewer."""
    folder.mkdir()
    journal = Journal(folder, "rows")
    rows = [{"id": f"q{number}", "entropy": number / 7} for number in range(40)]
    for start in range(0, 40, 4):
        journal.append(rows[start : start + 4])
    journal.close()

    def check(_: Path) -> str:
        return next((f"{row} comes back" for row in journal.read() if row not in rows), "")

    damage_each(tally, "journal", sorted(folder.iterdir()), each, check)


def _damage_checkpoints(tally: Tally, each: int, folder: Path) -> None:
    """The newest sound one is taken."""
    states = {step: random.Random(step).randbytes(4000) for step in (1, 2)}
    damaged = folder / "step-000000002"

    def write_all() -> Checkpoints:
        shutil.rmtree(folder, ignore_errors=True)
        made = Checkpoints(folder)
        for step, state in states.items():
            made.save(step, partial(_write, state))
        return made

    def check(path: Path) -> str:
        content = path.read_bytes() if path.exists() else None
        made = write_all()
        path.unlink() if content is None else path.write_bytes(content)
        newest = made.newest()
        taken = newest.read_bytes() if newest else b""
        damaged.mkdir(exist_ok=True)  # it was removed, and the file is put back into it
        return "" if taken == states[1] else "another state is taken"

    write_all()
    for path in sorted(damaged.iterdir()):
        damage_each(tally, "checkpoint", [path], each, check)
        write_all()


def _write(state: bytes, stream: object) -> None:
    stream.write(state)  # type: ignore[attr-defined]


def _damage_ledger(tally: Tally, each: int, work: Path) -> None:
    """A ledger, and a copy made of it, gives back what was bought, or is refused.

    It is asked as a run asks it: a reply that is not found would be bought again.
    """
    ledger = work / "store/ledger.sqlite"
    scratch = work / "scratch"
    with sqlite3.connect(ledger) as opened:
        keys = [key for (key,) in opened.execute("SELECT key FROM replies")]

    def claim(path: Path) -> dict[str, tuple[str, str]]:
        with Ledger(path, "fake") as client:
            bought = client.claim([(key, 0.0) for key in keys], Caps()).bought
        return {reply.key: (reply.text, reply.finish_reason) for reply in bought}

    def check(copies: bool, _: Path) -> str:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        for path in ledger.parent.glob(f"{ledger.name}*"):
            shutil.copy(path, scratch)
        asked = scratch / ledger.name
        try:
            if copies:
                copy_ledger(str(asked), str(scratch / "copy.sqlite"))
                asked = scratch / "copy.sqlite"
            found = claim(asked)
        except UserError:
            return ""
        changed = [key for key in keys if found.get(key) != sound[key]]
        return f"{len(changed)} replies differ" if changed else ""

    sound = claim(ledger)
    assert len(sound) == len(keys) > 0
    assert not check(True, ledger)
    damage_each(tally, "ledger", [ledger], each, partial(check, False))
    damage_each(tally, "ledger copy", [ledger], each, partial(check, True))


def _damage_runs(tally: Tally, each: int, work: Path, words: Sequence[str]) -> None:
    """After a damage to any file of the store the same results are made."""
    store = work / "store"
    numbers = iter(range(10**6))

    def check(_: Path) -> str:
        out = work / f"again{next(numbers)}"
        status, _out, said = call([*words, f"hydra.run.dir={out}"])
        if status == 2 and said.count("\n") == 1:
            return ""
        problem = f"{status}: {said[-200:]}" if status else ""
        problem = problem or next(find_differences(work / "whole", out), "")
        shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(store / "damaged", ignore_errors=True)
        return problem

    files = sorted(path for path in store.glob("[!.l]*/*/**/*") if path.is_file())
    random.Random(0).shuffle(files)
    damage_each(tally, "run", files, each, check)


def _damage_model(tally: Tally, each: int, work: Path) -> None:
    """A generated model in the cache is made again, or refused."""
    words = [*TINY, "method=base", "until=score", f"model.cache={work}/models"]
    outs = (work / f"model{number}" for number in range(10**6))

    def score() -> tuple[int, str, Path]:
        out = next(outs)
        places = [f"hydra.run.dir={out}", f"store.path={out}/store"]
        status, _, said = call([*words, *places])
        return status, said, out

    whole = score()[2]
    files = sorted(path for path in work.glob("models/tiny/*/*") if path.is_file())

    def check(_: Path) -> str:
        status, said, out = score()
        if status == 2 and said.strip().count("\n") == 0:
            return ""
        problem = f"{status}: {said[-200:]}" if status else next(find_differences(whole, out), "")
        shutil.rmtree(out, ignore_errors=True)
        return problem

    damage_each(tally, "model cache", files, each, check)


def _damage_sweep(tally: Tally, each: int, work: Path) -> None:
    """A job whose files are damaged runs again, and the sweep's figures are what they were."""
    sweep = work / "sweep"
    words = [*TINY, "-m", "method=base", "seed=1,2", "until=score", f"hydra.sweep.dir={sweep}",
             f"store.path={work}/sweep_store"]  # fmt: skip
    assert call(words)[0] == 0
    kinds = {"job table": sorted(sweep.glob("**/job*.json")),
             "summary": sorted(sweep.glob("*/summary.json"))}  # fmt: skip
    sound = {path: _figures(path) for path in sweep.glob("**/summary.json")}
    sound |= {path: _states(path) for path in sweep.glob("jobs.json")}

    def check(_: Path) -> str:
        status, _out, said = call(words)
        if status:
            return "" if status == 2 else f"{status}: {said[-200:]}"
        for path, figures in sound.items():
            found = _states(path) if path.name == "jobs.json" else _figures(path)
            if found != figures:
                changed = [key for key in figures if found.get(key) != figures[key]]
                return f"{path.relative_to(sweep)}: {changed[:3]}"
        return ""

    for kind, files in kinds.items():
        damage_each(tally, kind, files, each, check)


def _figures(path: Path) -> dict[str, object]:
    return {key: value for key, value in read_figures(path).items() if key != "written"}


def _states(path: Path) -> dict[str, object]:
    jobs = json.loads(path.read_text())["jobs"]
    return {job["folder"]: (job["state"], job["exit_status"], job["overrides"]) for job in jobs}
