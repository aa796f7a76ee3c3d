"""Pruning takes what is old and in nobody's use, whole; what was interrupted blocks no stage."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from damage_kinds import DAMAGES

from caft.store import Artifact, Store
from caft.store.__main__ import main
from caft.store.disk import remove
from caft.store.locks import hold_lock
from caft.store.manifest import UNFINISHED
from caft.store.pruning import Pruned, prune
from small_stage import SmallStage

KEY = {"model": "tiny"}
JOBS = Path(__file__).with_name("store_jobs.py")
DAY = 86400


def produce(folder: Path) -> None:
    (folder / "text").write_text("whole")


def fail(folder: Path) -> None:
    (folder / "checkpoint").write_text("half")
    raise RuntimeError


def make(path: Path, seed: int = 0) -> Artifact:
    # A store object of its own, which is gone at once, and its use with it.
    return Store(path).obtain(SmallStage("tune", {**KEY, "seed": seed}, produce))


def leave_unfinished(path: Path, seed: int = 0) -> Path:
    store = Store(path)
    with pytest.raises(RuntimeError):
        store.obtain(SmallStage("tune", {**KEY, "seed": seed}, fail, resumable=True))
    return store.folders(UNFINISHED)[-1]


def make_old(folder: Path, days: float) -> None:
    moment = time.time() - days * DAY
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (moment, moment))


def test_only_what_is_old_goes(tmp_path: Path) -> None:
    old, new = make(tmp_path, 1).folder, make(tmp_path, 2).folder
    unfinished, fresh = leave_unfinished(tmp_path, 3), leave_unfinished(tmp_path, 4)
    make_old(old, 31)
    make_old(unfinished, 31)
    pruned = prune(Store(tmp_path), 30)
    assert [path.name[-20:] for path in pruned.artifacts] == [old.name]
    assert [path.name[-20:] for path in pruned.unfinished] == [unfinished.name[-20:]]
    assert pruned.bytes > 9
    assert sorted((tmp_path / "tune").iterdir()) == sorted([new, fresh])


def test_what_a_run_has_taken_stays_until_the_run_ends(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    reading = Store(tmp_path)
    taken = reading.find(SmallStage("tune", {**KEY, "seed": 0}))
    assert taken is not None
    assert prune(Store(tmp_path), 0) == Pruned(in_use=[folder])
    assert (taken.folder / "text").read_text() == "whole"
    del reading
    assert len(prune(Store(tmp_path), 0).artifacts) == 1
    assert list((tmp_path / "tune").iterdir()) == []


def test_what_a_run_has_made_itself_stays_too(tmp_path: Path) -> None:
    running = Store(tmp_path)
    made = running.obtain(SmallStage("tune", KEY, produce))
    again = running.obtain(SmallStage("tune", KEY, produce))
    assert prune(Store(tmp_path), 0).in_use == [made.folder] == [again.folder]


def test_what_another_process_makes_stays(tmp_path: Path) -> None:
    unfinished = leave_unfinished(tmp_path)
    with hold_lock(unfinished):
        assert prune(Store(tmp_path), 0) == Pruned(in_use=[unfinished])
    assert (unfinished / "checkpoint").read_text() == "half"
    assert len(prune(Store(tmp_path), 0).unfinished) == 1


def test_pruned_with_zero_days_all_the_time_no_job_fails(tmp_path: Path) -> None:
    log, path = tmp_path / "log", tmp_path / "store"
    command = [sys.executable, str(JOBS), str(path), str(log), "hold"]
    job = subprocess.Popen(command, stderr=subprocess.PIPE)
    seen: set[str] = set()
    while job.poll() is None:
        for folder in prune(Store(path), 0).in_use if path.is_dir() else ():
            # The job goes on when it has been met while it made, and while it read.
            step = "making" if folder.name.startswith(".unfinished-") else "reading"
            seen.add(step)
            Path(f"{log}-{step}").touch()
    assert job.returncode == 0, job.communicate()[1].decode()
    assert log.read_text().split() == ["produced", "made", "whole"]
    assert seen == {"making", "reading"}
    prune(Store(path), 0)
    assert list(path.glob("job/*")) == []


def test_two_that_prune_at_once_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    for seed in range(12):
        folder = make(tmp_path, seed).folder
        if seed % 2:
            rename_only(folder)
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: prune(Store(tmp_path), 0), range(3)))
    assert [each.failed for each in done] == [[], [], []]
    prune(Store(tmp_path), 0)
    assert list((tmp_path / "tune").iterdir()) == []


def remove_manifest_first(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def rename_only(folder: Path) -> None:
    folder.rename(folder.with_name(f".trash-{folder.name}"))


@pytest.mark.parametrize("step", [remove_manifest_first, rename_only])
def test_an_interrupted_pruning_blocks_no_stage(
    tmp_path: Path, step: Callable[[Path], None]
) -> None:
    step(make(tmp_path).folder)
    made = make(tmp_path)
    assert not made.cached
    assert make(tmp_path).cached
    prune(Store(tmp_path), 30)
    assert list((tmp_path / "tune").iterdir()) == [made.folder]


def test_it_is_renamed_before_anything_in_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make(tmp_path).folder

    def interrupt(path: Path) -> None:
        if path.exists():
            assert path.name == f".trash-{folder.name}"
            assert not folder.exists()
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("caft.store.pruning.remove", interrupt)
        with pytest.raises(KeyboardInterrupt):
            prune(Store(tmp_path), 0)
    assert not make(tmp_path).cached


def test_what_was_set_aside_is_pruned_by_the_day_it_was_set_aside(tmp_path: Path) -> None:
    made = make(tmp_path)
    DAMAGES["cut"](made.folder / "text")
    make_old(made.folder, 100)
    assert not make(tmp_path).cached
    assert prune(Store(tmp_path), 30).damaged == []
    (damaged,) = Store(tmp_path).damaged()
    make_old(damaged, 31)
    assert prune(Store(tmp_path), 30).damaged == [damaged]
    assert Store(tmp_path).damaged() == []


@pytest.mark.parametrize("how", DAMAGES)
def test_damaged_artefacts_are_listed_and_pruned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    folder = make(tmp_path).folder
    DAMAGES[how](folder / "manifest.json")
    assert main(["list", "--path", str(tmp_path)]) == 0
    listed = capsys.readouterr().out
    assert main(["list", str(tmp_path)]) == 0
    assert capsys.readouterr().out == listed
    assert main(["--path", str(tmp_path), "list"]) == 0
    out = capsys.readouterr().out
    assert out == listed
    assert "0 artefacts" in out
    assert f"{folder.name}" in out
    assert "damaged, made again by the next run that needs it" in out
    assert main(["--path", str(tmp_path), "prune", "--days", "0"]) == 0
    assert "removed 1 artefact and 0 interrupted ones" in capsys.readouterr().out
    assert list((tmp_path / "tune").iterdir()) == []


def test_the_list_has_everything_that_takes_room(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make(tmp_path, 1).folder
    DAMAGES["cut"](folder / "text")
    make(tmp_path, 1)
    leave_unfinished(tmp_path, 2)
    rename_only(make(tmp_path, 3).folder)
    assert main(["--path", str(tmp_path), "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"tune      {folder.name}")
    assert lines[1].startswith("1 artefact, ")
    assert lines[2].startswith(f"tune      {folder.name}")
    assert "1 damaged, set aside, " in lines[3]
    assert lines[4].startswith("1 interrupted, ")
    assert lines[5].startswith("1 left of an interrupted pruning, ")


def test_a_dry_pruning_names_what_would_go_and_removes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = make(tmp_path, 1).folder, make(tmp_path, 2).folder
    unfinished = leave_unfinished(tmp_path, 3)
    left = make(tmp_path, 4).folder
    (left / "text").write_bytes(bytes(5_000_000))
    make_old(left, 1)
    rename_only(left)
    (old / "text").write_bytes(bytes(3_000_000))
    for folder in (old, unfinished):
        make_old(folder, 31)

    def read_work() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if "locks" not in path.parts}

    before = read_work()
    words = ["prune", str(tmp_path), "--days", "30"]
    assert main([*words, "--dry-run"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["tune", old.name, "31.0"],
        ["tune", unfinished.name, "31.0"],
        ["tune", f".trash-{left.name}", "1.0"],
    ]
    assert "3.0 MB" in lines[0]
    assert total == (
        "would remove 1 artefact, 1 interrupted one and 1 left of an interrupted pruning, 8.0 MB"
    )
    assert read_work() == before
    assert main(words) == 0
    assert capsys.readouterr().out.replace("removed", "would remove") == f"{total}\n"
    assert list((tmp_path / "tune").iterdir()) == [new]


def test_one_store_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--path", "other", "list", str(tmp_path)], program="caft store") == 2
    assert "two stores are named" in capsys.readouterr().err
    assert main(["list", str(tmp_path / "none")], program="caft store") == 2
    assert capsys.readouterr().err.endswith("name its folder: caft store list FOLDER\n")


def test_what_is_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = Store(tmp_path)
    folder = store.obtain(SmallStage("tune", KEY, produce)).folder
    assert main(["--path", str(tmp_path), "prune", "--days", "0"]) == 0
    assert f"kept tune/{folder.name}: a run uses it" in capsys.readouterr().out
    assert store.find(SmallStage("tune", KEY)) is not None


def test_what_is_no_work_of_the_stores_is_left_alone(tmp_path: Path) -> None:
    """Somebody may name their project's folder as the store."""
    for name in ("src/package/module.py", "ledger.sqlite", ".git/objects/aa", "tune/notes/a.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    make(tmp_path)
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(prune(Store(tmp_path), 0).artifacts) == 1
    gone = before - {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in gone} == {"text", "manifest.json"}


def test_a_store_that_may_only_be_read_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path)
    monkeypatch.setattr("os.access", lambda _, mode: mode != os.W_OK)  # root may write anywhere
    assert main(["--path", str(tmp_path), "list"]) == 0
    assert "1 artefact, " in capsys.readouterr().out
    assert main(["--path", str(tmp_path), "prune", "--days", "0"]) == 2


@pytest.mark.parametrize("days", ["nan", "inf", "-1", "soon"])
def test_days_are_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str], days: str) -> None:
    assert main(["--path", str(tmp_path), "prune", f"--days={days}"]) == 2
    assert f"{days} is not a number of days; give 0 or more" in capsys.readouterr().err


def test_a_link_to_nowhere_has_a_size_and_an_age(tmp_path: Path) -> None:
    folder = make(tmp_path).folder
    DAMAGES["link"](folder / "text")
    assert len(prune(Store(tmp_path), 0).artifacts) == 1


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    remove(tmp_path / "link")
    remove(tmp_path / "link")
    assert (tmp_path / "kept" / "file").exists()
