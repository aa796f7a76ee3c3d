"""Every command that README and the pages behind it print: it composes, and it runs as typed."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caft.data import load_questions
from caft.data.config import LocalConfig
from caft.hydra_bridge import compose
from caft.models.config import TinyModelConfig
from caft.models.sources.locate import locate_model

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("tutorial.md", "errors.md", "paper.md")),
    *sorted((ROOT / "docs" / "how-to").glob("*.md")),
    *sorted((ROOT / "docs" / "explanation").glob("*.md")),
]
NEEDS = "# needs "
"""Begins a block whose commands need a hub, a key or hardware: they are composed and not typed."""


def commands(page: Path, *, typed: bool = False) -> Iterator[str]:
    """Every line of the page's ``` blocks, with continued lines joined."""
    text = page.read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\S*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if not language and not (typed and block.startswith(NEEDS)):
            lines = block.replace("\\\n", " ").splitlines()
            yield from (line for line in lines if not line.startswith(NEEDS))


COMMANDS = [
    pytest.param(line, id=line[:60]) for page in PAGES for line in commands(page, typed=True)
]


def write_questions(folder: Path) -> None:
    """The files that the pages name: a list of twenty, and rows with MMLU-Pro's columns."""
    rows = [f"Which is {n}?,u,v,w,x,{'ABCD'[n % 4]}" for n in range(20)]
    (folder / "mine.csv").write_text("\n".join(["question,A,B,C,D,answer", *rows]), "utf-8")
    (folder / "my data (1).csv").write_text((folder / "mine.csv").read_text("utf-8"), "utf-8")
    for split, first in (("train", 0), ("test", 100)):
        lines = [
            {"question_id": n, "question": f"Which is {n}?", "options": ["u", "v", "w"],
             "answer_index": n % 3, "category": "law"}
            for n in range(first, first + 40)
        ]  # fmt: skip
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"mmlu_pro_{split}.jsonl").write_text(text, "utf-8")


def test_every_command_composes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_questions(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = [line for page in PAGES for line in commands(page)]
    begin = r"(?:[A-Z_]+=\S+ )*(?:python train.py|caft(?= -m| \S+=))(.*)"
    runs = [run for line in found if (run := re.match(begin, line))]
    lines = {tuple(shlex.split(run[1], comments=True)) for run in runs}
    assert len(lines) > 30
    for words in lines - {("--help",), ()}:
        # A sweep is as good as its first job here.
        first = [
            word.partition(",")[0]
            for word in words
            if word != "-m" and not word.startswith("hydra.sweeper.cases=")
        ]
        config = compose(first if "-m" in words else words)
        if isinstance(config.dataset, LocalConfig) and config.dataset.train_path == "mine.csv":
            assert load_questions(config.dataset).train[0].options == ("u", "v", "w", "x")


def test_the_first_thing_that_the_tutorial_shows_is_what_is_printed(tmp_path: Path) -> None:
    text = (ROOT / "docs/tutorial.md").read_text("utf-8")
    (command,) = re.findall(r"^python train.py (.* until=data)$", text, re.MULTILINE)
    shown = re.search(r"```text\n(This is how .*?)```", text, re.DOTALL)
    assert shown
    words = [sys.executable, str(ROOT / "train.py"), *shlex.split(command)]
    printed = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    lines = [line.rstrip() for line in printed.splitlines()]
    assert list(filter(None, lines)) == list(filter(None, shown[1].splitlines()))


def test_forms_with_quotes_are_read_by_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_questions(tmp_path)
    monkeypatch.chdir(tmp_path)
    quoted = [
        form for page in PAGES for form in re.findall(r"`('dataset[^`]+')`", page.read_text())
    ]
    assert len(set(quoted)) == 2
    for form in quoted:
        config = compose(["dataset=local", *shlex.split(form)]).dataset
        assert isinstance(config, LocalConfig)
        if config.train_path:
            assert len(load_questions(config).train) == 16
        else:
            assert config.columns.options == ["Correct Answer", "Incorrect Answer 1"]


STAND_IN = """
import os, subprocess, sys
words = sys.argv[1:]
runs = words[:1] == ["train.py"]
if runs:
    words[0] = os.environ["TRAIN"]
if runs and "--help" not in words:
    words += os.environ["WORDS"].split()
    given = " ".join(words)
    local = "dataset=local" in words or "experiment=mmlu_pro_local" in words
    words += [] if "train_path=mine.csv" in given else os.environ["ROWS"].split()
    words += [] if local else ["dataset.prompt.shots=4"]
    if "teacher=transformers_serve" in words or "teacher.base_url=http://127" in given:
        words.append("teacher.base_url=" + os.environ["TEACHER"])
    # Sweeps of dozens of jobs are planned only, and what needs a teacher of others, too.
    if "multirun_sweeps=" in given or ("dataset=local" in words and "dry_run=true" in words):
        words.append("dry_run=true")
sys.exit(subprocess.run([sys.executable, *words]).returncode)
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the pages, and `bin` with stand-ins for what needs a network."""
    folder = tmp_path_factory.mktemp("desk")
    write_questions(folder)
    scripts = {
        "python": f'exec {sys.executable} {folder / "stand_in.py"} "$@"',
        "caft": f'exec {sys.executable} -m caft "$@"',
        "make": f'exec /usr/bin/env -i PATH=/usr/bin:/bin make -n -C {ROOT} "$@"',
        "pip": 'test "$1" = install',
        "transformers": 'test "$1" = serve',
    }
    (folder / "stand_in.py").write_text(STAND_IN, encoding="utf-8")
    (folder / "bin").mkdir()
    (folder / ".venv").mkdir()
    (folder / ".venv/bin").symlink_to(folder / "bin")
    for name, line in scripts.items():
        script = folder / "bin" / name
        script.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        script.chmod(0o755)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_runs_as_it_is_typed(desk: Path, server: Any, line: str) -> None:
    model = locate_model(TinyModelConfig(name="tiny", id="tiny"))
    words = f"store.path={desk / 'store'} model.path={model} evaluation.max_new_tokens=16"
    environment = {
        **os.environ,
        "HOME": str(desk),
        "PATH": f"{desk / 'bin'}:{os.environ['PATH']}",
        "TRAIN": str(ROOT / "train.py"),
        "WORDS": f"{words} trainer.accelerator=cpu model.dtype=float32 dataset.max_new_tokens=8",
        "ROWS": "dataset.train=24 dataset.validation=8 dataset.test=8",
        "TEACHER": server.base_url,
    }
    environment.pop("OPENAI_API_KEY", None)
    done = subprocess.run(
        ["sh", "-c", line], cwd=desk, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    said = " ".join(done.stdout.split())
    if "until=data" in line or "dry_run=true" in line:
        assert "was read:" in said or "Nothing was run." in said
    elif line.startswith("python train.py") and not {"--help", "-m"} & set(line.split()):
        assert "Report" in said
