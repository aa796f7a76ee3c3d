"""What is damaged is named, set aside and made again: never used, never in the way."""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damage_kinds import DAMAGES, flip_bit, link_to_nowhere

from caft.errors import UserError
from caft.store import Artifact, Journal, Store, digest
from caft.store.manifest import UNFINISHED, _render
from small_stage import SmallStage

KEY = {"model": "tiny"}
NAME = digest(KEY)
FILES = {
    "numbers.json": b'{"loss": 0.25}',
    "adapter/config.json": b'{"r": 4}',
    "adapter/weights.bin": bytes(range(256)) * 8,
}
JOBS = Path(__file__).with_name("store_jobs.py")


def produce(folder: Path) -> None:
    (folder / "adapter").mkdir(exist_ok=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def never(_folder: Path) -> None:
    raise AssertionError("it is there already")


def obtain(path: Path, work: Callable[[Path], None] = produce) -> Artifact:
    """As a run of its own would: with a store object of its own."""
    return Store(path).obtain(SmallStage("tune", KEY, work, resumable=True))


def contents(artifact: Artifact) -> dict[str, bytes]:
    return {name: (artifact.folder / name).read_bytes() for name in FILES}


def see_it_made_again(path: Path, caplog: pytest.LogCaptureFixture, damaged: str) -> None:
    folder = path / "tune" / NAME
    with caplog.at_level(logging.WARNING):
        again = obtain(path)
    assert not again.cached
    assert contents(again) == FILES
    warnings = [record.getMessage() for record in caplog.records]
    assert any(str(folder) in line and damaged in line for line in warnings)
    assert [item.name for item in path.glob("damaged/tune/*")] == [NAME]
    caplog.clear()
    third = obtain(path, never)
    assert third.cached
    assert third.files == again.files
    assert caplog.text == ""


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_any_damage_to_any_file_is_named_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, how: str
) -> None:
    artifact = obtain(tmp_path)
    DAMAGES[how](artifact.folder / name)
    see_it_made_again(tmp_path, caplog, name)


@pytest.mark.parametrize("how", ["missing", "link", "file", "empty folder", "no manifest"])
def test_what_stands_in_an_artefacts_place_does_not_block_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    folder = obtain(tmp_path).folder
    if how == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        DAMAGES["missing"](folder)
    if how == "link":
        link_to_nowhere(folder)
    elif how == "file":
        folder.write_text("?")
    elif how == "empty folder":
        folder.mkdir()
    if how == "missing":
        assert not obtain(tmp_path).cached
        assert not (tmp_path / "damaged").exists()
    else:
        see_it_made_again(tmp_path, caplog, "manifest.json")


def test_a_file_too_many_is_named_and_never_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = obtain(tmp_path).folder
    (folder / "adapter" / "chat_template.jinja").write_text("{{ other }}")
    see_it_made_again(tmp_path, caplog, "adapter/chat_template.jinja does not belong to it")


def test_hidden_files_of_file_browsers_are_nobodys_damage(tmp_path: Path) -> None:
    artifact = obtain(tmp_path)
    (artifact.folder / "adapter" / ".DS_Store").write_bytes(b"\0")
    again = obtain(tmp_path, never)
    again.copy_out("adapter", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "config.json",
        "weights.bin",
    ]


def test_any_flipped_bit_of_a_manifest_is_seen(tmp_path: Path) -> None:
    path = obtain(tmp_path).folder / "manifest.json"
    sound = path.read_bytes()
    unseen = []
    for number in range(0, 8 * len(sound), 19):
        flip_bit(path, number)
        if Store(tmp_path).find(SmallStage("tune", KEY)) is not None:
            unseen.append(number)
        path.write_bytes(sound)
    assert unseen == []
    assert Store(tmp_path).find(SmallStage("tune", KEY)) is not None


