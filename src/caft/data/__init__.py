"""Reads, divides and checks the questions of a run.

A dataset config becomes `QuestionSplits`: the questions of train, validation and test, the shots
for prompts, what was left out and why, and a fingerprint. The same config gives the same
questions on every machine; all draws use `dataset.seed`.

Errors are UserErrors of one line: a missing file or column, a hub that cannot be reached, wrong
rows (named by file and line), repeats, a request for more questions than there are, right answers
that all have the same place.

A new source is one file here and one line in `SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable

from caft.data.arithmetic import load_arithmetic
from caft.data.checks import check_questions
from caft.data.config import DatasetConfig, HubConfig, LocalConfig
from caft.data.gsm_symbolic import load_gsm_symbolic
from caft.data.hub import NotHereError, load_hub
from caft.data.local import load_local, read_published_scores
from caft.data.mixed import load_mixed
from caft.data.splits import QuestionSplits
from caft.errors import UserError

__all__ = ["NotHereError", "QuestionSplits", "load_questions", "published_scores"]

SOURCES: dict[str, Callable[..., QuestionSplits]] = {
    "arithmetic": load_arithmetic,
    "gsm_symbolic": load_gsm_symbolic,
    "hub": load_hub,
    "local": load_local,
    "mixed": load_mixed,
}
"""The reader of each kind of dataset."""


def load_questions(config: DatasetConfig, *, fetch: bool = True) -> QuestionSplits:
    """All questions of a run. Raises UserError for anything wrong with the source.

    Without `fetch` nothing is downloaded: NotHereError names what would have to be.
    """
    if config.kind not in SOURCES:
        raise UserError(f"dataset.kind is {config.kind!r}; give one of {', '.join(SOURCES)}")
    load = SOURCES[config.kind]
    read = load(config, fetch=fetch) if isinstance(config, HubConfig) else load(config)
    return check_questions(read, config)


def published_scores(
    config: DatasetConfig, entropy_column: str, correct_column: str
) -> dict[str, tuple[float, bool]]:
    """Published entropies (nats) and correctness by question id, from columns of local files.

    Rows that duplicates=first leaves out are included. Raises UserError for other datasets.
    """
    if not isinstance(config, LocalConfig):
        raise UserError(
            f"score=published reads columns of your own files, which dataset={config.name} does "
            "not have; set dataset=local, or score=model"
        )
    return read_published_scores(config, entropy_column, correct_column)
