"""Prompts that are for other questions are refused before anything runs, in every set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from caft.errors import UserError
from caft.hydra_bridge import compose
from caft.pipeline.data_table import print_data
from caft.pipeline.preflight import load_all_further

FREE: list[dict[str, object]] = [{"question": f"{n}+{n}?", "answer": 2 * n} for n in range(9)]
LISTED: list[dict[str, object]] = [
    {"question": f"Which of {n}?", "options": ["red", "blue"], "answer": "AB"[n % 2]}
    for n in range(9)
]
INSIDE = [{**row, "question": f"{row['question']} A. Red B. Blue"} for row in LISTED]
OWN = ['dataset.prompt.user="{question}"', "dataset.prompt.system_answer=Reply with the answer."]
STYLE = "dataset.prompt.style="
PLAIN = [f'dataset.prompt.completion_{name}="{{question}}"' for name in ("answer", "rationale")]
HIDDEN = r"listed\.jsonl:1 has options, and dataset\.prompt\.user does not show them; put"
ASKED = "answers are free text, and the prompts ask for the id of an option; use dataset=text"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rows in {"free": FREE, "listed": LISTED, "inside": INSIDE}.items():
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")


def read(*words: str) -> Any:
    return print_data(compose(["model=tiny", "until=data", *words]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dataset=text", "dataset.train_path=listed.jsonl"], HIDDEN),
        (
            [
                "dataset=local",
                "dataset.train_path=listed.jsonl",
                OWN[0],
                "dataset.prompt.style=chat",
            ],
            HIDDEN,
        ),
        (["dataset=local", "dataset.train_path=free.jsonl"], ASKED),
        (["dataset=hub", "dataset.id=a/b", "dataset.path=free.jsonl"], ASKED),
        (
            ["dataset=local", "dataset.train_path=listed.jsonl", "dataset.columns.options=null"],
            ASKED,
        ),
        # A teacher is told so, however the student is asked.
        (["dataset=local", "dataset.train_path=free.jsonl", OWN[0]], ASKED),
    ],
)
@pytest.mark.usefixtures("files")
def test_prompts_for_other_questions_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(*words)


@pytest.mark.parametrize(
    "words",
    [
        ["dataset=text", "dataset.train_path=free.jsonl"],
        ["dataset=text", "dataset.train_path=listed.jsonl", "dataset.columns.options=null"],
        ["dataset=local", "dataset.train_path=listed.jsonl"],
        ["dataset=local", "dataset.train_path=free.jsonl", *OWN],
        [
            "dataset=local", "dataset.train_path=listed.jsonl", "dataset.columns.options=null",
            "dataset.answer_set=[A,B]",
        ],
        # Completions have no system text.
        ["dataset=local", "dataset.train_path=free.jsonl", STYLE + "completion", *PLAIN],
        # The model decides which of the two is asked.
        ["dataset=local", "dataset.train_path=free.jsonl", *PLAIN],
        ["dataset=local", "dataset.train_path=listed.jsonl", OWN[0]],
        ["dataset=text", "dataset.train_path=inside.jsonl"],
        ["dataset=mixed"],
        ["dataset=arithmetic"],
    ],
)  # fmt: skip
@pytest.mark.usefixtures("files")
def test_prompts_for_these_questions_are_used(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    read(*words)
    assert "was read:" in capsys.readouterr().out


@pytest.mark.usefixtures("files")
def test_a_further_sets_prompts_are_looked_at() -> None:
    also = "evaluation.also=[{dataset:text,name:mine,test_path:listed.jsonl}]"
    with pytest.raises(UserError, match=rf"evaluation\.also, mine: {HIDDEN}"):
        load_all_further(compose(["model=tiny", also]), ())
