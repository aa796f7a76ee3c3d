"""`transformers serve` on loopback: the real protocol, of a model in a folder."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def serve(model: Path, cache: Path) -> Iterator[str]:
    """The address of the server, which ends with the context."""
    if importlib.util.find_spec("uvicorn") is None:
        pytest.skip("transformers[serving] is not installed: pip install -e '.[serving]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program = "from transformers.cli.transformers import main; main()"
    with subprocess.Popen(
        [sys.executable, "-c", program, "serve", str(model), "--host", "127.0.0.1", "--port", port],
        # The server answers 500 to a list of models where its cache folder does not exist.
        env={**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as server:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", server)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            server.terminate()


def _wait_for(address: str, server: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(1)
    raise AssertionError("the server did not answer within four minutes")
