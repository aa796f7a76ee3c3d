"""The hub says no in many ways; a person reads one line. A fake hub stands on loopback."""

import json
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from caft.models.config import Architecture, HubModelConfig, TinyModelConfig
from caft.models.fingerprint import model_fingerprint
from caft.models.sources.locate import locate_model
from caft.models.time_limit import within
from fake_hub import COMMIT, Hub, HubHandler, run_with_hub, serving

ASK = """
import json, sys
from caft.errors import UserError
from caft.models.sources.locate import locate_model
from caft.models.sources import hub
from caft.models.config import HubModelConfig
if sys.argv[1]:  # a busy machine takes longer to answer than a user is made to wait
    hub.REQUEST_SECONDS = hub.ANSWER_SECONDS = float(sys.argv[1])
status = 0
for id, revision in json.loads(sys.argv[2]):
    try:
        print(locate_model(HubModelConfig(name="m", id=id, revision=revision)))
    except UserError as error:
        print(error, file=sys.stderr)
        status = "torch was imported" if "torch" in sys.modules else 2
sys.exit(status)
"""


OTHER_WEIGHTS = {
    "fake/pickled": ["pytorch_model.bin"],
    "fake/renamed": ["model.safetensors.index.json", "pytorch_model-1.safetensors"],
}


class FakeHub(Hub):
    """Serves the files of one folder as the repository fake/model, and refuses all others."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FakeHubHandler)
        self.folder = folder
        self.fetched: list[str] = []


class FakeHubHandler(HubHandler):
    server: FakeHub

    def answer(self, path: str) -> None:
        if path.startswith("/api/models/fake/model/tree/"):
            files = self.server.folder.iterdir()
            self.reply(
                [
                    {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name}
                    for f in files
                ]
            )
        elif path.startswith("/fake/model/resolve/"):
            self.send_file(path.rsplit("/", 1)[-1])
        elif path.endswith("/auth-check"):
            self.refuse(403, "GatedRepo")
        elif path.startswith("/api/models/"):
            self.describe(*path.removeprefix("/api/models/").split("/revision/"))
        else:
            self.refuse(404, "EntryNotFound")

    def describe(self, name: str, revision: str = "main") -> None:
        refusals = {
            "fake/missing": (404, "RepoNotFound"),
            "fake/private": (401, "RepoNotFound"),
            "fake/broken": (500, ""),
        }
        if name in refusals:
            self.refuse(*refusals[name])
        elif revision not in ("main", COMMIT):
            self.refuse(404, "RevisionNotFound")
        else:
            files = [path.name for path in self.server.folder.iterdir()]
            if name in OTHER_WEIGHTS:
                files = ["config.json", *OTHER_WEIGHTS[name]]
            siblings = [{"rfilename": name, "size": 1} for name in files]
            gated = "manual" if name == "fake/gated" else False
            self.reply({"id": name, "sha": COMMIT, "siblings": siblings, "gated": gated})

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"{}", {"X-Error-Code": code} if code else {})

    def send_file(self, name: str) -> None:
        if self.command == "GET":
            self.server.fetched.append(name)
        content = (self.server.folder / name).read_bytes()
        self.send(200, content, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT})


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    cache = tmp_path_factory.mktemp("cache")
    tiny = TinyModelConfig(
        name="tiny", id="tiny", architecture=Architecture.llama, cache=str(cache), layers=1
    )
    folder = locate_model(tiny)
    for name in ("pytorch_model.bin", "consolidated.safetensors", "modeling.py", "README.md"):
        (folder / name).write_text("not wanted")
    server = FakeHub(folder)
    with serving(server):
        yield server


def ask(
    endpoint: str,
    home: Path,
    id: str,
    revision: str = "main",
    *,
    patience: str = "60",
    **more: str,
) -> subprocess.CompletedProcess[str]:
    """What comes of locating a model; `patience` for the hub in seconds, "" for CAFT's own."""
    asked = json.dumps([(id, revision)])
    return run_with_hub(ASK, patience, asked, endpoint=endpoint, home=home, **more)


def refusal(done: subprocess.CompletedProcess[str], id: str) -> str:
    (line,) = refusals(done, [id])
    return line


def refusals(done: subprocess.CompletedProcess[str], ids: list[str]) -> list[str]:
    """One line a model."""
    lines = done.stderr.strip().splitlines()
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert len(lines) == len(ids), done.stderr
    for line, id in zip(lines, ids, strict=True):
        assert f"model.id={id}" in line
        assert "model.path=" in line
    return lines


