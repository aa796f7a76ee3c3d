"""Which questions: one config class a kind of source."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from caft.errors import UserError
from caft.text.config import PromptConfig


class Duplicates(Enum):
    """What happens to rows that repeat an id or a question within one split."""

    refuse = "refuse"
    first = "first"


class AnswerForm(Enum):
    """How a file writes its gold answers; `auto` reads it off the first rows and says so."""

    auto = "auto"
    letter = "letter"
    index = "index"
    text = "text"


@dataclass(kw_only=True, slots=True)
class DatasetConfig:
    """What every source shares. Row counts of None take all there is.

    `seed` fixes which questions there are and how they are divided; nothing else draws on it.
    `answer_set` closes the answers of questions without listed options.
    """

    kind: str
    name: str
    seed: int = 0
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    duplicates: Duplicates = Duplicates.refuse
    answer_set: list[str] = field(default_factory=list)
    prompt: PromptConfig = field(default_factory=PromptConfig)

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            count = getattr(self, split)
            if count is not None and count < 1:
                raise UserError(f"dataset.{split} is {count}; give 1 or more, or null for all")


@dataclass(kw_only=True, slots=True)
class ArithmeticConfig(DatasetConfig):
    """Chains of additions and subtractions whose answer is one digit; made by our own code.

    Operands and intermediate values stay within `lowest`..`highest`, the answer within 1..9.
    Questions are drawn evenly over 1..`most_steps` operations.
    """

    kind: str = "arithmetic"
    most_steps: int = 5
    lowest: int = 1
    highest: int = 20

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        if not 1 <= self.most_steps <= 9:
            raise UserError(f"dataset.most_steps is {self.most_steps}; give 1 to 9")
        if not (0 <= self.lowest <= 1 and 9 <= self.highest <= 99):
            raise UserError(
                f"dataset.lowest and dataset.highest are {self.lowest} and {self.highest}; "
                "lowest may be 0 or 1, highest 9 to 99"
            )


@dataclass(kw_only=True, slots=True)
class ColumnsConfig:
    """Column names of a file. None means the file has no such column.

    `options` names one column with a list (or a JSON list as text), or several columns joined
    by commas, one an option, such as `A,B,C,D`.
    """

    id: str | None = None
    question: str = "question"
    options: str | None = "options"
    answer: str = "answer"
    subject: str | None = None
    rationale: str | None = None


@dataclass(kw_only=True, slots=True)
class LocalConfig(DatasetConfig):
    """Your own JSONL, CSV or parquet files.

    Only `train_path` is needed: splits without a file are drawn from it by `seed`.
    """

    kind: str = "local"
    train_path: str | None = None
    validation_path: str | None = None
    test_path: str | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    answer_form: AnswerForm = AnswerForm.auto
    first_index: int = 0


@dataclass(kw_only=True, slots=True)
class MmluProConfig(DatasetConfig):
    """MMLU-Pro from the hub at a pinned revision, or from a folder or file with its columns."""

    kind: str = "mmlu_pro"
    id: str = "TIGER-Lab/MMLU-Pro"
    revision: str = "main"
    path: str | None = None
