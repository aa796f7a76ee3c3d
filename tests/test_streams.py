"""Printing ends no work: a reader that has left, a full disk, letters that ASCII lacks."""

from __future__ import annotations

import io
import logging
import os
from pathlib import Path

import pytest

from caft.hydra_bridge.run_log import RunLog
from caft.streams import LenientStream

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


def test_a_closed_pipe_is_silence() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    other = io.StringIO()
    with os.fdopen(writer, "w") as pipe:
        stream = LenientStream(pipe, "standard output", other)
        stream.write("one")
        stream.flush()
        stream.writelines(["two", "three"])
        stream.flush()
        # Closing flushes once more, and would raise if the end were still that pipe.
    assert not other.getvalue()


@needs_full
def test_a_full_disk_is_reported_once() -> None:
    other = io.StringIO()
    with FULL.open("w") as file:
        stream = LenientStream(file, "standard output", other)
        for _ in range(3):
            stream.write("one")
            stream.flush()
    assert other.getvalue().startswith("standard output is lost from here on: No space left")
    assert other.getvalue().count("\n") == 1


def test_letters_that_an_encoding_lacks_are_question_marks() -> None:
    raw = io.BytesIO()
    stream = LenientStream(io.TextIOWrapper(raw, encoding="ascii"), "standard output")
    stream.write("é✓ ok")
    stream.flush()
    assert raw.getvalue() == b"?? ok"


@needs_full
def test_a_log_on_a_full_disk_is_reported_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    handler = RunLog(FULL, mode="w")
    for _ in range(3):
        handler.emit(logging.makeLogRecord({"msg": "hello"}))
    assert capsys.readouterr().err == ""
    # Closing writes what is left, which fails as well.
    with pytest.raises(OSError, match="No space"):
        handler.close()
    said = "/dev/full is incomplete: No space left on device; make room there\n"
    assert capsys.readouterr().err == said
    handler.close()
    assert capsys.readouterr().err == ""


@needs_full
def test_a_run_that_ends_in_an_error_says_that_alone(capsys: pytest.CaptureFixture[str]) -> None:
    handler = RunLog(FULL, mode="w")
    handler.emit(logging.makeLogRecord({"msg": "hello"}))
    handler.emit(logging.makeLogRecord({"name": "caft.outcome", "msg": "told by the run itself"}))
    with pytest.raises(OSError, match="No space"):
        handler.close()
    assert capsys.readouterr().err == ""
