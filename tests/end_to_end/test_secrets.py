"""The teacher's key is nowhere but in the environment and in the requests themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from front_door import call

KEY = "sk-caft-0123456789-very-secret"
ROOT = Path(__file__).parents[2]


@contextmanager
def watching() -> Iterator[list[bytes]]:
    """The command lines of all processes that held the key meanwhile."""
    shown: list[bytes] = []
    over = threading.Event()

    def watch() -> None:
        while True:
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):  # it has ended
                    shown.extend(line for line in [path.read_bytes()] if KEY.encode() in line)
            if over.wait(0.2):
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield shown
    finally:
        over.set()
        watcher.join()


def find_key(folder: Path) -> tuple[int, list[Path]]:
    """How many files there are, and those that hold the key."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return len(files), [path for path in files if KEY.encode() in read_plain(path)]


def read_plain(path: Path) -> bytes:
    """A file's bytes; of a compressed table, what it says."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    import pyarrow.parquet as pq

    return repr(pq.read_table(path).to_pylist()).encode()


@pytest.fixture
def words(small: Any, tmp_path: Path, server: Any) -> list[str]:
    server.write = lambda call: f"You sent {call.headers['authorization']} to me. [[7]]"
    return [
        *small.words, "method=distill", "method.stages.0.epochs=1", "evaluation.modes=[answer]",
        "logger=wandb", f"store.path={tmp_path / 'store'}", f"hydra.run.dir={tmp_path / 'run'}",
        "teacher=openai", f"teacher.base_url={server.base_url}", "teacher.model=fake",
        "teacher.api_key_env=CAFT_TEST_KEY", "teacher.keep=all",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "word",
    [
        "name={}", "teacher.model={}", "teacher.base_url=http://127.0.0.1:1/{}/v1",
        "+teacher.extra.user={}", "+teacher.extra.{}=1", "dataset.test_path=/data/{}.csv",
        "logger.project={}", "hydra.job.name={}", "name=${{oc.env:SOME_TOKEN}}",
    ],
)  # fmt: skip
def test_what_the_environment_keeps_secret_is_in_no_config(
    workshop: Any, small: Any, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("SOME_TOKEN", KEY)
    given = ("dataset=local", "teacher=openai", "teacher.model=m", "logger=wandb")
    for mode in ((), ("-m",)):
        run = workshop.run(*small.tiny, *given, word.format(KEY), *mode)
        assert run.status == 2
        assert "SOME_TOKEN holds, and a config is written down" in run.err
        assert KEY not in run.out + run.err
        assert find_key(workshop.folder)[1] == []


@pytest.mark.slow
def test_everything_that_a_finished_run_left(words: list[str], tmp_path: Path, server: Any) -> None:
    environment = {**os.environ, "CAFT_TEST_KEY": KEY, "WANDB_MODE": "offline"}
    command = [sys.executable, str(ROOT / "train.py"), *words]
    # Which is looked through, too.
    with watching() as shown, (tmp_path / "printed").open("wb") as printed:
        status = subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=printed, stderr=printed, check=False
        ).returncode
    assert status == 0, (tmp_path / "printed").read_text()
    assert {call.headers["authorization"] for call in server.log} == {f"bearer {KEY}"}
    count, holding = find_key(tmp_path)
    assert (holding, shown) == ([], [])
    kinds = {path.name.split(".")[-1] for path in tmp_path.rglob("*") if path.is_file()}
    assert {"wandb", "html", "json", "log", "parquet", "sqlite", "yaml"} <= kinds
    assert count > 20
    assert "bearer [key] to me" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_everything_that_a_refused_run_left(
    words: list[str],
    tmp_path: Path,
    server: Any,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("CAFT_TEST_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    server.status, server.message = 403, f"the key {KEY} may not do this"
    with watching() as shown:
        status, *printed = call(words)
    printed += capfd.readouterr()  # by W&B's own process
    assert status == 2, printed
    assert "the key [key] may not do this" in printed[1]
    assert KEY not in "".join(printed)
    assert (find_key(tmp_path)[1], shown) == ([], [])
