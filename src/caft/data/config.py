"""The datasets' settings: one config class for each kind of source."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from caft.dials import Count, Range, Seed, Text, check_dials
from caft.errors import UserError
from caft.text.config import PromptConfig


class Duplicates(Enum):
    """What is done with rows that repeat an id or a question of their split."""

    refuse = "refuse"
    first = "first"


class AnswerForm(Enum):
    """How a file writes its gold answers.

    `auto` takes the form that fits every row and logs it; two forms that fit and disagree are
    refused.
    """

    auto = "auto"
    letter = "letter"
    index = "index"
    text = "text"


@dataclass(kw_only=True, slots=True)
class DatasetConfig:
    """The settings that every source has. Row counts of None take all rows.

    A split without rows of its own is drawn from the training rows; a count of None is then a
    tenth of them. `seed` decides which questions there are and how they are divided, and nothing
    else. `max_new_tokens` is the longest rationale that a model may write. `shuffle_options` gives
    each question's options an order drawn by `seed` and its id.
    """

    kind: str
    name: Text
    seed: Seed = 0
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None
    duplicates: Duplicates = Duplicates.refuse
    shuffle_options: bool = False
    max_new_tokens: Count = 1024
    prompt: PromptConfig = field(default_factory=PromptConfig)

    def __post_init__(self) -> None:
        check_dials(self, "dataset")


@dataclass(kw_only=True, slots=True)
class ArithmeticConfig(DatasetConfig):
    """Generated chains of additions and subtractions whose answer is one digit.

    Intermediate values are within `lowest`..`highest`, operands within
    `lowest`..`largest_operand`, the answer within 1..9. Questions are drawn evenly over
    1..`most_steps` operations, see data/arithmetic.py. Row counts must be numbers.
    """

    kind: str = "arithmetic"
    train: Count | None = 2400
    validation: Count | None = 120
    test: Count | None = 200
    most_steps: Annotated[int, Range(1, 9)] = 5
    lowest: Annotated[int, Range(0, 1)] = 0
    highest: Annotated[int, Range(9, 99)] = 30
    largest_operand: Annotated[int, Range(1, 99)] = 9

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        if None in (self.train, self.validation, self.test):
            raise UserError(
                "dataset.train, dataset.validation or dataset.test is null; generated questions "
                "have no end: give three numbers"
            )
        if self.largest_operand > self.highest:
            raise UserError(
                f"dataset.largest_operand is {self.largest_operand}; give 1 to dataset.highest"
            )


@dataclass(kw_only=True, slots=True)
class MixedConfig(ArithmeticConfig):
    """Chains of operations, and as long lookups, whose answer stands in the question.

    `lookup_share` is the share of lookups in every split and among the shots, see data/mixed.py.
    There are 9,000 of them.
    """

    kind: str = "mixed"
    lookup_share: Annotated[float, Range(0, 1, above=True, below=True)] = 0.5


@dataclass(kw_only=True, slots=True)
class ColumnsConfig:
    """Column names of a file; None if the file has no such column.

    A default that the file does not have is looked for under other usual names, see
    data/recognise.py.

    `options` names one column with a list (or a JSON list as text), or several columns with one
    option each, such as `[A, B, C, D]` or `A,B,C,D`; a row with empty cells at the end has fewer
    options. `context` is a passage that stands before the question. Without an `id` column, ids
    are made of the content.
    """

    id: Text | None = None
    question: Text = "question"
    context: Text | None = None
    options: list[str] | None = field(default_factory=lambda: ["options"])
    answer: Text = "answer"
    subject: Text | None = None
    rationale: Text | None = None

    def __post_init__(self) -> None:
        if isinstance(self.options, str):
            self.options = [name.strip() for name in self.options.split(",")]
        check_dials(self, "dataset.columns")


@dataclass(kw_only=True, slots=True)
class MappedConfig(DatasetConfig):
    """How the rows of any file become questions.

    `first_index` is the number of the first option if answers are indices; None is decided from
    all rows, or refused if they do not show it. `answer_set` lists the allowed answers of
    questions without options; empty is free text.
    """

    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    answer_set: list[str] = field(default_factory=list)
    answer_form: AnswerForm = AnswerForm.auto
    first_index: Annotated[int, Range(0, 1)] | None = None

    def __post_init__(self) -> None:
        DatasetConfig.__post_init__(self)
        if len(self.answer_set) == 1:
            raise UserError(
                f"dataset.answer_set is {self.answer_set}; give two or more different answers, or "
                "[] for free text"
            )


@dataclass(kw_only=True, slots=True)
class LocalConfig(MappedConfig):
    """Your own JSONL, JSON, CSV, TSV or parquet files.

    Only `train_path` is needed: splits without a file are drawn from it by `seed`. Relative
    paths start at the current folder.
    """

    kind: str = "local"
    train_path: Text | None = None
    validation_path: Text | None = None
    test_path: Text | None = None


@dataclass(kw_only=True, slots=True)
class HubConfig(MappedConfig):
    """Any dataset of the hub whose rows are questions, with a mapping of its columns.

    `subset` is what the hub calls a subset or config. Splits without a name of their own are drawn
    from `train_split`. `path` is a copy: a folder with the hub's files, or one file of rows.
    Published rows repeat a few questions; the first of each is kept.
    """

    kind: str = "hub"
    duplicates: Duplicates = Duplicates.first
    id: Text | None = None
    revision: Text = "main"
    subset: Text | None = None
    path: Text | None = None
    train_split: Text = "train"
    validation_split: Text | None = None
    test_split: Text | None = None


@dataclass(kw_only=True, slots=True)
class HubDatasetConfig(DatasetConfig):
    """A published dataset, from the hub at a pinned revision or from the copy at `path`.

    `path` is a folder with the hub's files, or one file of rows. Published rows repeat a few
    questions; the first of each is kept.
    """

    duplicates: Duplicates = Duplicates.first
    id: Text
    revision: Text
    path: Text | None = None


@dataclass(kw_only=True, slots=True)
class MmluProConfig(HubDatasetConfig):
    """MMLU-Pro: 12,032 questions in 14 categories, 3 to 10 options."""

    kind: str = "mmlu_pro"
    id: Text = "TIGER-Lab/MMLU-Pro"
    revision: Text = "b189ec765aa7ed75c8acfea42df31fdae71f97be"


@dataclass(kw_only=True, slots=True)
class MedmcqaConfig(HubDatasetConfig):
    """MedMCQA: 182,822 training and 4,183 validation questions with 4 options.

    The original files count options from 1, some copies from 0: see `LocalConfig.first_index`.
    """

    kind: str = "medmcqa"
    id: Text = "openlifescienceai/medmcqa"
    revision: Text = "91c6572c454088bf71b679ad90aa8dffcd0d5868"
    first_index: Annotated[int, Range(0, 1)] | None = None


@dataclass(kw_only=True, slots=True)
class Gsm8kConfig(HubDatasetConfig):
    """GSM8K: 7,473 training and 1,319 test problems; answers are numbers."""

    kind: str = "gsm8k"
    id: Text = "openai/gsm8k"
    revision: Text = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"
