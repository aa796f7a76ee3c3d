"""An error in the process of any device is raised as what it was."""

from __future__ import annotations

import errno
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.hydra_bridge.running import end_on_signals
from caft.store import disk_may_be_full
from caft.trainers.distributed import Failure, Ranks, run_ranks

sys.path.insert(0, str(Path(__file__).parent))

from distributed_jobs import be_killed, fail, list_listeners


def run(what: str) -> Any:
    return run_ranks(fail, (what,), 2, lambda _: None)


def travel(what: str) -> Exception:
    """The error of the second process as the first one gets it, without starting either."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        fail(Ranks(rank=1), None, what)
    failure: Failure = pickle.loads(pickle.dumps(Failure.of(1, caught.value)))
    return failure.restore()


def test_a_full_disk_in_a_process_of_its_own_is_the_users_to_solve() -> None:
    with (
        pytest.raises(UserError, match=r"/the/store: No space left on device; make room") as caught,
        disk_may_be_full(Path("/the/store"), "make room"),
    ):
        run("full")
    cause = caught.value.__cause__
    assert isinstance(cause, OSError)
    assert (cause.errno, cause.filename) == (errno.ENOSPC, "/a/journal")
    assert "in the process of device 1:" in cause.__notes__[0]
    assert "distributed_jobs.py" in cause.__notes__[0]


def test_another_error_of_the_system_keeps_its_class() -> None:
    error = travel("missing")
    assert isinstance(error, FileNotFoundError)
    assert "/no/such/file" in str(error)


def test_any_other_error_comes_with_the_childs_traceback() -> None:
    error = travel("a test")
    assert isinstance(error, RuntimeError)
    assert str(error) == "the process of device 1: UnpicklableError: broken by a test"
    (note,) = error.__notes__
    assert note.startswith("in the process of device 1:\nTraceback (most recent call last):")
    assert "in fail\n    raise UnpicklableError(what)\n" in note


def test_a_process_that_only_exits_is_named_with_its_status() -> None:
    with pytest.raises(RuntimeError, match=r"the process of device 1 ended with status 7"):
        run("exit")


@pytest.mark.slow
def test_a_process_that_was_killed_is_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    status = end_on_signals(lambda _: run_ranks(be_killed, (), 2, lambda _: None), "unused advice")
    lines = capsys.readouterr().err.splitlines()
    assert (status, len(lines)) == (143, 1)
    assert "the process of device 1 was killed (SIGKILL)" in lines[0]
    assert "the same command goes on from here" in lines[0]


def test_processes_of_one_machine_listen_to_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    listeners = run_ranks(list_listeners, (), 2, lambda _: None)
    assert len(listeners) == 2
    assert {address for own in listeners for address in own} <= {"127.0.0.1", "::1"}
    # Where they met is taken away.
    assert not list(tmp_path.iterdir())
