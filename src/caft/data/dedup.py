"""Repeats, overlaps and draws. Pure: questions in, questions out.

Two notions of "the same question" live here. Within one split, rows repeat each other when
wording *and* options agree: one stem with other options is another question, and a fair one.
Between splits wording alone decides: a model that was trained on the stem has seen the test
question, whichever distractors stood below it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from caft.data.config import DatasetConfig, Duplicates
from caft.data.row_errors import refuse_mistakes
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.records import Question

Questions = tuple[Question, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pools:
    """Rows as they came from a source. None: this split is drawn from the training rows."""

    train: Questions
    validation: Questions | None = None
    test: Questions | None = None
    shots: Questions | None = None


def wording(question: Question) -> str:
    """The question's text, blind to case and to the amount of white space."""
    return " ".join(question.text.casefold().split())


def content(question: Question) -> tuple[str, ...]:
    """Wording and options: what makes two rows of one split the same question."""
    return (wording(question), *(" ".join(option.split()) for option in question.options))


def drop_repeats(
    questions: Sequence[Question], split: str, rule: Duplicates
) -> tuple[Questions, Counter[str]]:
    """The first of every id and of every content, and how many rows that left out, by reason.

    Raises UserError naming the rows where the rule is to refuse.
    """
    seen_ids: dict[str, Question] = {}
    seen_contents: dict[tuple[str, ...], Question] = {}
    kept, mistakes = [], []
    removed: Counter[str] = Counter()
    for question in questions:
        by_id, by_content = seen_ids.get(question.id), seen_contents.get(content(question))
        if by_id is None and by_content is None:
            seen_ids[question.id] = seen_contents[content(question)] = question
            kept.append(question)
        elif by_id is not None:
            removed[f"{split} rows: id repeated"] += 1
            mistakes.append(f"{question.origin}: id {question.id!r} repeats {by_id.origin}")
        elif by_content is not None:
            removed[f"{split} rows: question repeated"] += 1
            mistakes.append(f"{question.origin}: the question repeats {by_content.origin}")
    if rule is Duplicates.refuse:
        refuse_mistakes(mistakes, "dataset.duplicates=first keeps the first of each")
    return tuple(kept), removed


def leave_out(
    questions: Sequence[Question], held_out: Sequence[Question], split: str, held: str
) -> tuple[Questions, Counter[str]]:
    """The questions whose wording does not stand in `held_out`, and the counts of the others.

    Counted twice, since they differ: the rows that leave, and the held-out questions found.
    """
    wordings = {wording(question) for question in held_out}
    kept = tuple(question for question in questions if wording(question) not in wordings)
    if len(kept) == len(questions):
        return kept, Counter()
    here = {wording(question) for question in questions}
    found = sum(wording(question) in here for question in held_out)
    return kept, Counter(
        {
            f"{split} rows: question stands in {held}": len(questions) - len(kept),
            f"{held} questions found in {split}": found,
        }
    )


def order_of_draw(questions: Iterable[Question], split: str, seed: int) -> Questions:
    """The questions in an order that depends on nothing but `split`, `seed` and each one's id.

    A hash, not a shuffle: rows added to a file later do not move those already there, and every
    Python version on every platform agrees.
    """

    def rank(question: Question) -> bytes:
        return hashlib.sha256(f"{split} {seed} {question.id}".encode()).digest()

    return tuple(sorted(questions, key=rank))


def draw(questions: Sequence[Question], count: int | None, split: str, seed: int) -> Questions:
    """`count` questions (None: all) by seed, in the order they came in.

    Raises UserError where there are fewer.
    """
    if count is None:
        return tuple(questions)
    if count > len(questions):
        raise UserError(
            f"{dial(split)} is {count}, but {len(questions)} questions are there once repeats "
            "and the other splits are out: ask for fewer, or give more rows"
        )
    drawn = {question.id for question in order_of_draw(questions, split, seed)[:count]}
    return tuple(question for question in questions if question.id in drawn)


def dial(split: str) -> str:
    """The config key that says how many questions a split gets."""
    return "dataset.prompt.shots" if split == "shots" else f"dataset.{split}"


def divide(pools: Pools, config: DatasetConfig) -> QuestionSplits:
    """Rows of a source into the splits of a run.

    Repeats go first. A question that stands in two splits stays with the one that is examined:
    test, then validation, then shots, then train. Rows given for a split rule out training rows
    as a whole, so that no training row depends on how many of them are examined.
    """
    train, removed = drop_repeats(pools.train, "train", config.duplicates)
    counts = {
        "test": config.test,
        "validation": config.validation,
        "shots": config.prompt.shots,
    }
    tenth = max(1, len(train) // 10)
    chosen: dict[str, Questions] = {}
    held: dict[str, Questions] = {}
    for split, count in counts.items():
        own: Questions | None = getattr(pools, split)
        if own is None:
            held[split] = chosen[split] = draw(
                train, tenth if count is None else count, split, config.seed
            )
            train = _without_ids(train, chosen[split])
        else:
            held[split], left_out = _tidy(own, split, held, config.duplicates)
            removed += left_out
            chosen[split] = draw(held[split], count, split, config.seed)
        train, left_out = leave_out(train, held[split], "train", split)
        removed += left_out
    refuse_shared_ids({**held, "train": train})
    chosen["train"] = draw(train, config.train, "train", config.seed)
    _refuse_empty(chosen, removed)
    return QuestionSplits(**chosen, removed=dict(removed))


def refuse_shared_ids(splits: Mapping[str, Questions]) -> None:
    """Scores, classes and replies are kept by id, so an id must mean one question in a run."""
    seen: dict[str, Question] = {}
    mistakes = []
    for question in (question for rows in splits.values() for question in rows):
        other = seen.setdefault(question.id, question)
        if other is not question:
            mistakes.append(
                f"{question.origin}: id {question.id!r} is another question at {other.origin}"
            )
    refuse_mistakes(
        mistakes, "make ids unique over all files, or set dataset.columns.id=null to have them made"
    )


def _tidy(
    rows: Questions, split: str, held: Mapping[str, Questions], rule: Duplicates
) -> tuple[Questions, Counter[str]]:
    rows, removed = drop_repeats(rows, split, rule)
    for earlier, held_out in held.items():
        rows, left_out = leave_out(rows, held_out, split, earlier)
        removed += left_out
    return rows, removed


def _without_ids(questions: Questions, drawn: Questions) -> Questions:
    ids = {question.id for question in drawn}
    return tuple(question for question in questions if question.id not in ids)


def _refuse_empty(chosen: Mapping[str, Questions], removed: Mapping[str, int]) -> None:
    for split in ("train", "validation", "test"):
        if not chosen[split]:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in removed.items())
            raise UserError(
                f"no question is left for {split} (left out: {reasons or 'none'}): give more "
                "rows, or files that do not hold the same questions"
            )
