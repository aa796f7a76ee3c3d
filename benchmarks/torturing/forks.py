"""Commands in forked children of this process, which has imported everything: cheap to kill."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fake_server import FakeServer

from caft.hydra_bridge import main
from caft.pipeline import run_pipeline
from front_door import ARITHMETIC, call

TINY = (
    *ARITHMETIC,
    "trainer.progress=false",
    # What draws pages starts threads, which a child of this process would wait for in vain.
    "report.html=false",
)
AT_ONCE = 8
TEACHER = (
    "teacher=openai",
    "teacher.model=fake",
    "teacher.keep=all",
    "teacher.backoff_seconds=0.01",
    f"teacher.concurrency={AT_ONCE}",
    # Many small steps, each with a checkpoint: resuming is what is tried.
    "tuning.checkpoint_seconds=0",
)
_SECONDS = 300
_ENDS = (signal.SIGTERM, signal.SIGINT)


@dataclass(frozen=True)
class Child:
    """A forked process whose output goes to the file `told`, what is wrong perhaps to `errors`."""

    pid: int
    told: Path
    errors: Path

    def ended(self) -> int | None:
        """Its exit status, negative after a signal that it did not catch; None while it runs."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self) -> int:
        """Its exit status; TimeoutError after five minutes, and it is killed."""
        end = time.monotonic() + _SECONDS
        while (status := self.ended()) is None:
            if time.monotonic() > end:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                raise TimeoutError(self.told.read_text(errors="replace")[-500:])
            time.sleep(0.01)
        return status

    def runs_after(self, seconds: float) -> bool:
        """Wait so long; False as soon as it has ended by itself."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.ended() is not None:
                return False
            time.sleep(0.002)
        return True

    def kill_after(self, seconds: float, number: int) -> int | None:
        """Its exit status after the signal; None if it had ended by itself before."""
        if not self.runs_after(seconds):
            return None
        os.kill(self.pid, number)
        return self.wait()

    def last_line(self) -> str:
        """What it said last, of what is wrong."""
        lines = self.errors.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def fork(work: Callable[[], int], folder: Path, told: Path, errors: Path | None = None) -> Child:
    """Run `work` in a child, in `folder`; its result is the exit status.

    A signal ends the child with the shell's status, as it does a command that does not listen yet,
    or no more; none finds it with its parent's handlers.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    if pid := os.fork():
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return Child(pid, told, errors or told)
    for number in _ENDS:
        signal.signal(number, lambda number, _: os._exit(128 + number))
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    status = 1
    try:
        _close_connections()
        for number, file in ((1, told), (2, errors or told)):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
        os.chdir(folder)
        status = work()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()  # as at the end of an interpreter
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def time_whole(start: Callable[[], Child]) -> float:
    """Seconds that a command takes which nobody kills, and which has to end well."""
    began = time.monotonic()
    child = start()
    assert child.wait() == 0, child.last_line()
    return time.monotonic() - began


def _close_connections() -> None:
    """A server's end of a connection that a child has open, too, would never be seen closing."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                found = socket.socket(fileno=int(name))
                found.close() if found.family == socket.AF_INET else found.detach()


def import_everything(folder: Path) -> None:
    """One run in this process, whose children then import nothing."""
    places = [f"store.path={folder}/store", f"hydra.run.dir={folder}/out"]
    with FakeServer() as server:
        teacher = [*TEACHER, f"teacher.base_url={server.base_url}"]
        status, _, said = call([*TINY, *teacher, "method=distill", *places])
    assert status == 0, said
    import altair  # noqa: F401
    import vl_convert  # noqa: F401

    # A child's collections would copy all that was imported: half of its time.
    gc.collect()
    gc.freeze()


def fork_command(words: Sequence[str], folder: Path) -> Child:
    """`python train.py WORDS` in `folder`, in a child."""
    return fork(lambda: main(run_pipeline, list(words)), folder, folder / "told")
