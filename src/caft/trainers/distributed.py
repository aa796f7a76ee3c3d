"""Several devices: one process for each, started by us, and their communication.

Lightning's own launcher starts its children by replaying this process's command line, which under
a sweep walks the sweep again in every child. Here the children are spawned with a function and
its arguments; Lightning finds them started and starts none.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import queue
import shutil
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import queues, synchronize
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

import torch
from torch import distributed, multiprocessing
from torch.distributed import FileStore  # type: ignore[attr-defined]
from torch.distributed.tensor import DTensor

from caft.errors import UserError, count_of
from caft.signals import ENDING, end_because

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 60.0

Progress = TypeVar("Progress")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Ranks:
    """The processes that share this work, seen from one of them; a single one by default."""

    rank: int = 0
    count: int = 1
    asked_to_stop: Callable[[], bool] = lambda: False

    @property
    def share(self) -> slice:
        """Which of a list's items are this process's."""
        return slice(self.rank, None, self.count)

    def add(self, *numbers: float) -> list[float]:
        """Each number summed over all processes, in float64."""
        if self.count == 1:
            return list(numbers)
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        values = torch.tensor(numbers, dtype=torch.float64, device=device)
        distributed.all_reduce(values)
        return [float(value) for value in values]

    def most(self, number: int) -> int:
        """The largest number of any process."""
        return max(int(each) for each in self.gather(torch.tensor(number)))

    def add_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients of all processes in place; one that had no rows adds nothing."""
        if self.count == 1:
            return
        for weight in weights:
            if isinstance(weight, DTensor):
                continue  # summed and divided in the backward pass
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            distributed.all_reduce(weight.grad)

    def gather(self, value: torch.Tensor) -> list[torch.Tensor]:
        """The `value` of every process, a tensor on the CPU, by rank."""
        values = [value] * self.count
        if self.count > 1:
            distributed.all_gather_object(values, value)
        return values


# --- What a process sends to the one that started it ----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Progress(Generic[Progress]):
    value: Progress


@dataclass(frozen=True, slots=True)
class _Result(Generic[Result]):
    value: Result


@dataclass(frozen=True, slots=True)
class Failure:
    """An error that ended a process's work, in parts that can be pickled: errors may not be."""

    kind: type[Exception]
    arguments: tuple[object, ...]
    traceback: str

    @classmethod
    def of(cls, rank: int, error: Exception) -> Failure:
        """A UserError and an error of the system stay what they are; others are a RuntimeError."""
        process = f"the process of device {rank}"
        text = f"in {process}:\n{''.join(traceback.format_exception(error))}"
        if isinstance(error, UserError):
            return cls(UserError, (str(error),), text)
        if isinstance(error, OSError) and error.errno is not None:
            return cls(OSError, (error.errno, error.strerror, error.filename), text)
        return cls(RuntimeError, (f"{process}: {type(error).__name__}: {error}",), text)

    def restore(self) -> Exception:
        """The error, with the process's traceback as its note."""
        error = self.kind(*self.arguments)
        error.add_note(self.traceback)
        return error


_Message: TypeAlias = logging.LogRecord | _Progress[Progress] | _Result[Result] | Failure
_Outbox: TypeAlias = "queues.Queue[_Message[Progress, Result]]"


