"""How two processes of one launch end, whichever of them ends first."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from torch import multiprocessing

from caft.errors import UserError
from caft.trainers import joined
from caft.trainers.config import TrainerConfig
from caft.trainers.devices import pick_device
from caft.trainers.distributed import Ranks
from caft.trainers.launched import Launch

FOR_EVER = 3600


def leader_fails(ranks: Ranks, _report: object) -> None:
    if ranks.rank == 0:
        raise UserError("the leader's own")
    time.sleep(FOR_EVER)  # as in an exchange that the leader never joins


def follower_is_asked_to_end(ranks: Ranks, _report: object) -> None:
    if ranks.rank == 1:
        raise SystemExit(143)


def follower_fails(ranks: Ranks, _report: object) -> None:
    if ranks.rank == 1:
        raise ValueError("the follower's own")
    while not ranks.asked_to_stop():
        time.sleep(0.01)
    raise SystemExit(0)


def take_part(rank: int, port: int, work: Callable[..., None], told: Any) -> None:
    names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "GROUP_WORLD_SIZE": 2}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    joined._WATCH_SECONDS, joined._GRACE_SECONDS, joined._FAREWELL_SECONDS = 0.1, 1.0, 0.5
    group = joined.join(Launch("torchrun", rank, 2, nodes=2, on_node=1, local_rank=0))
    if rank:
        raise SystemExit(group.follow(joined.Node("host", "", "", "", "", "")))
    try:
        group.run(work, (), lambda _: None, "cpu")
    except Exception as error:
        told.put(f"{type(error).__name__}: {error}")
    group.end()


def test_a_node_without_the_devices_differs_in_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process would fail, and the others would wait for it until their time is over."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    nodes = []
    for count in (2, 1):
        monkeypatch.setattr("torch.cuda.device_count", lambda count=count: count)
        nodes.append(joined.Node.here("config", TrainerConfig(accelerator="cuda", devices=2)))
    assert nodes[0].device == "cuda"
    assert nodes[0].differences(nodes[1]) == ["device"]


def test_a_launcher_that_shows_each_process_one_device_is_told_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Fewer devices would be refused, too: the launcher started two processes here."""
    for name, value in {"WORLD_SIZE": 4, "RANK": 0, "LOCAL_RANK": 0, "GROUP_WORLD_SIZE": 2}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(UserError, match=r"torchrun lets this process see 1 cuda; .*gpus-per-node"):
        pick_device(TrainerConfig(accelerator="cuda", devices=2, num_nodes=2))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("work", "says", "status"),
    [
        (leader_fails, "UserError: the leader's own", 1),
        (follower_is_asked_to_end, "UserError: another process of this run was asked to end", 143),
        (
            follower_fails,
            "RuntimeError: the process of device 1: ValueError: the follower's own",
            1,
        ),
    ],
)
def test_both_end_and_the_leader_knows_why(
    work: Callable[..., None], says: str, status: int
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    both = [context.Process(target=take_part, args=(rank, port, work, told)) for rank in (0, 1)]
    for process in both:
        process.start()
    try:
        assert told.get(timeout=120).startswith(says)
        for process in both:
            process.join(timeout=60)
        assert [process.exitcode for process in both] == [0, status]
    finally:
        for process in both:
            process.kill()
