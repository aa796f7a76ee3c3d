"""A damaged store costs the damaged stages, once: no result, no fault, no second time."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from damage_kinds import DAMAGES

HOW = list(DAMAGES)


@pytest.fixture
def copied(workshop: Any, shared: Any, whole_run: Any) -> Any:
    """A workshop with a store of its own in which all of `whole_run` is done."""
    shutil.copytree(shared.store, workshop.store, symlinks=True)
    return workshop


def damage_each(run: Any, store: Path, turn: int) -> dict[str, str]:
    """One file of every artefact; every combination comes up in as many turns as there are."""
    damaged = {}
    for row in run.summary["stages"]:
        (folder,) = store.glob(f"*/{row['fingerprint']}")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        path = files[turn // len(HOW) % len(files)]
        DAMAGES[HOW[turn % len(HOW)]](path)
        damaged[row["name"]] = path.relative_to(folder).as_posix()
    return damaged


def see_same_results(run: Any, whole: Any) -> None:
    own = {"run", "stages"}
    assert {key: value for key, value in run.summary.items() if key not in own} == {
        key: value for key, value in whole.summary.items() if key not in own
    }
    for table in ("scores", "predictions", "rationales"):
        assert run.rows(table) == whole.rows(table)
    for path in (whole.folder / "adapter").iterdir():
        if path.name != "README.md":
            assert (run.folder / "adapter" / path.name).read_bytes() == path.read_bytes()


def see_it_mended(copied: Any, small: Any, whole_run: Any, turn: int) -> None:
    damaged = damage_each(whole_run, copied.store, turn)
    again = copied.run(*small.words, small.two_stages)
    assert again.status == 0, again.err
    assert again.cached == []
    see_same_results(again, whole_run)
    log = (again.folder / "run.log").read_text(encoding="utf-8")
    for name, file in damaged.items():
        fingerprint = whole_run.fingerprint(name)
        assert any(fingerprint in line and file in line for line in log.splitlines()), name
    third = copied.run(*small.words, small.two_stages)
    assert (third.status, third.cached) == (0, third.stages)
    see_same_results(third, whole_run)


def test_a_store_that_is_damaged_everywhere_is_made_anew(
    copied: Any, small: Any, whole_run: Any
) -> None:
    # A bit of each stage's first file.
    see_it_mended(copied, small, whole_run, HOW.index("flipped"))


def test_a_dry_run_names_the_damage_and_leaves_it(copied: Any, small: Any, whole_run: Any) -> None:
    damage_each(whole_run, copied.store, HOW.index("cut"))
    dry = copied.run(*small.words, small.two_stages, "dry_run=true")
    assert dry.status == 0, dry.err
    assert "would run" in dry.out
    assert not (copied.store / "damaged").exists()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_every_damage_to_every_file_of_every_stage(copied: Any, small: Any, whole_run: Any) -> None:
    files = max(
        sum(path.is_file() for path in folder.rglob("*"))
        for folder in copied.store.glob("*/*")
        if (folder / "manifest.json").is_file()
    )
    for turn in range(files * len(HOW)):
        see_it_mended(copied, small, whole_run, turn)
