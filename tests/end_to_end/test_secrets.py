"""The teacher's key is nowhere but in the environment and in the requests themselves."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

KEY = "sk-caft-0123456789-very-secret"
ROOT = Path(__file__).parents[2]


def command_lines() -> Iterator[bytes]:
    """The arguments of every process that can be seen."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes()
        except OSError:  # it has ended
            continue


def run_watched(words: list[str], folder: Path) -> tuple[int, bytes, list[bytes]]:
    """Exit status, all that was printed, and command lines that held the key meanwhile."""
    environment = {**os.environ, "CAFT_TEST_KEY": KEY, "WANDB_MODE": "offline"}
    shown = []
    with (folder / "printed").open("w+b") as printed:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words],
            cwd=folder, env=environment, stdout=printed, stderr=subprocess.STDOUT,
        )  # fmt: skip
        while process.poll() is None:
            shown += [line for line in command_lines() if KEY.encode() in line]
            time.sleep(0.2)
        printed.seek(0)
        return process.returncode, printed.read(), shown


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
    status, printed, shown = run_watched(words, tmp_path)
    assert status == 0, printed.decode()
    assert {call.headers["authorization"] for call in server.log} == {f"bearer {KEY}"}
    count, holding = find_key(tmp_path)
    assert (holding, shown) == ([], [])
    kinds = {path.name.split(".")[-1] for path in tmp_path.rglob("*") if path.is_file()}
    assert {"wandb", "html", "json", "log", "parquet", "sqlite", "yaml"} <= kinds
    assert count > 20
    assert "bearer [key] to me" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_everything_that_a_refused_run_left(words: list[str], tmp_path: Path, server: Any) -> None:
    server.status, server.message = 403, f"the key {KEY} may not do this"
    status, printed, shown = run_watched(words, tmp_path)
    assert status == 2, printed.decode()
    assert b"the key [key] may not do this" in printed
    assert (find_key(tmp_path)[1], shown) == ([], [])