def test_a_search_names_the_damage_once_and_writes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = obtain(tmp_path).folder
    DAMAGES["cut"](folder / "numbers.json")
    before = sorted(tmp_path.rglob("*"))
    store = Store(tmp_path)
    assert store.find(SmallStage("tune", KEY)) is None
    assert store.find(SmallStage("tune", KEY)) is None
    assert sorted(tmp_path.rglob("*")) == before
    (warning,) = caplog.messages
    assert "numbers.json has 7 bytes instead of 14" in warning


def test_damage_while_a_run_goes_on_is_seen_when_it_takes_it_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    folder = store.obtain(SmallStage("tune", KEY, produce)).folder
    assert store.find(SmallStage("tune", KEY)) is not None
    DAMAGES["flipped"](folder / "adapter" / "weights.bin")
    assert store.find(SmallStage("tune", KEY)) is None


def test_an_artefact_of_an_earlier_version_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = obtain(tmp_path).folder / "manifest.json"
    table = json.loads(path.read_text())
    path.write_text(json.dumps({k: table[k] for k in table if k not in ("files", "sha256")}))
    see_it_made_again(tmp_path, caplog, "manifest.json lists no files: an earlier version wrote it")


def test_the_artefact_of_another_key_is_not_taken_for_this_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Store(tmp_path).obtain(SmallStage("tune", {"model": "other"}, produce))
    other.folder.rename(tmp_path / "tune" / NAME)
    see_it_made_again(tmp_path, caplog, f"is that of tune/{other.fingerprint}")


WRONG_BUT_SIGNED: dict[str, Any] = {
    "another key": {"key": {"model": "phi3"}},
    "seconds in words": {"seconds": "long"},
    "seconds without end": {"seconds": math.inf},
    "no memory": {"peak_memory_bytes": None},
    "files without sums": {"files": {"numbers.json": {"bytes": "14", "sha256": "0"}}},
    "a file of another folder": {"files": {"adapter/../../x": {"bytes": 1, "sha256": "0"}}},
    "a file of the system": {"files": {"/etc/hosts": {"bytes": 1, "sha256": "0"}}},
    "files in a row": {"files": ["numbers.json"]},
}


@pytest.mark.parametrize("wrong", WRONG_BUT_SIGNED)
def test_a_manifest_whose_sum_is_right_must_make_sense_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wrong: str
) -> None:
    path = obtain(tmp_path).folder / "manifest.json"
    table = json.loads(path.read_text())
    del table["sha256"]
    path.write_text(_render({**table, **WRONG_BUT_SIGNED[wrong]}))
    see_it_made_again(tmp_path, caplog, "manifest.json")


def test_set_aside_twice_it_has_two_places(tmp_path: Path) -> None:
    for _ in range(2):
        DAMAGES["cut"](obtain(tmp_path).folder / "numbers.json")
    assert not obtain(tmp_path).cached
    assert [path.name for path in Store(tmp_path).damaged()] == [NAME, f"{NAME}-2"]


def test_two_jobs_that_find_the_same_damage_make_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [sys.executable, str(JOBS), str(tmp_path / "store"), str(log), "live"]
    assert subprocess.run(command, check=False, timeout=60).returncode == 0
    (whole,) = tmp_path.glob("store/job/*/whole")
    DAMAGES["flipped"](whole)
    jobs = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(2)]
    ends = [(job.communicate(timeout=60)[1], job.returncode) for job in jobs]
    assert [status for _, status in ends] == [0, 0]
    assert sorted(log.read_text().split()) == ["cached", "made", "made", "produced", "produced"]
    assert whole.read_text() == "whole"
    assert len(Store(tmp_path / "store").damaged()) == 1


@pytest.mark.parametrize("how", DAMAGES)
def test_what_is_copied_out_is_what_was_made_or_nothing(tmp_path: Path, how: str) -> None:
    artifact = obtain(tmp_path / "store")
    artifact.copy_out("adapter", tmp_path / "out")
    assert (tmp_path / "out" / "weights.bin").read_bytes() == FILES["adapter/weights.bin"]
    DAMAGES[how](artifact.folder / "adapter" / "weights.bin")
    with pytest.raises(UserError, match=r"adapter/weights.bin .*run the same command again"):
        artifact.copy_out("adapter", tmp_path / "out")


