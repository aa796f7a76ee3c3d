"""Errors about data give advice that works: each advised setting makes the file readable."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from caft.data import load_questions
from caft.data.config import DatasetConfig, LocalConfig
from caft.errors import UserError
from caft.hydra_bridge.overrides import type_overrides

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
}
"""Rows, words, and how many settings the refusal advises."""

TOGETHER = "dataset=text with dataset.columns.options=null"
"""Prompts are no part of how rows are read."""


def configured(words: Sequence[str]) -> DatasetConfig:
    """The dataset that a command line sets, without composing all other groups."""
    settings = [word for word in type_overrides(words) if word.startswith("dataset.")]
    schema = OmegaConf.structured(LocalConfig(name=words[0].partition("=")[2]))
    made = OmegaConf.merge({"dataset": schema}, OmegaConf.from_dotlist(settings))
    return OmegaConf.to_object(made)["dataset"]  # type: ignore[call-overload, no-any-return, index]


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
        load_questions(configured(given))
    message = str(error.value).replace(TOGETHER, "dataset.columns.options=null")
    settings = advised(message)
    assert len(settings) == count, message
    for setting in settings:
        kept = [word for word in given if word.partition("=")[0] != setting.partition("=")[0]]
        assert load_questions(configured([*kept, setting])).train, setting
