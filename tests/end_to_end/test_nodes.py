"""One run on two nodes, started by torchrun: the result of one process, and its ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
BOTH = pytest.mark.parametrize("strategy", ["ddp", "fsdp"])


def command(words: Sequence[str], node: int, port: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    meeting = [f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}"]
    return [sys.executable, *launcher, *meeting, str(ROOT / "train.py"), *words]


@contextmanager
def two_nodes(folder: Path, *words: Sequence[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """A launcher a node, with the same words for both, or with those of each."""
    folder.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        started = []
        for node, own in enumerate(words * 2 if len(words) == 1 else words):
            out = stack.enter_context((folder / f"{node}.log").open("w"))
            process = subprocess.Popen(
                command(own, node, port),
                cwd=folder,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
                stdout=out,
                stderr=subprocess.STDOUT,
                text=True,
            )
            started.append(stack.enter_context(process))
        try:
            yield started
        finally:
            for process in started:
                if process.poll() is None:
                    for each in psutil.Process(process.pid).children(recursive=True):
                        each.kill()
                    process.kill()


def statuses(processes: list[subprocess.Popen[str]]) -> list[int]:
    return [process.wait(timeout=300) for process in processes]


def said(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("?.log")))


@pytest.fixture
def words(small: Any) -> list[str]:
    return [*small.words, "method=sft", "method.stages.0.epochs=6", "trainer.progress=false"]


def in_store(store: Path) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    (scores,) = (store / "score").glob("[!.]*/*.parquet")
    (weights,) = (store / "tune").glob("[!.]*/adapter/adapter_model.safetensors")
    return pq.read_table(scores).to_pylist(), load_file(weights)


@BOTH
def test_two_nodes_compute_what_one_process_computes(
    tmp_path: Path, words: list[str], strategy: str
) -> None:
    alone, both = tmp_path / "alone", tmp_path / "both"
    one = [sys.executable, str(ROOT / "train.py"), *words, f"store.path={alone}"]
    subprocess.run(one, cwd=tmp_path, check=True, capture_output=True)
    shared = [*words, f"store.path={both}", "trainer.num_nodes=2", "hydra.run.dir=out"]
    shared += [f"trainer.strategy={strategy}"]
    with two_nodes(tmp_path / "nodes", shared) as nodes:
        assert statuses(nodes) == [0, 0], said(tmp_path / "nodes")
    (scores, weights), (expected_scores, expected) = in_store(both), in_store(alone)
    for row, other in zip(scores, expected_scores, strict=True):
        assert row["question_id"] == other["question_id"]
        assert dict(row["estimates"]) == pytest.approx(dict(other["estimates"]), rel=1e-5)
        near = pytest.approx(other["option_probabilities"], rel=1e-5)
        assert row["option_probabilities"] == near
    for name, weight in expected.items():
        torch.testing.assert_close(weights[name], weight, rtol=0, atol=1e-5)
    summary = json.loads((tmp_path / "nodes" / "out" / "summary.json").read_text())
    assert summary["accuracy"]["tuned"]
    # One process writes.
    assert [path.parent.name for path in tmp_path.rglob("summary.json")].count("out") == 1


@BOTH
def test_the_loss_of_a_node_ends_all_and_the_same_command_goes_on(
    tmp_path: Path, words: list[str], strategy: str
) -> None:
    shared = [*words, f"store.path={tmp_path / 'store'}", "trainer.num_nodes=2", "until=tune"]
    shared += [f"trainer.strategy={strategy}"]
    shared += ["method.stages.0.epochs=40", "tuning.checkpoint_seconds=0", "hydra.run.dir=out"]
    with two_nodes(tmp_path / "lost", shared) as nodes:
        log = tmp_path / "lost" / "0.log"
        while "epoch 2: validation" not in log.read_text():
            assert nodes[0].poll() is None, said(tmp_path / "lost")
        follower = next(iter(psutil.Process(nodes[1].pid).children()))
        follower.send_signal(signal.SIGKILL)
        assert all(status != 0 for status in statuses(nodes)), said(tmp_path / "lost")
    assert "the same command on every node goes on from here" in log.read_text()
    with two_nodes(tmp_path / "again", shared) as nodes:
        assert statuses(nodes) == [0, 0], said(tmp_path / "again")
    assert "resumed after step" in (tmp_path / "again" / "0.log").read_text()


def test_nodes_of_other_settings_and_other_folders_are_refused(
    tmp_path: Path, words: list[str]
) -> None:
    shared = [*words, f"store.path={tmp_path / 'store'}", "trainer.num_nodes=2"]
    with two_nodes(tmp_path / "differ", shared, [*shared, "seed=7"]) as nodes:
        statuses(nodes)
    assert "has another config than" in said(tmp_path / "differ")
    assert "exitcode  : 2" in said(tmp_path / "differ")
    with two_nodes(tmp_path / "sweep", ["-m", *shared]) as nodes:
        statuses(nodes)
    assert "-m under torchrun: a sweep starts its jobs by itself" in said(tmp_path / "sweep")


@pytest.mark.parametrize(("flag", "status"), [("--help", 0), ("--version", 0), ("--nonsense", 1)])
def test_flags_end_all_processes(tmp_path: Path, flag: str, status: int) -> None:
    with two_nodes(tmp_path / "flag", [flag]) as nodes:
        assert status in statuses(nodes)
