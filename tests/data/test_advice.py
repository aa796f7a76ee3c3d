"""Errors about data give advice that works: each advised setting makes the file readable."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from caft.data import load_questions
from caft.errors import UserError
from caft.hydra_bridge import compose

README = Path(__file__).parents[2] / "README.md"
TEXTS = {"red": "w", "green": "x", "blue": "y", "white": "z"}


def rows(count: int = 24, **change: Any) -> list[dict[str, Any]]:
    made = []
    for n in range(count):
        row = {"question": f"Which is {n}?", "options": ["u", "v", "w"], "answer": "ABC"[n % 3]}
        made.append({**row, **{key: value(n) for key, value in change.items()}})
    return made


REFUSED: dict[str, tuple[list[dict[str, Any]], list[str], int]] = {
    "gold first": (rows(answer=lambda n: "A"), [], 1),
    "either base": (rows(answer=lambda n: 1 + n % 2), [], 2),
    "either base, index": (rows(answer=lambda n: 1 + n % 2), ["dataset.answer_form=index"], 2),
    "index or text": (
        rows(options=lambda n: ["2", "0", "1"], answer=lambda n: n % 3),
        [],
        2,
    ),
    "letter or text": (
        rows(options=lambda n: ["B", "A", "C"], answer=lambda n: "ABC"[n % 3]),
        [],
        2,
    ),
    "repeats": ([*rows(), *rows(2)], [], 1),
    "repeated ids": (rows(id=lambda n: n // 2), ["dataset.columns.id=id"], 1),
    "options of their own": (
        [{"question": f"{n}, which?", **TEXTS, "answer": "ABCD"[n % 4]} for n in range(24)],
        [],
        2,
    ),
    "both kinds of answers": (rows(), ["dataset.answer_set=[A,B,C]"], 1),
    "a form without options": (
        rows(),
        ["dataset.columns.options=null", "dataset.answer_form=letter"],
        1,
    ),
    "one option": (rows(options=lambda n: ["u"]), [], 1),
    "worked solutions": (
        rows(answer=lambda n: f"So it is {n}.\n#### {n}"),
        ["dataset.columns.options=null"],
        2,
    ),
}
"""Rows, words, and how many settings the refusal advises."""


def advised(message: str) -> list[str]:
    found = re.findall(r"\bdataset(?:\.[a-z_]+)*=[^\s;]+", message)
    return [word.rstrip(",.") for word in found]


@pytest.mark.parametrize(("made", "words", "count"), REFUSED.values(), ids=list(REFUSED))
def test_every_setting_that_is_advised_lets_the_file_be_read(
    tmp_path: Path, made: list[dict[str, Any]], words: Sequence[str], count: int
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    given = ["dataset=local", f"dataset.train_path={path}", *words]
    with pytest.raises(UserError) as error:
        load_questions(compose(given).dataset)
    settings = advised(str(error.value))
    assert len(settings) == count, str(error.value)
    if "dataset=gsm8k" in settings:
        assert load_questions(compose(settings).dataset).train
        return
    for setting in settings:
        kept = [word for word in given if word.partition("=")[0] != setting.partition("=")[0]]
        assert load_questions(compose([*kept, setting]).dataset).train, setting


def test_readmes_commands_for_own_files_are_read_as_they_are_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = README.read_text(encoding="utf-8").partition("## Your own data")[2]
    block = re.findall(r"```\n(python train.py dataset=local .*?)```", text, re.DOTALL)[0]
    words = shlex.split(block.replace("\\\n", " "))[2:]
    monkeypatch.chdir(tmp_path)
    lines = [f"Which is {n}?,u,v,w,x,{'ABCD'[n % 4]}" for n in range(24)]
    Path("mine.csv").write_text("\n".join(["question,A,B,C,D,answer", *lines]), encoding="utf-8")
    assert load_questions(compose(words).dataset).train[0].options == ("u", "v", "w", "x")
    quoted = re.findall(r"`('dataset\.[^`]+')`", text)
    assert len(quoted) == 2
    for form in quoted:
        compose([*words, *shlex.split(form)])
