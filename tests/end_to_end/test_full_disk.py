"""A disk that fills up while the run's folder is written costs no stage."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Beyond `size` bytes the system refuses to write, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_it_is_said_in_one_line_and_the_same_command_goes_on(
    shared: Any, whole_run: Any, small: Any
) -> None:
    words = (*small.words, small.two_stages, "tuning.merge=true")
    adapter = whole_run.folder / "adapter" / "adapter_model.safetensors"
    assert 100_000 < adapter.stat().st_size < 300_000
    for size, last in ((100_000, "adapter"), (300_000, "merged")):
        with largest_file(size):
            run = shared.run(*words)
        assert run.status == 2
        # Saving a whole model draws a bar before.
        line = run.err.splitlines()[-1]
        assert f"what was made cannot be written to {run.folder}: File too large; make room" in line
        assert (run.folder / last).exists()
        assert not (run.folder / "summary.json").exists()
    for size in (3_000, 20_000):
        with largest_file(size):
            run = shared.run(*words)
        assert run.status == 2
        # Neither the log nor the metrics, which found no room either, speak over it.
        assert str(run.folder) in run.err.splitlines()[-1]
        assert "cannot be written" in run.err.splitlines()[-1]
        assert "make room there" in run.err.splitlines()[-1]
        assert "Traceback" not in run.err + run.out
        assert len(run.err.splitlines()) < 10
    again = shared.run(*words)
    assert again.status == 0, again.err
    assert again.cached == again.stages
    assert (again.folder / "merged" / "model.safetensors").exists()
