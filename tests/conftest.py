"""What holds for every test process."""

from __future__ import annotations

import gc
import os
import signal

import pytest

# A shell starts background jobs with SIGINT ignored, and every child inherits that: a command
# under test would then, rightly, not hear its Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads of tiny models only wait for each other, and beside other work for seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# On a busy machine W&B's service takes longer to start than the 30 seconds it is given.
os.environ.setdefault("WANDB__SERVICE_WAIT", "300")


@pytest.fixture(scope="module", autouse=True)
def _spare_imports() -> None:
    """Full collections, which runs ask for, look at the present file's objects only.

    At a million objects of imported packages they would be most of the time of a small run.
    """
    gc.collect()
    gc.freeze()