def test_what_the_hub_refuses(hub: FakeHub, tmp_path: Path) -> None:
    expected = {
        ("fake/missing", "main"): "is not on the hub, or is private",
        ("fake/private", "main"): "HF_TOKEN",
        ("fake/gated", "main"): "is gated; ask for access",
        ("fake/model", "nothing"): "has nothing at model.revision=nothing",
        ("fake/broken", "main"): "refused by the hub",
        ("fake/pickled", "main"): "has no model.safetensors",
        ("fake/renamed", "main"): "has no model.safetensors",
        ("one/two/three", "main"): "is not a hub id",
    }
    done = run_with_hub(ASK, "60", json.dumps([*expected]), endpoint=hub.url, home=tmp_path)
    lines = refusals(done, [id for id, _ in expected])
    for line, words in zip(lines, expected.values(), strict=True):
        assert words in line
    # So no refusal could be the answer to the one before it.
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
        line = refusal(ask(endpoint, tmp_path, "fake/model"), "fake/model")
    assert "the hub does not answer" in line


def test_somebody_listens_and_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        line = refusal(ask(endpoint, tmp_path, "fake/model", patience=""), "fake/model")
    assert "the hub does not answer" in line


def test_a_question_has_a_hard_limit_whatever_it_waits_for() -> None:
    forever = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, forever.wait)
    forever.set()
    assert within(60, lambda: "answer") == "answer"


def test_offline_is_respected(hub: FakeHub, tmp_path: Path) -> None:
    line = refusal(ask(hub.url, tmp_path, "fake/model", HF_HUB_OFFLINE="1"), "fake/model")
    assert "HF_HUB_OFFLINE is set" in line


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_model_is_downloaded_once_and_then_needs_no_hub(
    hub: FakeHub, tmp_path: Path, revision: str
) -> None:
    hub.fetched.clear()
    done = ask(hub.url, tmp_path, "fake/model", revision)
    folder = Path(done.stdout.strip())
    names = {path.name for path in folder.iterdir()}
    assert done.returncode == 0, done.stderr
    assert folder.name == COMMIT
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= names
    unwanted = ("*.bin", "consolidated*", "*.py", "*.md")
    assert not [name for name in hub.fetched if any(fnmatch(name, one) for one in unwanted)]
    again = ask("http://127.0.0.1:9", tmp_path, "fake/model", revision)
    assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
    offline = ask(hub.url, tmp_path, "fake/model", revision, HF_HUB_OFFLINE="1")
    assert (offline.returncode, offline.stdout) == (0, done.stdout), offline.stderr


def test_what_another_program_left_in_part_is_not_here_and_is_fetched(
    hub: FakeHub, tmp_path: Path
) -> None:
    done = ask(hub.url, tmp_path, "fake/model")
    folder = Path(done.stdout.strip())
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).resolve().unlink()
        (folder / name).unlink()
        # Other programs fetch file by file, and leave no list of all that there is.
        shutil.rmtree(folder.parents[1] / "trees", ignore_errors=True)
        hub.fetched.clear()
        again = ask(hub.url, tmp_path, "fake/model")
        assert (again.returncode, again.stdout) == (0, done.stdout), again.stderr
        assert hub.fetched == [name]
    (folder / "config.json").unlink()
    shutil.rmtree(folder.parents[1] / "trees", ignore_errors=True)
    offline = ask(hub.url, tmp_path, "fake/model", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set" in refusal(offline, "fake/model")


def test_a_repository_that_lacks_a_part_is_not_to_be_saved_again(
    hub: FakeHub, tmp_path: Path
) -> None:
    tokenizer, aside = hub.folder / "tokenizer.json", tmp_path / "tokenizer.json"
    shutil.move(tokenizer, aside)
    try:
        done = ask(hub.url, tmp_path, "fake/model", HF_HUB_DISABLE_PROGRESS_BARS="1")
    finally:
        shutil.move(aside, tokenizer)
    line = refusal(done, "fake/model")
    assert "has no tokenizer; choose another model.revision, or give model.path=FOLDER" in line


def test_the_fingerprint_is_the_commit_whatever_it_was_called(hub: FakeHub, tmp_path: Path) -> None:
    prints = set()
    for revision in ("main", COMMIT):
        folder = Path(ask(hub.url, tmp_path / revision, "fake/model", revision).stdout.strip())
        config = HubModelConfig(name="m", id="fake/model", revision=revision)
        prints.add(model_fingerprint(folder, config))
    assert len(prints) == 1
