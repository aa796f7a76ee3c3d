"""The processes of a run that torchrun or srun started: one leads, the others follow.

The leader runs the whole command. Where devices share work it hands the function and its arguments
to the followers, takes part itself, and waits until all have done theirs. What they share besides
is a folder: the store must be on a file system that all nodes see.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import logging
import os
import pickle
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch
from torch import distributed
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

import caft
from caft.console import tell_error
from caft.errors import UserError, first_line
from caft.signals import (
    DONE,
    INTERRUPTED,
    OUR_FAULT,
    USER_MUST_ACT,
    end_because,
    end_if_asked,
    ends_by_agreement,
    ends_by_itself,
    interrupt,
    say,
    was_signalled,
)
from caft.store import digest
from caft.trainers.build import environment_of
from caft.trainers.config import TrainerConfig
from caft.trainers.devices import pick_device
from caft.trainers.distributed import Failure, Ranks, threads_of
from caft.trainers.heartbeat import Heartbeat, exchange_hosts
from caft.trainers.launched import GUIDE, Launch

log = logging.getLogger(__name__)
Progress = TypeVar("Progress")
Result = TypeVar("Result")

_POLL_SECONDS = 0.2
_MEETING_SECONDS = 600.0
_SHARED_SECONDS = 60.0
"""Seconds. A network file system may show a new file only after its cache's time."""
_FAREWELL_SECONDS = 10.0
_WORK_TIME = timedelta(days=7)
"""How long a process may wait for another: shares of a scoring pass end hours apart."""
_GRACE_SECONDS = 60.0
"""How long one may wait for another that is lost or asked to end."""
_STOP = "stop"
GOES_ON = "the same command on every node goes on from here"


@dataclass(frozen=True, slots=True)
class Node:
    """What has to be the same for all processes of a run, and the `host` that has it."""

    host: str
    code: str
    config: str
    device: str
    torch: str
    transformers: str

    @classmethod
    def here(cls, config: object, trainer: TrainerConfig | None) -> Node:
        """Those of this process; both are None where the config cannot be read."""
        files = sorted(Path(caft.__file__).parent.rglob("*.py"))
        code = digest([path.read_bytes().decode() for path in files])
        version = importlib.metadata.version
        try:
            device = pick_device(trainer) if trainer else ""
        except UserError as error:  # it has not as many, which would leave the others waiting
            device = str(error)
        return cls(
            socket.gethostname(),
            code,
            digest(config),
            device,
            version("torch"),
            version("transformers"),
        )

    def differences(self, other: Node) -> list[str]:
        """What is not as with another, by name."""
        mine, theirs = asdict(self), asdict(other)
        return [name for name in mine if name != "host" and mine[name] != theirs[name]]


