"""Which questions: one config class a kind of source."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Annotated

from caft.dials import Count, Range, Seed, Text, check_dials
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
    name: Text
    seed: Seed = 0
    train: Count | None = None
    validation: Count | None = None
    test: Count | None = None
    duplicates: Duplicates = Duplicates.refuse
    shuffle_options: bool = False
    answer_set: list[str] = field(default_factory=list)
    max_new_tokens: Count = 1024
    prompt: PromptConfig = field(default_factory=PromptConfig)

    def __post_init__(self) -> None:
        check_dials(self, "dataset")
        self._refuse_unclear_answer_set()

    def _refuse_unclear_answer_set(self) -> None:
        members = self.answer_set
        if len(members) == 1:
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
    train: Count | None = 600
    validation: Count | None = 100
    test: Count | None = 200
    answer_set: list[str] = field(default_factory=lambda: list("123456789"))
    most_steps: Annotated[int, Range(1, 9)] = 5
    lowest: Annotated[int, Range(0, 1)] = 0
    highest: Annotated[int, Range(9, 99)] = 30
    largest_operand: Annotated[int, Range(1, 99)] = 9

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
        if self.largest_operand > self.highest:
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

    id: Text | None = None
    question: Text = "question"
    options: list[str] | None = field(default_factory=lambda: ["options"])
    answer: Text = "answer"
    subject: Text | None = None
    rationale: Text | None = None

    def __post_init__(self) -> None:
        if isinstance(self.options, str):
            self.options = [name.strip() for name in self.options.split(",")]
        check_dials(self, "dataset.columns")


@dataclass(kw_only=True, slots=True)
class LocalConfig(DatasetConfig):
    """Your own JSONL, CSV or parquet files.

    Only `train_path` is needed: splits without a file are drawn from it by `seed`. Relative
    paths start at the current folder. `first_index` is the number of the first option where
    answers are indices; None is decided from all rows, and asked for where none of them tells.
    """

    kind: str = "local"
    train_path: Text | None = None
    validation_path: Text | None = None
    test_path: Text | None = None
    columns: ColumnsConfig = field(default_factory=ColumnsConfig)
    answer_form: AnswerForm = AnswerForm.auto
    first_index: Annotated[int, Range(0, 1)] | None = None


@dataclass(kw_only=True, slots=True)
class HubDatasetConfig(DatasetConfig):
    """A published dataset, from the hub at a pinned revision or from the copy at `path`.

    `path` is a folder laid out as on the hub, or one file of rows. Published rows repeat a few
    questions, so the first of each is kept.
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

    Some copies count options from 0, the original files from 1: see `LocalConfig.first_index`.
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