@pytest.mark.parametrize("how", ["folder", "link", "garbage"])
def test_what_lies_where_a_copy_goes_is_replaced(tmp_path: Path, how: str) -> None:
    target = tmp_path / "out" / "weights.bin"
    target.parent.mkdir()
    DAMAGES[how](target)
    obtain(tmp_path / "store").copy_out("adapter", target.parent)
    assert target.read_bytes() == FILES["adapter/weights.bin"]
    assert not target.is_symlink()
    assert not (target.parent / "nowhere").exists()


# Unfinished work


def fail(folder: Path) -> None:
    (folder / "half").write_text("half")
    raise RuntimeError


def fail_at_once(folder: Path) -> None:
    (folder / "logs").mkdir()
    (folder / "opened").touch()
    raise RuntimeError


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_note_of_an_attempt_costs_its_seconds_only(tmp_path: Path, how: str) -> None:
    with pytest.raises(RuntimeError):
        obtain(tmp_path, fail)
    (unfinished,) = Store(tmp_path).folders(UNFINISHED)
    DAMAGES[how](unfinished / ".attempt")
    seen: list[str] = []
    artifact = obtain(tmp_path, lambda folder: seen.append((folder / "half").read_text()))
    assert seen == ["half"]
    assert 0 <= artifact.seconds < 60


@pytest.mark.parametrize("text", ["nan", "1e999", "-5", "12.5", "\udc80", ""])
def test_a_note_that_somebody_wrote_is_not_believed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    with pytest.raises(RuntimeError):
        obtain(tmp_path, fail)
    (unfinished,) = Store(tmp_path).folders(UNFINISHED)
    (unfinished / ".attempt").write_text(text, errors="surrogateescape")
    assert 0 <= obtain(tmp_path).seconds < 60
    assert ".attempt is damaged" in caplog.text


@pytest.mark.parametrize("how", ["garbage", "link"])
def test_a_file_in_the_place_of_unfinished_work_is_set_aside(tmp_path: Path, how: str) -> None:
    place = tmp_path / "tune" / f".unfinished-{NAME}"
    place.parent.mkdir()
    DAMAGES[how](place)
    assert contents(obtain(tmp_path)) == FILES
    assert [path.name for path in Store(tmp_path).damaged()] == [f"unfinished-{NAME}"]


@pytest.mark.parametrize(
    ("work", "resumable"), [(fail_at_once, True), (fail_at_once, False), (fail, False)]
)
def test_a_failed_attempt_that_nothing_can_go_on_from_leaves_nothing(
    tmp_path: Path, work: Callable[[Path], None], resumable: bool
) -> None:
    with pytest.raises(RuntimeError):
        Store(tmp_path).obtain(SmallStage("tune", KEY, work, resumable=resumable))
    assert list((tmp_path / "tune").iterdir()) == []


def test_what_no_attempt_can_go_on_from_is_removed_before_the_next(tmp_path: Path) -> None:
    def train(folder: Path) -> None:
        (folder / "checkpoints").mkdir(exist_ok=True)
        (folder / "checkpoints" / "state").write_text("1")
        (folder / "weights").mkdir()
        raise RuntimeError

    def go_on(folder: Path) -> None:
        assert sorted(path.name for path in folder.iterdir()) == [".attempt", "checkpoints"]
        (folder / "weights").write_text("whole")

    store = Store(tmp_path)
    scratch = ("checkpoints",)
    with pytest.raises(RuntimeError):
        store.obtain(SmallStage("tune", KEY, train, resumable=True, scratch=scratch))
    made = store.obtain(SmallStage("tune", KEY, go_on, resumable=True, scratch=scratch))
    assert sorted(path.name for path in made.folder.iterdir()) == ["manifest.json", "weights"]
    assert list(made.files) == ["weights"]


