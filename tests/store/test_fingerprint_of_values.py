"""Equal for equal, different for different, on every machine and in every process."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from caft.records import AnswerScore, Question, Target
from caft.store import digest, plain, source_digest
from caft.text.config import OptionIds, PromptConfig


@dataclass
class Dials:
    rate: float = 0.1
    names: tuple[str, ...] = ("a", "b")
    target: Target = Target.answer


def test_a_digest_is_twenty_hexadecimal_digits_and_never_changes() -> None:
    # sha256 of {"a": [1, 0.5, null], "b": "\u00e9"}: a change here would orphan every store.
    value = {"b": "é", "a": (1, 0.5, None)}
    assert digest(value) == "9e142c8b00df99369744"
    assert len(digest(value)) == 20


@pytest.mark.parametrize(
    "value",
    [
        [],
        (),
        [1],
        [{"b": 0.1, "a": "é"}, None, (1, [2, ()]), Target.answer],
        (Question(id="q1", text="?", options=("a", "b")), Question(id="q2", text='"')),
        {"rows": [1, {"z": 1, "a": [2]}]},
    ],
)
def test_a_list_has_the_digest_of_its_whole_text(value: object) -> None:
    text = json.dumps(plain(value), sort_keys=True)
    assert digest(value) == hashlib.sha256(text.encode()).hexdigest()[:20]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"a": 1}, OrderedDict(a=1)),
        ([1, 2], (1, 2)),
        ([1, 2], range(1, 3)),
        ([1, 2], iter((1, 2))),
        (Dials(), {"rate": 0.1, "names": ["a", "b"], "target": Target.answer}),
        (PromptConfig(), PromptConfig()),
        ({"x", "y", "z"}, frozenset(["z", "y", "x"])),
        (0.1, float("0.1000000000000000055")),
        (np.float64(0.1), 0.1),
        (Path("a/b"), Path("a") / "b"),
    ],
)
def test_equal_for_equal(left: Any, right: Any) -> None:
    assert digest(left) == digest(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (Dials(), Dials(rate=0.1 + 1e-16)),
        (Dials(), Dials(target=Target.rationale)),
        (PromptConfig(), replace(PromptConfig(), option_ids=OptionIds.digits)),
        ([1, 2], [2, 1]),
        ("12", 12),
        (None, "None"),
        (True, "true"),
        (Question(id="a", text="x"), Question(id="a", text="x ")),
        (["ab", "c"], ["a", "bc"]),
        ([[1], [2]], [[1, 2]]),
    ],
)
def test_different_for_different(left: Any, right: Any) -> None:
    assert digest(left) != digest(right)


def test_what_cannot_be_written_canonically_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot write a object canonically"):
        digest({"model": object()})


def test_a_set_has_one_digest_in_every_process() -> None:
    code = "from caft.store import digest; print(digest({'w': {'one', 'two', 'three', 'four'}}))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(printed) == 1


def test_records_with_mappings_have_digests() -> None:
    score = AnswerScore(question_id="q", predicted="A", valid=True, correct=True, estimates={})
    assert digest(score) != digest(replace(score, estimates={"answer_entropy": None}))


def test_sources_of_different_rooms_differ() -> None:
    assert source_digest("score", "models") == source_digest("models", "score")
    assert source_digest("score") != source_digest("split")
