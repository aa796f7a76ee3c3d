"""What is noticed about questions before anything runs, whatever source they came from."""

from __future__ import annotations

import logging
from dataclasses import replace

from caft.data.cells import show
from caft.data.columns import equal_to_gold
from caft.data.config import DatasetConfig
from caft.data.positions import (
    ALPHA,
    HANDFUL,
    OneSided,
    find_one_sided,
    names_letters,
    shuffle_options,
)
from caft.data.splits import QuestionSplits
from caft.errors import UserError

log = logging.getLogger(__name__)

PARTS = ("train", "validation", "test", "shots")


def examine(splits: QuestionSplits, config: DatasetConfig) -> QuestionSplits:
    """The questions, their options shuffled where that is asked for; says what is odd about them.

    Raises UserError where the place of the options gives every answer away.
    """
    _tell_equal_options(splits)
    _tell_one_answer(splits)
    if config.shuffle_options:
        splits = _shuffle(splits, config.seed)
    _examine_places(splits, shuffled=config.shuffle_options)
    return splits


def _examine_places(splits: QuestionSplits, *, shuffled: bool) -> None:
    """All questions together, then each part: a test file of its own may be the odd one."""
    told = False
    for part in ("", *PARTS[:3]):
        names = (part,) if part else PARTS[:3]
        found = find_one_sided([q for name in names for q in getattr(splits, name)])
        if found is None:
            continue
        unlikely = found.p < ALPHA
        if found.everywhere and found.questions > HANDFUL and (unlikely or not part):
            raise UserError(_refuse(found, part, shuffled=shuffled))
        if unlikely and not told:
            log.warning("%s", _tell(found, part, shuffled=shuffled))
            told = True


def _tell_one_answer(splits: QuestionSplits) -> None:
    """Questions without listed options have no places, but may have one answer all the same."""
    asked = [q for part in PARTS[:3] for q in getattr(splits, part) if not q.options]
    answers = {q.gold_text if q.gold_index is None else q.answer_set[q.gold_index] for q in asked}
    if len(answers) == 1 and len(asked) > HANDFUL:
        log.warning(
            "the right answer of all %d questions is %s, so a model need only learn that one; give "
            "rows whose answers differ",
            len(asked),
            show(*answers),
        )


def _shuffle(splits: QuestionSplits, seed: int) -> QuestionSplits:
    if not any(q.options for part in PARTS for q in getattr(splits, part)):
        log.warning("dataset.shuffle_options=true changes nothing: no question lists its options")
    kept = [q for part in PARTS for q in getattr(splits, part) if names_letters(q)]
    if kept:
        log.warning(
            "the options of %d questions are not shuffled, since they or the worked solution name "
            "others by letter (%s)",
            len(kept),
            kept[0].origin or kept[0].id,
        )
    return replace(
        splits,
        train=shuffle_options(splits.train, seed),
        validation=shuffle_options(splits.validation, seed),
        test=shuffle_options(splits.test, seed),
        shots=shuffle_options(splits.shots, seed),
    )


def _refuse(found: OneSided, part: str, *, shuffled: bool) -> str:
    way_out = (
        "give rows whose answers differ"
        if shuffled
        else "set dataset.shuffle_options=true, which draws an order for every question"
    )
    return (
        f"the right answer of all {found.questions} {_name(part)}questions is option "
        f"{found.place + 1}, so a model need only learn that place; {way_out}"
    )


def _tell(found: OneSided, part: str, *, shuffled: bool) -> str:
    way_out = "" if shuffled else "; dataset.shuffle_options=true draws an order for every question"
    return (
        f"the right answer is option {found.place + 1} in {found.gold} of {found.questions} "
        f"{_name(part)}questions, where chance gives {found.expected:.0f} (p = "
        f"{max(found.p, 1e-30):.0e}): a model may learn the place{way_out}"
    )


def _name(part: str) -> str:
    return {"": "", "train": "training "}.get(part, f"{part} ")


def _tell_equal_options(splits: QuestionSplits) -> None:
    """Published rows are nobody's to mend; files of one's own are refused when they are read."""
    doubled = [q for part in PARTS[:3] for q in getattr(splits, part) if equal_to_gold(q)]
    if doubled:
        log.warning(
            "%d questions have their answer among the options twice (%s); either one is read as "
            "an option of its own",
            len(doubled),
            doubled[0].origin or doubled[0].id,
        )