def test_a_kill_between_seal_and_publishing_costs_nothing(tmp_path: Path) -> None:
    made = obtain(tmp_path)
    unfinished = made.folder.with_name(f".unfinished-{NAME}")
    made.folder.rename(unfinished)
    again = obtain(tmp_path, never)
    assert (again.cached, again.seconds) == (False, made.seconds)
    again.folder.rename(unfinished)
    # What was sealed and is damaged is no finished work.
    DAMAGES["flipped"](unfinished / "adapter" / "weights.bin")
    assert contents(obtain(tmp_path)) == FILES


@pytest.mark.parametrize("how", ["garbage", "link"])
@pytest.mark.parametrize("name", ["tune", "locks"])
def test_a_stages_folder_that_is_none_is_named(tmp_path: Path, name: str, how: str) -> None:
    DAMAGES[how](tmp_path / name)
    with pytest.raises(UserError, match=rf"{name} .*remove it.* or name another folder"):
        obtain(tmp_path)


def test_a_store_that_is_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    link_to_nowhere(tmp_path / "store")
    with pytest.raises(UserError, match=r"it is a link to .*nowhere, which is not there"):
        Store(tmp_path / "store")


@pytest.mark.parametrize("how", ["folder", "link"])
def test_a_lock_that_is_no_file_is_named(tmp_path: Path, how: str) -> None:
    (tmp_path / "locks").mkdir()
    lock = tmp_path / "locks" / f"tune-{NAME}.lock"
    DAMAGES[how](lock)
    with pytest.raises(UserError, match=rf"{lock} cannot be used as a lock: .*; remove it, or"):
        obtain(tmp_path)


# Journals


def journal_of(folder: Path) -> tuple[Journal, Path]:
    journal = Journal(folder, "replies")
    for name in ("a", "b", "c"):
        journal.append([{"question_id": name, "x": 0.1}, {"question_id": f"{name}2", "x": 1e-300}])
    journal.close()
    (file,) = folder.glob("*.jsonl")
    return journal, file


def read_names(folder: Path) -> list[str]:
    return [row["question_id"] for row in Journal(folder, "replies").read()]


def test_a_line_of_a_journal_that_was_changed_is_left_out_and_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _, file = journal_of(tmp_path)
    lines = file.read_bytes().splitlines(keepends=True)
    # Still JSON, and another number: nothing but the checksum tells.
    file.write_bytes(b"".join([lines[0], lines[1].replace(b"0.1", b"0.3"), lines[2]]))
    journal = Journal(tmp_path, "replies")
    rows = journal.read()
    assert rows == journal.read()
    assert [row["question_id"] for row in rows] == ["a", "a2", "c", "c2"]
    (warning,) = caplog.messages
    assert f"line 2 of {file} has another checksum" in warning


def test_any_flipped_bit_of_a_journal_loses_its_own_line_at_most(tmp_path: Path) -> None:
    _, file = journal_of(tmp_path)
    sound = file.read_bytes()
    whole = Journal(tmp_path, "replies").read()
    for number in range(0, 8 * len(sound), 11):
        flip_bit(file, number)
        rows = Journal(tmp_path, "replies").read()
        assert len(rows) in (2, 4)
        assert all(row in whole for row in rows)
        file.write_bytes(sound)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_journal_ends_in_no_fault(tmp_path: Path, how: str) -> None:
    _, file = journal_of(tmp_path)
    DAMAGES[how](file)
    left = read_names(tmp_path)
    assert set(left) <= {"a", "a2", "b", "b2", "c", "c2"}
    again = Journal(tmp_path, "replies")
    again.append([{"question_id": "new", "x": 1.0}])
    assert sorted(read_names(tmp_path)) == sorted([*left, "new"])
