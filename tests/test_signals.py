"""Signals are remembered, also while Lightning has them."""

from __future__ import annotations

import os
import signal
import time
from types import FrameType

import pytest

from caft.signals import (
    asked_to_end,
    end_as_asked,
    end_if_asked,
    ends_by_agreement,
    ends_by_itself,
    say,
    take_signals_back,
    was_signalled,
    watch_signals,
)


def test_a_signal_ends_the_block_and_the_handler_goes_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, watch_signals() as caught:
        os.kill(os.getpid(), signal.SIGTERM)
    assert (ended.value.code, caught.status, caught.name) == (143, 143, "SIGTERM")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_schedulers_warning_ends_the_block_as_sigterm_does(number: signal.Signals) -> None:
    signal.signal(number, signal.SIG_DFL)  # a job that another test ran may ignore it
    with pytest.raises(SystemExit) as ended, watch_signals() as caught:
        os.kill(os.getpid(), number)
    assert (ended.value.code, caught.status, caught.name) == (143, 143, number.name)
    with watch_signals(), ends_by_itself():
        os.kill(os.getpid(), number)
        assert asked_to_end()
        os.kill(os.getpid(), signal.SIGTERM)


def test_whoever_takes_a_signal_over_ends_in_their_own_time() -> None:
    # Lightning does this: its handler calls the one it found, and raises after the batch.
    with watch_signals() as caught:
        ours = signal.getsignal(signal.SIGTERM)
        assert callable(ours)

        def theirs(number: int, frame: FrameType | None) -> None:
            ours(number, frame)

        signal.signal(signal.SIGTERM, theirs)
        os.kill(os.getpid(), signal.SIGTERM)
        finished_the_batch = True
    assert finished_the_batch
    assert caught.status == 143


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_work_that_ends_by_itself_is_asked_and_not_torn(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with watch_signals() as caught, ends_by_itself():
        assert not asked_to_end()
        os.kill(os.getpid(), number)
        assert asked_to_end()
        # A cluster may repeat itself.
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught.name == "SIGTERM"
        with pytest.raises(SystemExit):
            end_if_asked()
        # A person who presses Ctrl-C again means it.
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert capfd.readouterr().err.count("stopping after this step") == 1


def test_work_that_processes_share_is_left_by_agreement_only(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with watch_signals(), ends_by_agreement():
        os.kill(os.getpid(), signal.SIGTERM)
        assert was_signalled()
        end_if_asked()  # a part that knows only its own process
        assert not asked_to_end()
    assert capfd.readouterr().err.count("stopping when all") == 1


def test_work_of_known_length_may_be_ended_by_a_second_signal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with watch_signals(), ends_by_itself(b"waiting\n", second_ends=True):
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] += 0.1  # timeout(1) sends it to the process, and then to its group
        os.kill(os.getpid(), signal.SIGTERM)
        now[0] += 1.0
        with pytest.raises(SystemExit) as ended:
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended.value.code == 143
    assert capfd.readouterr().err == "waiting\n"


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)]
)
def test_what_was_noted_is_raised_in_the_end(
    number: signal.Signals, raised: type[BaseException]
) -> None:
    with watch_signals(), ends_by_itself():
        end_as_asked()
        os.kill(os.getpid(), number)
        with pytest.raises(raised) as ended:
            end_as_asked()
        assert raised is KeyboardInterrupt or ended.value.args == (143,)


def test_signals_are_taken_back_from_a_library() -> None:
    with watch_signals() as caught:
        signal.signal(signal.SIGTERM, lambda *_: None)
        os.kill(os.getpid(), signal.SIGTERM)
        assert caught.number is None
        take_signals_back()
        with pytest.raises(SystemExit):
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_python_cleans_up_ends_the_block_too(number: signal.Signals) -> None:
    """Python drops what is raised in a finalizer, and a signal may come just then."""
    going_on = []

    class Cleaned:
        def __del__(self) -> None:
            os.kill(os.getpid(), number)
            going_on.append("a moment in which the handler runs")

    def work() -> None:
        Cleaned()
        going_on.append("as if nothing had happened")
        time.sleep(30)

    with pytest.raises((SystemExit, KeyboardInterrupt)), watch_signals() as caught:
        work()
    assert going_on == ["as if nothing had happened"]
    assert caught.number == number


def test_an_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with watch_signals() as caught:
            os.kill(os.getpid(), signal.SIGINT)
        assert caught.number is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_message_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    say("two\n  lines")
    assert capsys.readouterr().err == "two lines\n"
