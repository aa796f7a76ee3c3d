"""What a power loss can take, by the calls against it: docs/explanation/durability.md."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import caft
from caft.store import Checkpoints, Journal, Store, write_durably
from caft.teachers.ledger.sqlite import SqliteDatabase
from small_stage import SmallStage

PAGE = Path(__file__).parents[2] / "docs/explanation/durability.md"


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every fsync and rename below the test's folder, in order, by the names that they concern."""
    made: list[str] = []

    def shorten(path: object) -> str:
        text = Path(str(path)).relative_to(tmp_path).as_posix()
        return re.sub(r"[0-9a-f]{20}", "KEY", re.sub(rf"-{os.getpid()}\b", "-PID", text))

    def fsync(descriptor: int, real: Callable[[int], None] = os.fsync) -> None:
        status = os.fstat(descriptor)
        found = (each for each in (tmp_path, *tmp_path.rglob("*")))
        made.append(
            f"fsync {shorten(next(p for p in found if os.path.samestat(p.stat(), status)))}"
        )
        real(descriptor)

    def note(real: Callable[..., None]) -> Callable[..., None]:
        def move(source: Any, target: Any, **more: Any) -> None:
            made.append(f"rename {shorten(source)} {shorten(target)}")
            real(source, target, **more)

        return move

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", note(os.rename))
    monkeypatch.setattr(os, "replace", note(os.replace))
    return made


def test_a_stage_is_on_the_disk_before_it_has_its_name(tmp_path: Path, calls: list[str]) -> None:
    def produce(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner/result").write_text("42")

    Store(tmp_path / "store").obtain(SmallStage("score", {"a": 1}, produce))
    assert calls == [
        "fsync .",  # the store's own name
        "fsync store/score",  # the unfinished folder's
        "fsync store",  # its parent's
        "fsync store/score/.unfinished-KEY/inner/result",
        "fsync store/score/.unfinished-KEY/.manifest.json",
        "rename store/score/.unfinished-KEY/.manifest.json "
        "store/score/.unfinished-KEY/manifest.json",
        "fsync store/score/.unfinished-KEY",
        *sorted(
            f"fsync store/score/.unfinished-KEY/{name}"
            for name in ("inner", "inner/result", "manifest.json")
        ),
        "fsync store/score/.unfinished-KEY",
        "rename store/score/.unfinished-KEY store/score/KEY",
        "fsync store/score",
    ]


def test_a_journal_has_its_name_and_its_first_line(tmp_path: Path, calls: list[str]) -> None:
    Journal(tmp_path, "replies").append([{"a": 1}])
    assert calls == ["fsync .", "fsync replies-0000-PID.jsonl"]


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, calls: list[str]
) -> None:
    Checkpoints(tmp_path / "checkpoints").save(3, lambda stream: stream.write(b"state"))
    fresh = "checkpoints/.writing-000000003"
    assert calls == [
        "fsync checkpoints",
        "fsync .",
        *sorted(f"fsync {fresh}/{name}" for name in ("sha256", "state")),
        f"fsync {fresh}",
        f"rename {fresh} checkpoints/step-000000003",
        "fsync checkpoints",
    ]


def test_a_written_file_is_whole_or_not_there(tmp_path: Path, calls: list[str]) -> None:
    write_durably(tmp_path / "summary.json", "{}")
    assert calls == ["fsync .summary.json", "rename .summary.json summary.json", "fsync ."]


def test_sqlite_waits_for_the_disk_at_every_commit(tmp_path: Path) -> None:
    database = SqliteDatabase(tmp_path / "ledger.sqlite", reads_only=False)
    full, journal = (database.execute(f"PRAGMA {name}").fetchone()[0]
                     for name in ("synchronous", "journal_mode"))  # fmt: skip
    assert (full, journal) == (2, "wal")
    database.close()


def test_every_function_that_the_page_names_is_there() -> None:
    named = re.findall(r"`([\w/]+\.py):(\w+)`", PAGE.read_text(encoding="utf-8"))
    assert len(named) > 8
    for file, name in named:
        tree = ast.parse((Path(caft.__file__).parent / file).read_text(encoding="utf-8"))
        assert name in {
            each.name for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.ClassDef)
        }, f"{file}:{name}"
