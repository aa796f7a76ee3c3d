"""What becomes of a user's own file: its questions, or the line that refuses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from caft.data import QuestionSplits, load_questions
from caft.data.config import LocalConfig
from caft.errors import UserError
from caft.records import Question


def load(path: Path | str, **dials: Any) -> QuestionSplits:
    return load_questions(LocalConfig(name="local", train_path=str(path), **dials))


def in_order(splits: QuestionSplits) -> list[Question]:
    """All questions in file order."""
    found = [*splits.train, *splits.validation, *splits.test]
    return sorted(found, key=lambda question: int(question.origin.split(":")[1]))


def refused(path: Path | str, **dials: Any) -> str:
    with pytest.raises(UserError) as error:
        load(path, **dials)
    assert "\n" not in str(error.value)
    return str(error.value)
