"""The further data sets of `evaluation.also`: of each its test questions, and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from caft.data import load_questions
from caft.data.checks import check_questions
from caft.data.config import DatasetConfig, LocalConfig
from caft.data.dedup import leave_out
from caft.data.local import load_test_file
from caft.data.splits import QuestionSplits
from caft.errors import UserError, count_of
from caft.records import Question

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class FurtherSet:
    """Test questions that tuning has not seen, and the shots that stand solved before each.

    `in_training` counts the test rows that are left out, since the run trains their wording.
    """

    config: DatasetConfig
    questions: Sequence[Question]
    shots: Sequence[Question]
    in_training: int

    @property
    def name(self) -> str:
        """What tells it from the others."""
        return self.config.name


@contextmanager
def naming_further(name: str) -> Iterator[None]:
    """An error within is about the further set `name`, and says so."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"evaluation.also, {name}: {error}") from error


def load_further(
    config: DatasetConfig, train: Sequence[Question], *, fetch: bool = True
) -> FurtherSet:
    """The set's test questions without those that stand in `train`, which are counted and logged.

    Raises UserError as `load_questions`, and where no question is left.
    """
    with naming_further(config.name):
        read = _read(config, fetch=fetch)
    kept, _ = leave_out(read.test, train, config.name, "train")
    shared = len(read.test) - len(kept)
    if not kept:
        raise UserError(
            f"evaluation.also, {config.name}: every test question ({shared:,}) stands in the "
            "training questions too, and says nothing about forgetting; name a set that is not "
            "trained"
        )
    if shared:
        log.warning(
            "evaluation.also, %s: %d of %s stand in the training questions and are left out",
            config.name,
            shared,
            count_of(len(read.test), "test question"),
        )
    return FurtherSet(config=config, questions=kept, shots=read.shots, in_training=shared)


def _read(config: DatasetConfig, *, fetch: bool) -> QuestionSplits:
    if isinstance(config, LocalConfig) and config.train_path is None and config.test_path:
        return check_questions(load_test_file(config), config)
    return load_questions(config, fetch=fetch)
