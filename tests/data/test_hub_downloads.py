"""Downloads that end early are gone on with, and never taken for whole. A fake hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "c0ffee" * 6 + "abcd"
FILES = ("train_0.jsonl", "train_1.jsonl", "train_2.jsonl")
LOAD = """
import sys
from caft.data import hub_table, load_questions
from caft.data.config import ColumnsConfig, HubConfig
from caft.errors import UserError
hub_table.SECONDS_TO_ANSWER = 60.0  # a busy machine takes longer than a user is made to wait
config = HubConfig(name="hub", id="fake/sums", revision=sys.argv[1])
config.columns = ColumnsConfig(options=None)
try:
    splits = load_questions(config)
    print(sum(len(part) for _, part in splits.parts()))
except UserError as error:
    print(error)
"""
WHOLE = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("fake/sums", repo_type="dataset", revision=sys.argv[1])
"""


class FakeHub(ThreadingHTTPServer):
    """Has one dataset of three files, with 10 questions each; answers 500 for `broken`."""

    broken = ""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/api/datasets/fake/sums/tree/"):
            files = [{"type": "file", "path": f, "size": len(rows(f)), "oid": f} for f in FILES]
            self.reply(files)
        elif path.startswith("/api/datasets/fake/sums"):
            siblings = [{"rfilename": file} for file in (*FILES, "README.md")]
            self.reply({"id": "fake/sums", "sha": COMMIT, "siblings": siblings})
        elif name in FILES and name != self.server.broken:
            self.send(200, rows(name), {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})
        else:
            self.send(403, b"{}", {})

    def reply(self, value: object) -> None:
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def rows(name: str) -> bytes:
    first = 10 * FILES.index(name)
    lines = [
        {"question": f"What is {n} and 1?", "answer": str(n + 1)} for n in range(first, first + 10)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def call(code: str, hub: FakeHub, home: Path, revision: str, **more: str) -> str:
    # A process of its own: the hub client reads its environment once, when it is imported.
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("HF_", "HUGGING")) and not name.lower().endswith("_proxy")
    }
    env = {**kept, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **more}
    env["HF_ENDPOINT"] = f"http://127.0.0.1:{hub.server_port}"
    command = [sys.executable, "-c", code, revision]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_an_unfinished_download_is_finished_and_then_read_offline(
    tmp_path: Path, hub: FakeHub, revision: str
) -> None:
    hub.broken = FILES[1]
    assert "cannot be loaded from the hub" in call(LOAD, hub, tmp_path, revision)
    assert list(tmp_path.rglob(f"snapshots/*/{FILES[0]}"))
    offline = call(LOAD, hub, tmp_path, revision, HF_HUB_OFFLINE="1")
    assert "cannot be loaded from the hub" in offline
    hub.broken = ""
    assert call(LOAD, hub, tmp_path, revision) == "30"
    assert call(LOAD, hub, tmp_path, revision, HF_HUB_OFFLINE="1") == "30"


def test_what_the_hubs_own_tool_has_downloaded_is_read_offline(
    tmp_path: Path, hub: FakeHub
) -> None:
    call(WHOLE, hub, tmp_path, COMMIT)
    assert call(LOAD, hub, tmp_path, COMMIT, HF_HUB_OFFLINE="1") == "30"
