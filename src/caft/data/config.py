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
    """How a file writes its gold answers.

    `auto` takes the one form that fits every row, says so in the log, and refuses where two
    forms fit and disagree.
    """

    auto = "auto"
    letter = "letter"
    index = "index"
    text = "text"


@dataclass(kw_only=True, slots=True)
class DatasetConfig:
    """What every source shares. Row counts of None take all there is.

    A split that has no rows of its own is drawn from the training rows; its count of None takes
    a tenth of them. `seed` fixes which questions there are and how they are divided; nothing
    else draws on it. `answer_set` closes the answers of questions without listed options.
    `max_new_tokens` is the longest rationale that a model may write to such questions.
    `shuffle_options` puts each question's options in an order drawn by `seed` and its id.
    """

    kind: str
    name: str
    seed: int = 0
    train: int | None = None
    validation: int | None = None
    test: int | None = None
    duplicates: Duplicates = Duplicates.refuse
    shuffle_options: bool = False
    answer_set: list[str] = field(default_factory=list)
    max_new_tokens: int = 1024
    prompt: PromptConfig = field(default_factory=PromptConfig)

    def __post_init__(self) -> None:
        for split in ("train", "validation", "test"):
            count = getattr(self, split)
            if count is not None and count < 1:
                raise UserError(f"dataset.{split} is {count}; give 1 or more, or null for all")
        self._refuse_unclear_answer_set()

    def _refuse_unclear_answer_set(self) -> None:
        members = self.answer_set
        if members and (len(set(members)) < max(2, len(members)) or not all(members)):
            raise UserError(
                f"dataset.answer_set is {members}; give two or more different answers, or [] "
                "for free text"
            )


@dataclass(kw_only=True, slots=True)
class ArithmeticConfig(DatasetConfig):
    """Chains of additions and subtractions whose answer is one digit; made by our own code.

    Values on the way stay within `lowest`..`highest`, operands within
    `lowest`..`largest_operand`, the answer within 1..9.
    Questions are drawn evenly over 1..`most_steps` operations, see data/arithmetic.py. There is
    no "all there is": the three row counts are numbers.
    """

    kind: str = "arithmetic"
    train: int | None = 600
    validation: int | None = 100
    test: int | None = 200
    answer_set: list[str] = field(default_factory=lambda: list("123456789"))
    most_steps: int = 5
    lowest: int = 0
    highest: int = 30
    largest_operand: int = 9

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        if None in (self.train, self.validation, self.test):
            raise UserError(
                "dataset.train, dataset.validation or dataset.test is null; arithmetic has no "
                "natural end: give three numbers"
            )
        if self.answer_set != list("123456789"):
            raise UserError(
                f"dataset.answer_set is {self.answer_set}; arithmetic answers are the digits 1 "
                "to 9: leave it out, or list those nine as text"
            )
        if not 1 <= self.most_steps <= 9:
            raise UserError(f"dataset.most_steps is {self.most_steps}; give 1 to 9")
        if not (0 <= self.lowest <= 1 and 9 <= self.highest <= 99):
            raise UserError(
                f"dataset.lowest and dataset.highest are {self.lowest} and {self.highest}; "
                "lowest may be 0 or 1, highest 9 to 99"
            )
        if not 1 <= self.largest_operand <= self.highest:
            raise UserError(
                f"dataset.largest_operand is {self.largest_operand}; give 1 to dataset.highest"
            )


@dataclass(kw_only=True, slots=True)
class ColumnsConfig:
    """Column names of a file. None means the file has no such column.

    `options` names one column with a list (or a JSON list as text), or several columns, one an
    option, such as `[A, B, C, D]`; there, empty cells at the end mean that the row has fewer
    options. In place of the list a text with commas will do. Without an `id` column, ids are
    made of the content.
    """

    id: str | None = None
    question: str = "question"
    options: list[str] | None = field(default_factory=lambda: ["options"])
    answer: str = "answer"
    subject: str | None = None
    rationale: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.options, str):
            self.options = [name.strip() for name in self.options.split(",")]
        names = self.options or []
        if repeated := [name for name in names if names.count(name) > 1]:
            raise UserError(
                f"dataset.columns.options names {repeated[0]!r} twice; give every option a "
                "column of its own"
            )


def refuse_other_bases(first_index: int | None) -> None:
    """Options count from 0 or from 1."""
    if first_index not in (None, 0, 1):
        raise UserError(
            f"dataset.first_index is {first_index}; give 0 or 1, or null to have the rows decide"
        )


@dataclass(kw_only=True, slots=True)
class LocalConfig(DatasetConfig):
    """Your own JSONL, CSV or parquet files.

    Only `train_path` is needed: splits without a file are drawn from it by `seed`. Relative
    paths start at the current folder. `first_index` is the number of the first option where
    answers are indices; None is decided from all rows, and asked for where none of them tells.
    """

    kind: str = "local"
    train_path: str | None = None
    validation_path: str | None = None
    test_path: str | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    answer_form: AnswerForm = AnswerForm.auto
    first_index: int | None = None

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        refuse_other_bases(self.first_index)


@dataclass(kw_only=True, slots=True)
class HubDatasetConfig(DatasetConfig):
    """A published dataset, from the hub at a pinned revision or from the copy at `path`.

    `path` is a folder laid out as on the hub, or one file of rows. Published rows repeat a few
    questions, so the first of each is kept.
    """

    duplicates: Duplicates = Duplicates.first
    id: str
    revision: str
    path: str | None = None


@dataclass(kw_only=True, slots=True)
class MmluProConfig(HubDatasetConfig):
    """MMLU-Pro: 12,032 questions in 14 categories, 3 to 10 options."""

    kind: str = "mmlu_pro"
    id: str = "TIGER-Lab/MMLU-Pro"
    revision: str = "b189ec765aa7ed75c8acfea42df31fdae71f97be"


@dataclass(kw_only=True, slots=True)
class MedmcqaConfig(HubDatasetConfig):
    """MedMCQA: 182,822 training and 4,183 validation questions with 4 options.

    Some copies count options from 0, the original files from 1: see `LocalConfig.first_index`.
    """

    kind: str = "medmcqa"
    id: str = "openlifescienceai/medmcqa"
    revision: str = "91c6572c454088bf71b679ad90aa8dffcd0d5868"
    first_index: int | None = None

    def __post_init__(self) -> None:
        HubDatasetConfig.__post_init__(self)
        refuse_other_bases(self.first_index)


@dataclass(kw_only=True, slots=True)
class Gsm8kConfig(HubDatasetConfig):
    """GSM8K: 7,473 training and 1,319 test problems; answers are numbers."""

    kind: str = "gsm8k"
    id: str = "openai/gsm8k"
    revision: str = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"
