"""A damaged store costs the damaged stages, once: no result, no fault, no second time."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "store"))

from damage_kinds import DAMAGES

from caft.store import Store
from small_stage import SmallStage

HOW = list(DAMAGES)


@pytest.fixture
def copied(workshop: Any, shared: Any, whole_run: Any) -> Any:
    """A workshop with a store of its own in which all of `whole_run` is done."""
    shutil.copytree(shared.store, workshop.store, symlinks=True)
    return workshop


def damage_each(run: Any, store: Path, turn: int) -> dict[str, str]:
    """One file of every artefact: the kind goes on by one each turn, the file with every round."""
    damaged = {}
    for row in run.summary["stages"]:
        (folder,) = store.glob(f"*/{row['fingerprint']}")
        files = list_files(folder)
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


def see_it_made_anew(copied: Any, small: Any, whole_run: Any, turn: int) -> None:
    damaged = damage_each(whole_run, copied.store, turn)
    again = copied.run(*small.words, small.two_stages)
    assert again.status == 0, again.err
    assert again.cached == []
    see_same_results(again, whole_run)
    log = (again.folder / "run.log").read_text(encoding="utf-8")
    for name, file in damaged.items():
        fingerprint = whole_run.fingerprint(name)
        assert any(fingerprint in line and file in line for line in log.splitlines()), name


def see_it_all_taken(copied: Any, small: Any, whole_run: Any) -> None:
    last = copied.run(*small.words, small.two_stages)
    assert (last.status, last.cached) == (0, last.stages)
    see_same_results(last, whole_run)


@pytest.mark.slow
def test_a_store_that_is_damaged_everywhere_is_made_anew(
    copied: Any, small: Any, whole_run: Any
) -> None:
    # A bit of each stage's first file.
    see_it_made_anew(copied, small, whole_run, HOW.index("flipped"))
    see_it_all_taken(copied, small, whole_run)


def test_a_dry_run_names_the_damage_and_leaves_it(copied: Any, small: Any, whole_run: Any) -> None:
    damage_each(whole_run, copied.store, HOW.index("cut"))
    dry = copied.run(*small.words, small.two_stages, "dry_run=true")
    assert dry.status == 0, dry.err
    assert "would run" in dry.out
    assert not (copied.store / "damaged").exists()


def list_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def see_each_damage_mended(sound: Path, path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Damage every file of the artefact `sound` in the store `path`, one by one, in every way."""
    stage, name = sound.parts[-2:]
    key = json.loads((sound / "manifest.json").read_text(encoding="utf-8"))["key"]
    content = {file.relative_to(sound): file.read_bytes() for file in list_files(sound)}
    del content[Path("manifest.json")]

    def make(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        shutil.copytree(sound, folder, ignore=lambda *_: ["manifest.json"], dirs_exist_ok=True)

    for file, how in itertools.product((*content, Path("manifest.json")), HOW):
        folder = path / stage / name
        DAMAGES[how](folder / file)
        caplog.clear()
        assert Store(path).find(SmallStage(stage, key)) is None
        made = Store(path).obtain(SmallStage(stage, key, make))
        assert (made.folder, made.cached) == (folder, False)
        assert {each: (folder / each).read_bytes() for each in content} == content
        said = [record.getMessage() for record in caplog.records]
        assert [f"{folder} " in line and f"{file} " in line for line in said] == [True, True], said
        assert Store(path).obtain(SmallStage(stage, key, make)).cached


def test_every_damage_to_every_file_of_every_stage_is_seen(
    copied: Any, whole_run: Any, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for row in whole_run.summary["stages"]:
        (folder,) = copied.store.glob(f"*/{row['fingerprint']}")
        sound = tmp_path / "sound" / folder.parent.name / folder.name
        shutil.copytree(folder, sound)
        see_each_damage_mended(sound, copied.store, caplog)


@pytest.mark.slow
def test_runs_mend_every_kind_of_damage_and_damage_to_every_file(
    copied: Any, small: Any, whole_run: Any
) -> None:
    files = max(len(list_files(path)) for path in copied.store.glob("*/*"))
    # Through the kinds and the files at once; what each pair of them does is tested above.
    for turn in range(max(len(HOW), files)):
        see_it_made_anew(copied, small, whole_run, turn * len(HOW) + turn % len(HOW))
    see_it_all_taken(copied, small, whole_run)
