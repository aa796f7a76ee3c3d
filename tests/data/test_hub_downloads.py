"""Downloads that end early are gone on with, and never taken for whole. A fake hub on loopback."""

from __future__ import annotations

import errno
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from huggingface_hub import errors

from caft.hub_refusals import Repository, explain_refusal
from fake_hub import COMMIT, Hub, HubHandler, run_with_hub, serving

FILES = ("train_0.jsonl", "train_1.jsonl", "train_2.jsonl")
LOAD = """
import json, sys
from caft.data import hub, load_questions
from caft.data.config import ColumnsConfig, HubConfig
from caft.errors import UserError
hub.SECONDS_TO_ANSWER = 60.0  # a busy machine takes longer than a user is made to wait
for revision, id, *test_split in json.loads(sys.argv[1]):
    config = HubConfig(name="hub", id=id, revision=revision)
    config.test_split = test_split[0] if test_split else None
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
ONE_BY_ONE = """
import sys
from huggingface_hub import hf_hub_download
for name in ("train_0.jsonl", "train_1.jsonl", "train_2.jsonl"):
    hf_hub_download("fake/sums", name, repo_type="dataset", revision=sys.argv[1])
"""


class FakeHub(Hub):
    """Has one dataset of three files, with 10 questions each; refuses the file `broken`.

    Of the others fake/gated asks for consent, fake/many has two subsets, and none is converted.
    """

    broken = ""


class FakeHubHandler(HubHandler):
    server: FakeHub

    def answer(self, path: str) -> None:
        name = path.rsplit("/", 1)[-1]
        if "refs%2Fconvert" in path or path.endswith("/nothing"):
            return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if path.startswith("/api/datasets/fake/many"):
            siblings = [{"rfilename": f"{subset}/train.jsonl"} for subset in ("one", "two")]
            return self.reply({"id": "fake/many", "sha": COMMIT, "siblings": siblings})
        if "fake/sums" not in path:
            code = "GatedRepo" if "gated" in path else "RepoNotFound"
            return self.send(403 if "gated" in path else 404, b"{}", {"X-Error-Code": code})
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
        return None


def rows(name: str) -> bytes:
    first = 10 * FILES.index(name)
    lines = [
        {"question": f"What is {n} and 1?", "answer": str(n + 1)} for n in range(first, first + 10)
    ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    server = FakeHub(FakeHubHandler)
    with serving(server):
        yield server


def call(code: str, words: str, hub: FakeHub, home: Path, **more: str) -> str:
    done = run_with_hub(code, words, endpoint=hub.url, home=home, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def load(hub: FakeHub, home: Path, revision: str, **more: str) -> str:
    return call(LOAD, json.dumps([(revision, "fake/sums")]), hub, home, **more)


@pytest.mark.parametrize("revision", [COMMIT, "main"])
def test_an_unfinished_download_is_finished_and_then_read_offline(
    tmp_path: Path, hub: FakeHub, revision: str
) -> None:
    hub.broken = FILES[1]
    refused = load(hub, tmp_path, revision)
    assert "dataset.id=fake/sums was refused by the hub (" in refused
    assert list(tmp_path.rglob(f"snapshots/*/{FILES[0]}"))
    offline = load(hub, tmp_path, revision, HF_HUB_OFFLINE="1")
    assert "is not in the local cache and HF_HUB_OFFLINE is set" in offline
    hub.broken = ""
    assert load(hub, tmp_path, revision) == "30"
    assert load(hub, tmp_path, revision, HF_HUB_OFFLINE="1") == "30"


@pytest.mark.parametrize("downloaded", [WHOLE, ONE_BY_ONE], ids=["whole", "one by one"])
def test_what_the_hubs_own_tool_has_downloaded_is_read_offline(
    downloaded: str, tmp_path: Path, hub: FakeHub
) -> None:
    call(downloaded, COMMIT, hub, tmp_path)
    assert load(hub, tmp_path, COMMIT, HF_HUB_OFFLINE="1") == "30"


FOLDER = """
import sys
from huggingface_hub import snapshot_download
snapshot_download("fake/sums", repo_type="dataset", revision=sys.argv[1],
                  allow_patterns=["train*"])
"""


def test_of_what_the_hubs_own_tool_has_downloaded_only_the_files_that_are_read_are_needed(
    tmp_path: Path, hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(globals(), "FILES", (*FILES, "other.jsonl"))
    call(FOLDER, COMMIT, hub, tmp_path)
    assert not list(tmp_path.rglob("other.jsonl"))
    assert load(hub, tmp_path, COMMIT, HF_HUB_OFFLINE="1") == "30"
    next(tmp_path.rglob("snapshots/*/train_2.jsonl")).unlink()
    assert "is not in the local cache" in load(hub, tmp_path, COMMIT, HF_HUB_OFFLINE="1")


def test_a_refusal_says_what_to_do(tmp_path: Path, hub: FakeHub) -> None:
    expected = {
        ("main", "fake/smus"): "dataset.id=fake/smus is not on the hub, or is private; correct",
        ("main", "fake/gated"): "dataset.id=fake/gated is gated; ask for access",
        ("nothing", "fake/sums"): "has nothing at dataset.revision=nothing; give one of its",
        (
            "refs/convert/parquet",
            "fake/sums",
        ): "has nothing at dataset.revision=refs/convert/parquet; give one of its",
        ("main", "a/b/c"): "dataset.id=a/b/c is not a hub id; give one such as cais/mmlu",
        (
            "main",
            "fake/sums",
            "tset",
        ): "dataset.test_split is 'tset', but fake/sums has no such",
        (
            "main",
            "fake/many",
        ): "dataset.subset is not set, and there are several: one, two; give",
    }
    told = call(LOAD, json.dumps([*expected]), hub, tmp_path).splitlines()
    for refusal, line in zip(told, expected.values(), strict=True):
        assert refusal.startswith("dataset.")
        assert line in refusal
        assert "connect to the network" not in refusal
    # So no refusal could be the answer to the one before it.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("moved", ["HF_HOME", "HF_HUB_CACHE"])  # the token, and the files
def test_a_cache_that_cannot_be_written_is_not_told_as_a_silent_hub(
    tmp_path: Path, hub: FakeHub, moved: str
) -> None:
    (tmp_path / "file").touch()
    told = load(hub, tmp_path / "home", "main", **{moved: str(tmp_path / "file/folder")})
    assert told.startswith("dataset.id=fake/sums cannot be kept in the hub's cache (")
    assert "Not a directory" in told
    assert "set HF_HOME to another folder" in told
    assert "connect to the network" not in told


@pytest.mark.parametrize(
    ("error", "way_out"),
    [
        (OSError(errno.ENOSPC, "full"), "make room"),
        (OSError(errno.EROFS, "read-only"), "make room"),
        (PermissionError(errno.EACCES, "denied", "/cache/blobs/x"), "make room"),
        # A firewall's refusal, and a name that is not found.
        (PermissionError(errno.EPERM, "not permitted"), "connect to the network"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "connect to the network"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "connect to the network"),
        (requests.ConnectionError("no route"), "connect to the network"),
        (errors.LocalEntryNotFoundError("not cached"), "connect to the network"),
    ],
)
def test_the_disk_and_the_network_are_told_apart(error: OSError, way_out: str) -> None:
    line = str(explain_refusal(Repository("model", "org/one", "main", "org/like"), error))
    assert f"; {way_out}" in line
    assert ("HF_HOME" in line) == (way_out == "make room")
    assert line.endswith("or give a local copy with model.path=FOLDER")