def threads_of(count: int) -> int:
    """The threads of each of `count` processes that share those of one; torch's, on the CPU."""
    return max(1, torch.get_num_threads() // count)


def describe_threads(count: int) -> str:
    """Such as "4 threads", or "2 processes with 2 threads each"."""
    named = count_of(threads_of(count), "thread")
    return f"{count} processes with {named} each" if count > 1 else named


# --- In the process that starts the others --------------------------------------------------------


def run_ranks(
    work: Callable[..., Result],
    arguments: Sequence[object],
    count: int,
    receive: Callable[[Progress], None],
    device: str = "cpu",
) -> Result:
    """`work(ranks, report, *arguments)` in `count` processes; the result of the first of them.

    They work on this machine's devices of the kind `device`, cpu or cuda. Everything picklable;
    what the first process passes to `report` arrives at `receive`, and its log lines in this
    process's log. The first error of any of them is raised here: a UserError and an error of the
    system as such, any other as a RuntimeError; its note is the process's traceback. When this
    process is signalled to end, or one of them was killed, it asks the others to stop, and waits
    for them.
    """
    context = multiprocessing.get_context("spawn")
    outbox: _Outbox[Progress, Result] = context.Queue()
    stop = context.Event()
    # They find each other by a file: torch's alternative listens on every network.
    meeting = Path(tempfile.mkdtemp(prefix="caft-ranks-"))
    members = [_Member(rank, count, device, meeting, outbox, stop) for rank in range(count)]
    processes = [context.Process(target=member.run, args=(work, *arguments)) for member in members]
    for process in processes:
        process.start()
    try:
        return _listen(processes, outbox, receive)
    except (SystemExit, KeyboardInterrupt):
        stop.set()
        _let_finish(processes, outbox, receive)
        raise
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
            process.join()
        shutil.rmtree(meeting, ignore_errors=True)


def _listen(
    processes: Sequence[BaseProcess],
    outbox: _Outbox[Progress, Result],
    receive: Callable[[Progress], None],
) -> Result:
    while True:
        try:
            message = outbox.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            for rank, process in enumerate(processes):
                if process.exitcode == -signal.SIGKILL:
                    end_because(
                        f"the process of device {rank} was killed (SIGKILL), perhaps for want of "
                        "memory; the same command goes on from here"
                    )
                if process.exitcode not in (None, 0):
                    raise RuntimeError(
                        f"the process of device {rank} ended with status {process.exitcode}"
                    ) from None
            continue
        if isinstance(message, _Result):
            for process in processes:
                process.join()
            return message.value
        if isinstance(message, Failure):
            raise message.restore()
        _pass_on(message, receive)


def _let_finish(
    processes: Sequence[BaseProcess],
    outbox: _Outbox[Progress, Result],
    receive: Callable[[Progress], None],
) -> None:
    """A process ends only after its outbox has been read."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        ended = not any(process.is_alive() for process in processes)
        try:
            _pass_on(outbox.get(timeout=_POLL_SECONDS), receive)
        except queue.Empty:
            if ended:
                return


def _pass_on(message: _Message[Progress, Result], receive: Callable[[Progress], None]) -> None:
    if isinstance(message, logging.LogRecord):
        logging.getLogger(message.name).handle(message)
    elif isinstance(message, _Progress):
        receive(message.value)


# --- In each of the processes ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Member(Generic[Progress, Result]):
    """One of the processes. `meeting` is the folder where they find each other."""

    rank: int
    count: int
    device: str
    meeting: Path
    outbox: _Outbox[Progress, Result]
    stop: synchronize.Event

    def run(self, work: Callable[..., Result], *arguments: object) -> None:
        """What the process does from its start to its end."""
        # The first process decides when to stop; a signal in the middle of an exchange would leave
        # the others waiting.
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        # Lightning reads them.
        os.environ.update(LOCAL_RANK=str(self.rank), NODE_RANK="0")
        self._send_log()
        parent = os.getppid()
        torch.set_num_threads(threads_of(self.count))
        if self.rank < torch.cuda.device_count():  # processes on a CPU may outnumber accelerators
            torch.cuda.set_device(self.rank)

        def asked_to_stop() -> bool:
            if os.getppid() != parent:
                os._exit(1)
            return self.stop.is_set()

        def report(value: Progress) -> None:
            if self.rank == 0:
                self.outbox.put(_Progress(value))

        try:
            self._meet()
            result = work(Ranks(self.rank, self.count, asked_to_stop), report, *arguments)
            if self.rank == 0:
                self.outbox.put(_Result(result))
        except Exception as error:
            self.outbox.put(Failure.of(self.rank, error))
            # Wait until it is sent: the others fail, too, when this process is gone.
            self.outbox.close()
            self.outbox.join_thread()
        finally:
            if distributed.is_initialized():
                distributed.destroy_process_group()

    def _send_log(self) -> None:
        root = logging.getLogger()
        root.setLevel(logging.INFO)
        logging.captureWarnings(True)
        is_first = self.rank == 0
        sender = logging.handlers.QueueHandler(self.outbox) if is_first else logging.NullHandler()
        root.handlers[:] = [sender]

    def _meet(self) -> None:
        # Lightning, which would open a port for it, finds it done.
        names = [name for _, name in socket.if_nameindex()]
        loopback = next((name for name in names if name.rstrip("0") == "lo"), "")
        if loopback:
            # Both would listen at the host name's address, which is on the network.
            os.environ["GLOO_SOCKET_IFNAME"] = loopback
            os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
        on_cuda = self.device == "cuda"
        distributed.init_process_group(
            "nccl" if on_cuda else "gloo",
            store=FileStore(str(self.meeting / "store"), self.count),
            rank=self.rank,
            world_size=self.count,
            device_id=torch.device("cuda", self.rank) if on_cuda else None,
        )
