"""Several devices: one process a device, started by us, and what they tell each other.

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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing
from torch.distributed import FileStore  # type: ignore[attr-defined]

from caft.errors import UserError

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 60.0


def nobody_asks() -> bool:
    """The answer to "is the work to stop?" where nobody can ask."""
    return False


@dataclass(frozen=True)
class Ranks:
    """The processes that share this work, as one of them sees it; a single one by default."""

    rank: int = 0
    count: int = 1
    asked_to_stop: Callable[[], bool] = field(default=nobody_asks)

    @property
    def share(self) -> slice:
        """Which of a list's items are this process's."""
        return slice(self.rank, None, self.count)

    def add(self, *numbers: float) -> list[float]:
        """Each number summed over all processes, in float64."""
        if self.count == 1:
            return list(numbers)
        values = torch.tensor(numbers, dtype=torch.float64, device=self._device)
        distributed.all_reduce(values)
        return [float(value) for value in values]

    def add_gradients(self, weights: Iterable[torch.nn.Parameter]) -> None:
        """Sum the gradients of all processes in place; one that had no rows adds nothing."""
        if self.count == 1:
            return
        for weight in weights:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            distributed.all_reduce(weight.grad)

    def gather(self, value: torch.Tensor) -> list[torch.Tensor]:
        """Everybody's `value`, a tensor on the CPU, by rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        distributed.all_gather_object(values, value)
        return values

    @property
    def _device(self) -> str:
        return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def run_ranks(
    work: Callable[..., Any],
    arguments: Sequence[Any],
    count: int,
    receive: Callable[[Any], None],
    device: str = "cpu",
) -> Any:
    """`work(ranks, tell, *arguments)` in `count` processes; the result of the first of them.

    They work on this machine's devices of the kind `device`, cpu or cuda. Everything picklable;
    what the first process passes to `tell` arrives at `receive`, and its log lines in this
    process's log. The first error of any of them is raised here: a UserError and an error of the
    system as such, any other as a RuntimeError; its note is the child's traceback. When this
    process is asked to end, the others are asked to stop, and waited for.
    """
    context = multiprocessing.get_context("spawn")
    outbox, stop = context.Queue(), context.Event()
    # They find each other by a file: what torch has for that otherwise listens to every network.
    meeting = Path(tempfile.mkdtemp(prefix="caft-ranks-"))
    processes = [
        context.Process(
            target=_enter,
            args=(_Place(rank, count, device, meeting), outbox, stop, work, tuple(arguments)),
        )
        for rank in range(count)
    ]
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


def _listen(processes: Sequence[Any], outbox: Any, receive: Callable[[Any], None]) -> Any:
    while True:
        try:
            kind, message = outbox.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            for rank, process in enumerate(processes):
                if process.exitcode not in (None, 0):
                    raise RuntimeError(
                        f"the process of device {rank} ended with status {process.exitcode}"
                    ) from None
            continue
        if kind == "result":
            for process in processes:
                process.join()
            return message
        if kind == "failure":
            raise message.restore()
        _pass_on(kind, message, receive)


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error that ended a child's work, in parts that travel: errors themselves may not."""

    message: str
    traceback: str
    by_user: bool = False
    system: tuple[int, str | None, Any] | None = None

    @classmethod
    def of(cls, rank: int, error: Exception) -> _Failure:
        """What the process of device `rank` has to say of its error."""
        told = f"in the process of device {rank}:\n{''.join(traceback.format_exception(error))}"
        if isinstance(error, UserError):
            return cls(str(error), told, by_user=True)
        if isinstance(error, OSError) and error.errno is not None:
            return cls(str(error), told, system=(error.errno, error.strerror, error.filename))
        return cls(f"the process of device {rank}: {type(error).__name__}: {error}", told)

    def restore(self) -> Exception:
        """The same kind of error, with the child's traceback as its note."""
        error = (
            UserError(self.message)
            if self.by_user
            else OSError(*self.system)
            if self.system
            else RuntimeError(self.message)
        )
        error.add_note(self.traceback)
        return error


def _let_finish(processes: Sequence[Any], outbox: Any, receive: Callable[[Any], None]) -> None:
    """Hear them out: a process ends only when what it has put into its outbox is taken."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        ended = not any(process.is_alive() for process in processes)
        try:
            kind, message = outbox.get(timeout=_POLL_SECONDS)
        except queue.Empty:
            if ended:
                return
        else:
            _pass_on(kind, message, receive)


def _pass_on(kind: str, message: Any, receive: Callable[[Any], None]) -> None:
    if kind == "log":
        logging.getLogger(message.name).handle(message)
    elif kind == "told":
        receive(message)


@dataclass(frozen=True, slots=True)
class _Place:
    """Which one of the processes this is, and the folder where they find each other."""

    rank: int
    count: int
    device: str
    meeting: Path

    def join(self) -> None:
        """Meet the others. Lightning, which would open a port for it, finds it done."""
        loopback = _name_loopback()
        if loopback:
            # Both listen where the host's name leads, which is the network.
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


def _name_loopback() -> str:
    names = [name for _, name in socket.if_nameindex()]
    return next((name for name in names if name.rstrip("0") == "lo"), "")


def _enter(
    place: _Place,
    outbox: Any,
    stop: Any,
    work: Callable[..., Any],
    arguments: Sequence[Any],
) -> None:
    rank, count = place.rank, place.count
    # The first process decides when to stop; a signal in the middle of an exchange would leave
    # the others waiting.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    os.environ.update(LOCAL_RANK=str(rank), NODE_RANK="0")
    _speak_through(outbox if rank == 0 else None)
    parent = os.getppid()
    torch.set_num_threads(max(1, torch.get_num_threads() // count))
    if rank < torch.cuda.device_count():  # processes on a CPU may outnumber the accelerators
        torch.cuda.set_device(rank)

    def asked_to_stop() -> bool:
        if os.getppid() != parent:
            os._exit(1)
        return bool(stop.is_set())

    def tell(message: Any) -> None:
        if rank == 0:
            outbox.put(("told", message))

    try:
        place.join()
        result = work(Ranks(rank, count, asked_to_stop), tell, *arguments)
        if rank == 0:
            outbox.put(("result", result))
    except Exception as error:
        outbox.put(("failure", _Failure.of(rank, error)))
        # Until it is on its way: the others fail, too, once they miss this process.
        outbox.close()
        outbox.join_thread()
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _speak_through(outbox: Any) -> None:
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    if outbox is None:
        root.handlers[:] = [logging.NullHandler()]
        return

    class Forwarder(logging.handlers.QueueHandler):
        def enqueue(self, record: logging.LogRecord) -> None:
            outbox.put(("log", record))

    root.handlers[:] = [Forwarder(outbox)]