class Group:
    """The processes of a launch, from one of them: messages, and work that they do together."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        _name_meeting(launch)
        meeting = rendezvous(
            "env://", launch.rank, launch.count, timeout=timedelta(seconds=_MEETING_SECONDS)
        )
        self._root, _, _ = next(iter(meeting))
        # One of another step of the job, which meets by chance at the same port, is not heard.
        step = os.environ["SLURM_STEP_ID"] if launch.launcher == "srun" else ""
        self._store = PrefixStore(f"caft{step}", self._root)
        self._orders = self._working = 0
        hosts = exchange_hosts(launch, self._store)
        self.life = Heartbeat(
            launch.rank, hosts, lambda: self._orders, self._is_left_behind, self._lose
        )

    # --- The leader's part ---

    def check(self, own: Node, folder: Path) -> None:
        """UserError if a follower has another commit or config, or does not see `folder`."""
        mark = folder / f".caft-nodes-{uuid.uuid4().hex}"
        mark.write_text("", encoding="utf-8")
        try:
            self._order("look", str(mark))
            for node, sees in (json.loads(each) for each in self._answers()):
                other = Node(**node)
                if differing := own.differences(other):
                    raise UserError(
                        f"the nodes of this run differ: {other.host} has another "
                        f"{' and '.join(differing)} than {own.host}; give every node the same "
                        f"commit, packages, devices and command, see {GUIDE}"
                    )
                if not sees:
                    raise UserError(
                        f"{other.host} does not see {folder}, where this run keeps its work; give "
                        f"a store.path that all nodes share, see {GUIDE}"
                    )
        finally:
            mark.unlink(missing_ok=True)

    def run(
        self,
        work: Callable[..., Result],
        arguments: Sequence[object],
        receive: Callable[[Progress], None],
        device: str,
    ) -> Result:
        """`work(ranks, receive, *arguments)` in all processes; the result of this one.

        As caft.trainers.distributed.run_ranks. The error of a follower is raised here.
        """
        threads = torch.get_num_threads()
        try:
            with self._stopping_others():
                self._heed_others()
                self._order("work", device)
                self._working = self._orders
                self._connect(device)
                distributed.broadcast_object_list([(work, tuple(arguments))], src=0)
                torch.set_num_threads(threads_of(self.launch.on_node))
                with ends_by_agreement():
                    result = work(self._ranks(), receive, *arguments)
                for _ in self._answers():
                    pass
        except SystemExit:
            self._heed_others()
            raise
        except RuntimeError as error:
            if not _lost_a_process(error):
                raise
            with suppress(distributed.DistError):  # the store may be lost, too
                self._raise_failure()
            end_if_asked()
            end_because(f"a process of this run was lost ({name_cause(error)}); {GOES_ON}")
        finally:
            self._working = 0
            torch.set_num_threads(threads)
        return result

    def end(self) -> None:
        """Let the followers go, while this process and its store are still there."""
        with suppress(RuntimeError):  # the store is gone, which ends them, too
            self._order("end", "")
            asked = [f"answer/{self._orders}/{rank}" for rank in range(1, self.launch.count)]
            deadline = time.monotonic() + _FAREWELL_SECONDS
            while not self._store.check(asked) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        if distributed.is_initialized():
            distributed.destroy_process_group()
        self.life.stop()

    def _order(self, kind: str, detail: str) -> None:
        self._orders += 1
        self._store.set(f"order/{self._orders}", json.dumps([kind, detail]))

    def _answers(self) -> Iterable[bytes]:
        """What each follower answered to the last order, by rank; raises the errors of any."""
        for rank in range(1, self.launch.count):
            key = f"answer/{self._orders}/{rank}"
            while not self._store.check([key]):
                self._heed_others()
                time.sleep(_POLL_SECONDS)
            yield self._store.get(key)

    def _heed_others(self) -> None:
        """Raises what ended a follower, or SystemExit where this process was asked to end."""
        self._raise_failure()
        end_if_asked()
        if self._store.check([_STOP]):
            raise UserError(f"another process of this run was asked to end; {GOES_ON}")

    def _raise_failure(self) -> None:
        for rank in range(1, self.launch.count):
            if self._store.check([f"failure/{rank}"]):
                failure: Failure = pickle.loads(
                    base64.b64decode(self._store.get(f"failure/{rank}"))
                )
                raise failure.restore()

    # --- A follower's part ---

    def follow(self, own: Node) -> int:
        """Do what the leader orders until it ends the run; the exit status."""
        try:
            with self._stopping_others():
                while (order := self._next_order())[0] != "end":
                    self._working = self._orders
                    self._answer(self._obey(own, *order))
                    self._working = 0
        except Exception as error:
            if _lost_a_process(error):
                raise
            return self._report(error)
        except SystemExit:
            self._outlast_leader()
            raise
        else:
            self._answer("")
            return DONE
        finally:
            self.life.stop()

    def _outlast_leader(self) -> None:
        """A launcher ends all once one has ended, and the leader, asked, too, may still save.

        Not in the middle of work, where the leader may wait for this process, which has left it.
        """
        if self._working:
            return
        deadline, key = time.monotonic() + _GRACE_SECONDS, f"order/{self._orders}"
        with suppress(RuntimeError), ends_by_itself():  # the store goes with the leader
            while not self._store.check([key]) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
            self._answer("")

    def _obey(self, own: Node, kind: str, detail: str) -> str:
        return self._look(own, Path(detail)) if kind == "look" else self._work(detail)

    def _answer(self, text: str) -> None:
        self._store.set(f"answer/{self._orders}/{self.launch.rank}", text)

    def _next_order(self) -> tuple[str, str]:
        self._orders += 1
        key = f"order/{self._orders}"
        while not self._store.check([key]):
            time.sleep(_POLL_SECONDS)
        kind, detail = json.loads(self._store.get(key))
        return kind, detail

    def _look(self, own: Node, mark: Path) -> str:
        deadline = time.monotonic() + _SHARED_SECONDS
        while not (sees := mark.is_file()) and time.monotonic() < deadline:
            if mark.parent.is_dir():
                os.listdir(mark.parent)  # so that a network file system reads the folder anew
            time.sleep(_POLL_SECONDS)
        return json.dumps([asdict(own), sees])

    def _work(self, device: str) -> str:
        self._connect(device)
        given: list[tuple[Callable[..., object], tuple[object, ...]]] = [(print, ())]
        distributed.broadcast_object_list(given, src=0)
        ((work, arguments),) = given
        torch.set_num_threads(threads_of(self.launch.on_node))
        with ends_by_agreement():
            work(self._ranks(), lambda _: None, *arguments)
        return ""

    def _report(self, error: Exception) -> int:
        if isinstance(error, UserError):
            say(f"process {self.launch.rank} on {socket.gethostname()}: {error}")
            return USER_MUST_ACT
        tell_error(Failure.of(self.launch.rank, error).traceback)
        return OUR_FAULT

    # --- Both ---

    def _is_left_behind(self, order: int) -> bool:
        """Whether the leader has given that order without waiting for what is worked on here."""
        return 0 < self._working < order

    def _lose(self, reason: str) -> None:
        """What the heartbeat does where a process is gone."""
        reason = f"{reason}; {GOES_ON}"
        working = self._working
        if self.launch.rank == 0:
            # As SIGTERM does: a step is saved, and replies that are under way are waited for.
            interrupt(reason)
            if not working or self.life.stops_within(_GRACE_SECONDS) or self._working != working:
                return
        # Nothing is left to do here but an exchange that NCCL would wait in for days.
        say(f"process {self.launch.rank} on {socket.gethostname()}: {reason}")
        os._exit(INTERRUPTED)

    def _ranks(self) -> Ranks:
        return Ranks(self.launch.rank, self.launch.count, self._asked_to_stop)

    def _asked_to_stop(self) -> bool:
        return was_signalled() or bool(self._store.check([_STOP]))

    @contextmanager
    def _stopping_others(self) -> Iterator[None]:
        """Whatever ends the work of one process ends that of the others after their step."""
        try:
            yield
        except BaseException as error:
            with suppress(RuntimeError):  # the store may be gone, too
                # One that has only lost another process does not know why.
                if self.launch.rank and isinstance(error, Exception) and not _lost_a_process(error):
                    failure = pickle.dumps(Failure.of(self.launch.rank, error))
                    text = base64.b64encode(failure).decode()
                    self._store.set(f"failure/{self.launch.rank}", text)
                self._store.set(_STOP, "1")
            raise

    def _connect(self, device: str) -> None:
        if distributed.is_initialized():
            return
        on_cuda = device == "cuda"
        own = self.launch.local_rank if on_cuda else None
        if own is not None:
            torch.cuda.set_device(own)
        distributed.init_process_group(
            "nccl" if on_cuda else "gloo",
            store=PrefixStore("work", self._root),
            rank=self.launch.rank,
            world_size=self.launch.count,
            timeout=_WORK_TIME,
            device_id=None if own is None else torch.device("cuda", own),
        )


def join(launch: Launch) -> Group:
    """The group of this process, met at the first call; UserError if not all of it came."""
    met = _meet(launch)
    if isinstance(met, UserError):
        raise met
    return met


@cache
def _meet(launch: Launch) -> Group | UserError:
    # Whoever did not come is not waited for once more.
    try:
        return Group(launch)
    except distributed.DistError as error:
        return UserError(
            f"not all {launch.count} processes of {launch.launcher} met within "
            f"{_MEETING_SECONDS:.0f} seconds ({name_cause(error)}); start the command on "
            f"every node, and see that they reach each other, see {GUIDE}"
        )


def _name_meeting(launch: Launch) -> None:
    environment = environment_of(launch)
    os.environ["MASTER_ADDR"] = environment.main_address
    os.environ["MASTER_PORT"] = str(environment.main_port)


def name_cause(error: Exception) -> str:
    """Torch's reason, such as "Connection closed by peer [10.0.0.7]:16305"."""
    return re.sub(r"^\[[^]]*\] ", "", first_line(error)).split(". ")[0]


def _lost_a_process(error: Exception) -> bool:
    if isinstance(error, distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and "gloo" in str(error)
