"""The teacher's progress reaches the log too: nobody watches a bar overnight."""

import logging

import pytest
from rich.progress import Progress

from caft.pipeline import teaching
from caft.pipeline.teaching import AskingBar
from caft.teachers.progress import AskProgress


def told(done: int, total: int = 10, failed: int = 0) -> AskProgress:
    return AskProgress(done=done, total=total, calls=done, usd=0.5, seconds=4.0, failed=failed)


def test_a_line_now_and_then_and_one_at_the_end_of_every_attempt(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bar = Progress(disable=True)
    asking = AskingBar(bar)
    asking.show(told(2))
    assert not caplog.messages
    monkeypatch.setattr(teaching, "LINE_SECONDS", -1.0)
    asking.show(told(4))
    assert caplog.messages == [
        "teacher: 4/10 replies, 0 from the ledger, 1.0/s, 0.5000 USD, 6 s left"
    ]
    monkeypatch.undo()
    caplog.set_level(logging.INFO)
    asking.show(told(10))
    asking.show(told(10))  # once for the reply and once for the attempt
    asking.show(told(3, total=3))
    assert [line.split(" replies")[0] for line in caplog.messages[1:]] == [
        "teacher: 10/10",
        "teacher: 3/3",
    ]
    assert (bar.tasks[0].completed, bar.tasks[0].total) == (3, 3)


def test_requests_without_a_reply_are_not_called_refused() -> None:
    bar = Progress(disable=True)
    AskingBar(bar).show(told(4, failed=2))
    assert bar.tasks[0].description.endswith("USD, 2 without a reply")
