"""What holds for every test process."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

# Imports and collecting make a million objects that stay; `_spare_imports` ends this.
gc.disable()

# A shell starts background jobs with SIGINT ignored, and every child inherits that: a command
# under test would then, rightly, not hear its Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Threads of tiny models only wait for each other, and beside other work for seconds.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Nothing is compiled here, and bitsandbytes would import the compiler into every process: 1.4 s.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

# On a busy machine W&B's service takes longer to start than the 30 seconds it is given.
os.environ.setdefault("WANDB__SERVICE_WAIT", "300")


@pytest.fixture(scope="module", autouse=True)
def _spare_imports() -> None:
    """Full collections, which runs ask for, look at the present file's objects only.

    At the million of imported packages they would be most of the time of a small run.
    """
    gc.enable()
    gc.collect()
    gc.freeze()


@pytest.fixture
def server() -> Iterator[Any]:
    """A teacher on loopback that is always wrong unless told what to write."""
    from fake_server import FakeServer

    with FakeServer() as running:
        yield running


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """A student on the CPU by the settings of its tiny model, in float32 unless they say so.

    Each model is written once a session.
    """
    cache = str(tmp_path_factory.mktemp("tiny"))

    def open_student(**settings: Any) -> Any:
        from caft.models.config import Dtype, TinyModelConfig
        from caft.models.sources.locate import locate_model
        from caft.models.student import Student

        usual = {"name": "tiny", "id": "tiny", "dtype": Dtype.float32, "cache": cache}
        config = TinyModelConfig(**{**usual, **settings})
        return Student(config, locate_model(config), "cpu")

    return open_student
