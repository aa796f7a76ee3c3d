"""How two processes of one launch end, whichever of them ends first."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import multiprocessing
from torch.distributed import TCPStore

from caft.errors import UserError
from caft.hydra_bridge.nodes import follow, leading
from caft.hydra_bridge.running import end_on_signals
from caft.run_config import RunConfig
from caft.signals import ends_by_itself
from caft.trainers import heartbeat, joined
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


def outlast(_ranks: Ranks, _report: object) -> None:
    joined._GRACE_SECONDS = 120.0


def follower_fails(ranks: Ranks, _report: object) -> None:
    if ranks.rank == 1:
        raise ValueError("the follower's own")
    while not ranks.asked_to_stop():
        time.sleep(0.01)
    raise SystemExit(0)


def meet(ranks: Ranks, _report: object) -> None:
    ranks.add(1.0)


def hang(ranks: Ranks, _report: object) -> None:
    """As in an exchange that one of both never joins, and NCCL would wait for."""
    ranks.add(1.0)
    if ranks.rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(FOR_EVER)


def wait_for_lost_one(ranks: Ranks, _report: object) -> None:
    """The same, with the other one lost."""
    ranks.add(1.0)
    if ranks.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    with ends_by_itself():
        time.sleep(FOR_EVER)


def work_for_ever(group: joined.Group, told: Any) -> None:
    """The leader's own work between two exchanges, such as asking a teacher."""
    group.run(meet, (), lambda _: None, "cpu")
    told.put("working")
    for _ in range(FOR_EVER * 100):  # in pieces: a signal does not end a whole sleep
        time.sleep(0.01)


def work_long(group: joined.Group, told: Any) -> None:
    """Twice as long as silence would be taken for the end, without an exchange."""
    group.run(meet, (), lambda _: None, "cpu")
    end = time.monotonic() + 2 * heartbeat._BEAT_SECONDS * heartbeat._SILENT_BEATS
    while time.monotonic() < end:
        sum(range(1000))
    group.run(meet, (), lambda _: None, "cpu")
    told.put("done")


def work_then_wait(group: joined.Group, told: Any) -> None:
    group.run(outlast, (), lambda _: None, "cpu")
    told.put("working")
    time.sleep(6)


def run_hanging(group: joined.Group, told: Any) -> None:
    told.put("hanging")
    group.run(hang, (), lambda _: None, "cpu")


def run_waiting(group: joined.Group, told: Any) -> None:
    told.put("waiting")
    group.run(wait_for_lost_one, (), lambda _: None, "cpu")


def start_group(rank: int, port: int) -> joined.Group:
    names = {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "GROUP_WORLD_SIZE": 2}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in names.items()})
    joined._GRACE_SECONDS, joined._FAREWELL_SECONDS = 1.0, 0.5
    heartbeat._BEAT_SECONDS, heartbeat._SILENT_BEATS = 0.2, 25
    return joined.join(Launch("torchrun", rank, 2, nodes=2, on_node=1, local_rank=0))


def take_part(rank: int, port: int, work: Callable[..., None], told: Any) -> None:
    group = start_group(rank, port)
    if rank:
        raise SystemExit(group.follow(joined.Node("host", "", "", "", "", "")))
    try:
        group.run(work, (), lambda _: None, "cpu")
    except Exception as error:
        told.put(f"{type(error).__name__}: {error}")
    group.end()


def command(rank: int, port: int, work: Callable[..., None], told: Any) -> None:
    """As hydra_bridge/command.py does it, with `work` in place of a run."""

    def lead(_: object) -> int:
        work(group, told)
        return 0

    group = start_group(rank, port)
    if rank:
        raise SystemExit(follow(_no_config))
    with leading():
        status = end_on_signals(lead, "unused advice")
    raise SystemExit(status)


def _no_config() -> RunConfig:
    raise UserError("nothing is compared here")


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
        (leader_fails, "UserError: the leader's own", 143),
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
    with both_started(take_part, work, find_port()) as (both, told):
        assert told.get(timeout=120).startswith(says)
        for process in both:
            process.join(timeout=60)
        assert [process.exitcode for process in both] == [0, status]


@pytest.mark.slow
def test_a_waiting_follower_that_was_asked_to_end_outlasts_the_leader() -> None:
    """srun and torchrun end all processes as soon as one has ended."""
    with both_started(command, work_then_wait, find_port()) as (both, told):
        assert told.get(timeout=120) == "working"
        both[1].terminate()
        both[1].join(timeout=2)
        assert both[1].exitcode is None
        for process in both:
            process.join(timeout=60)
        assert [process.exitcode for process in both] == [0, 143]


def find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def both_started(
    target: Callable[..., None], work: Callable[..., None], port: int
) -> Iterator[Any]:
    """The two processes, and what they tell."""
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    both = [context.Process(target=target, args=(rank, port, work, told)) for rank in (0, 1)]
    for process in both:
        process.start()
    try:
        yield both, told
    finally:
        for process in both:
            process.kill()


@pytest.fixture(params=["of the leader", "of the launcher"])
def port(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Where they meet: in a store that srun has the leader open, or in one of torchrun's own."""
    if request.param == "of the leader":
        yield find_port()
        return
    server = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    yield server.port


@pytest.mark.slow
@pytest.mark.parametrize("killed", [1, 0])
def test_a_process_killed_between_two_exchanges_ends_the_other(
    port: int, killed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """The leader works on its own, the follower waits for an order."""
    with both_started(command, work_for_ever, port) as (both, told):
        assert told.get(timeout=120) == "working"
        both[killed].kill()
        both[1 - killed].join(timeout=120)
        assert both[1 - killed].exitcode == 143
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "node goes on" in line]
    assert f"process {killed} on {socket.gethostname()}" in line
    assert "gone" in line
    assert "the same command on every node goes on from here" in line


@pytest.mark.slow
@pytest.mark.parametrize(("killed", "work"), [(0, run_hanging), (1, run_waiting)])
def test_a_process_killed_in_an_exchange_that_waits_for_days_ends_the_other(
    killed: int, work: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    with both_started(command, work, find_port()) as (both, told):
        assert told.get(timeout=120)
        both[1 - killed].join(timeout=120)
        assert [process.exitcode for process in both][1 - killed] == 143
    heard = f"process {killed} on {socket.gethostname()} is gone, unheard of for 5 s"
    assert heard in capfd.readouterr().err


@pytest.mark.slow
def test_work_of_any_length_between_two_exchanges_loses_nobody() -> None:
    with both_started(command, work_long, find_port()) as (both, told):
        assert told.get(timeout=120) == "done"
        for process in both:
            process.join(timeout=60)
        assert [process.exitcode for process in both] == [0, 0]


def test_an_error_without_a_text_is_named_by_its_class() -> None:
    assert joined.name_cause(RuntimeError()) == "RuntimeError"
    torchs = "[../third_party/gloo/pair.cc:534] Connection closed by peer [10.0.0.7]:1. More"
    assert joined.name_cause(RuntimeError(f"{torchs}\nin a trace")) == (
        "Connection closed by peer [10.0.0.7]:1"
    )
