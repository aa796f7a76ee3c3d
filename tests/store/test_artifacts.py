"""Made once, whole or not at all, by whichever process comes first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.store import Store, Tokens, digest
from caft.store.manifest import UNFINISHED
from small_stage import SmallStage

JOBS = Path(__file__).with_name("store_jobs.py")
KEY = {"model": "tiny", "seed": 3}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def write(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "text").write_text(text) and None


def fail(folder: Path) -> None:
    (folder / "text").write_text("half")
    raise RuntimeError("half way")


def start_job(store: Path, log: Path, what: str = "live") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(JOBS), str(store), str(log), what])


def test_the_second_time_it_is_taken(store: Store) -> None:
    assert store.find(SmallStage("score", KEY)) is None
    made = store.obtain(SmallStage("score", KEY, write("first")))
    taken = store.obtain(SmallStage("score", dict(reversed(KEY.items())), write("second")))
    assert (made.cached, taken.cached) == (False, True)
    assert (taken.folder / "text").read_text() == "first"
    assert (taken.seconds, taken.peak_memory_bytes) == (made.seconds, made.peak_memory_bytes)
    assert made.peak_memory_bytes > 1_000_000
    assert store.find(SmallStage("score", KEY)) == taken


def test_other_keys_and_other_stages_are_other_artefacts(store: Store) -> None:
    first = store.obtain(SmallStage("score", KEY, write("a")))
    others = [
        store.obtain(SmallStage("score", {**KEY, "seed": 4}, write("b"))),
        store.obtain(SmallStage("tune", KEY, write("c"))),
    ]
    assert [(other.folder / "text").read_text() for other in others] == ["b", "c"]
    # Made this quickly, they may all have one time.
    newest_first = [first, *others]
    for age, made in enumerate(newest_first):
        os.utime(made.folder, (1000 - age, 1000 - age))
    oldest_first = [each.folder for each in reversed(newest_first)]
    assert [each.folder for each in store.artifacts()] == oldest_first


def test_what_fails_leaves_nothing_to_be_seen(store: Store) -> None:
    with pytest.raises(RuntimeError, match="half way"):
        store.obtain(SmallStage("score", KEY, fail))
    assert store.find(SmallStage("score", KEY)) is None
    assert store.artifacts() == []

    def produce(folder: Path) -> None:
        assert list(folder.iterdir()) == []
        (folder / "text").write_text("whole")

    assert not store.obtain(SmallStage("score", KEY, produce)).cached


def test_a_resumable_stage_finds_what_it_left(store: Store) -> None:
    with pytest.raises(RuntimeError):
        store.obtain(SmallStage("tune", KEY, fail, resumable=True))
    seen: list[str] = []

    def go_on(folder: Path) -> None:
        seen.append((folder / "text").read_text())

    assert not store.obtain(SmallStage("tune", KEY, go_on, resumable=True)).cached
    assert seen == ["half"]


def test_the_seconds_of_every_attempt_count_up_to_its_last_write(store: Store) -> None:
    for began in (1000, 2000):
        with pytest.raises(RuntimeError):
            store.obtain(SmallStage("tune", KEY, fail, resumable=True))
        # An attempt of a minute that was killed: nobody noted its end.
        (unfinished,) = store.folders(UNFINISHED)
        os.utime(unfinished / ".attempt", (began, began))
        os.utime(unfinished / "text", (began + 60, began + 60))
    made = store.obtain(SmallStage("tune", KEY, write("whole"), resumable=True))
    assert 120 <= made.seconds < 1000
    assert [path.name for path in made.folder.glob(".*")] == []


def test_tokens_are_kept_and_earlier_versions_counted_none(store: Store) -> None:
    def count(folder: Path) -> Tokens:
        write("x")(folder)
        return Tokens(read=7, written=2)

    assert store.obtain(SmallStage("score", KEY, count)).tokens == Tokens(7, 0, 2)
    stage = SmallStage("score", KEY)
    taken = Store(store.path).obtain(stage)
    assert (taken.cached, taken.tokens) == (True, Tokens(read=7, written=2))
    path = taken.folder / "manifest.json"
    table = json.loads(path.read_text())
    del table["tokens"], table["sha256"]
    body = json.dumps(table, indent=1)
    path.write_text(json.dumps({**table, "sha256": sha256(body.encode()).hexdigest()}, indent=1))
    assert Store(store.path).obtain(stage).tokens == Tokens()


def test_the_manifest_says_what_the_artefact_depends_on(store: Store) -> None:
    artifact = store.obtain(SmallStage("score", KEY, write("x")))
    manifest = json.loads((artifact.folder / "manifest.json").read_text())
    assert manifest["stage"] == "score"
    assert manifest["key"] == KEY
    assert manifest["fingerprint"] == artifact.fingerprint == digest(KEY) == artifact.folder.name
    assert manifest["seconds"] == artifact.seconds >= 0
    assert set(manifest) == {
        "stage",
        "fingerprint",
        "made",
        "seconds",
        "peak_memory_bytes",
        "tokens",
        "key",
        "files",
        "sha256",
    }
    # SHA-256 of the letter x, as `printf x | sha256sum` prints it.
    digest_of_x = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert manifest["files"] == {"text": {"bytes": 1, "sha256": digest_of_x}}


def test_a_killed_writer_leaves_nothing_and_blocks_nobody(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert start_job(tmp_path / "store", log, "die").wait(60) != 0
    assert Store(tmp_path / "store").artifacts() == []
    assert start_job(tmp_path / "store", log).wait(60) == 0
    assert log.read_text().split() == ["produced", "produced", "made"]


def test_processes_that_want_the_same_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = [start_job(tmp_path / "store", log) for _ in range(3)]
    assert [job.wait(60) for job in jobs] == [0, 0, 0]
    assert sorted(log.read_text().split()) == ["cached", "cached", "made", "produced"]


@pytest.mark.parametrize("below", ["file", "file/store"])
def test_a_store_that_cannot_be_written_is_the_users_to_solve(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"store\.path is .*; name a folder"):
        Store(tmp_path / below)


def test_the_ledger_lies_in_the_store(tmp_path: Path) -> None:
    assert Store(tmp_path).ledger_path == tmp_path / "ledger.sqlite"
