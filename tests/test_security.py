"""The claims of SECURITY.md that no other test has: nothing that is read is executed."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.models.chat_template import render_whole
from caft.models.loading import load_model, load_tokenizer
from caft.models.sources.locate import locate_model
from caft.store import Journal, Store, write_durably
from caft.teachers.ledger import Ledger
from caft.tune.training import TrainingSpec, _read_state
from small_stage import SmallStage

ROOT = Path(__file__).parents[1]
OWN_CODE = """
from pathlib import Path
Path({marker!r}).touch()
"""


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """A file that code would make if it ran."""
    return tmp_path / "was_executed"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny model of one's own."""
    monkeypatch.setenv("CAFT_CACHE", str(tmp_path / "cache"))
    made = locate_model(compose(["model=tiny"]).model)
    return Path(shutil.copytree(made, tmp_path / "model"))


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **values}), "utf-8")


def test_code_in_a_model_folder_is_not_run(folder: Path, marker: Path) -> None:
    (folder / "own.py").write_text(OWN_CODE.format(marker=str(marker)), encoding="utf-8")
    config = compose(["model=phi3", f"model.path={folder}"]).model
    edit(
        folder / "config.json",
        model_type="mine",
        auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
    )
    edit(
        folder / "tokenizer_config.json",
        tokenizer_class="Mine",
        auto_map={"AutoTokenizer": ["own.Tokenizer", None]},
    )
    with pytest.raises(UserError):
        load_model(folder, config)
    with pytest.raises(UserError):
        load_tokenizer(folder, config)
    assert not config.trust_remote_code
    assert not marker.exists()


@dataclass
class Bomb:
    """Runs a command when it is unpickled."""

    marker: Path

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_in_place_of_a_checkpoint_is_not_run(tmp_path: Path, marker: Path) -> None:
    spec = TrainingSpec(None, [], None, 1, None, 0, None, tmp_path, "adapter")
    spec.checkpoints.save(1, lambda stream: stream.write(pickle.dumps(Bomb(marker), protocol=2)))
    assert spec.checkpoints.newest() is not None
    with pytest.raises(pickle.UnpicklingError):
        _read_state(spec)
    assert not marker.exists()


REACHING = (
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ cycler.__init__.__globals__.os.system('touch MARKER') }}",
    "{% include '/etc/passwd' %}",
    "{{ messages.append({'role': 'user', 'content': 'more'}) }}",
)


def test_a_chat_template_reaches_nothing_outside_of_it(folder: Path, marker: Path) -> None:
    tokenizer = load_tokenizer(folder, compose(["model=tiny"]).model)
    for expression in REACHING:
        tokenizer.chat_template = (
            "{% for message in messages %}{{ message.content }}{% endfor %}"
            + expression.replace("MARKER", str(marker))
        )
        with pytest.raises(UserError, match="chat template refuses"):
            render_whole(tokenizer, [{"role": "user", "content": "hello"}])
        assert not marker.exists()


def test_what_is_written_has_the_rights_of_the_umask(tmp_path: Path) -> None:
    def produce(folder: Path) -> None:
        (folder / "result").write_text("42")
        Journal(folder, "rows").append([{"a": 1}])

    before = os.umask(0o077)
    try:
        store = Store(tmp_path / "store")
        store.obtain(SmallStage("score", {"a": 1}, produce))
        write_durably(tmp_path / "summary.json", "{}")
        Ledger(store.ledger_path, "m").close()
    finally:
        os.umask(before)
    made = list(tmp_path.rglob("*"))
    assert len(made) > 8
    assert [path for path in made if path.stat().st_mode & 0o077] == []


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(
        r"`(tests/[\w/]+\.py)(?::(\w+))?`", (ROOT / "SECURITY.md").read_text("utf-8")
    )
    assert len(named) > 8
    for file, test in named:
        assert test in (ROOT / file).read_text(encoding="utf-8"), (file, test)
