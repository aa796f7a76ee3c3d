"""Repeats, overlaps and draws. Pure: questions in, questions out.

"The same question" has two meanings here. Within a split, rows are equal if wording *and* options
are: a wording with other options is another question. Between splits the wording alone decides: a
model that was trained on it has seen the test question, whatever the wrong options were.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from caft.data.config import DatasetConfig, Duplicates
from caft.data.row_errors import refuse_mistakes
from caft.data.splits import QuestionSplits
from caft.errors import UserError
from caft.packed import keep, values_of
from caft.records import Question

Questions = Sequence[Question]


def fold(text: str) -> str:
    """The text without case and extra white space."""
    return " ".join(text.casefold().split())


def wording(question: Question) -> str:
    """The question's text, folded."""
    return fold(question.text)


def content(question: Question) -> tuple[str, ...]:
    """Wording and options, in which the repeats of a split agree."""
    return (wording(question), *(" ".join(option.split()) for option in question.options))


def drop_repeats(
    questions: Sequence[Question], split: str, rule: Duplicates
) -> tuple[Questions, Counter[str]]:
    """The first of every id and of every content, and the counts of the others by reason.

    Raises UserError that names them if the rule is to refuse.
    """
    # By place: a question that is held is not packed, and its content is as large as it is.
    seen_ids: dict[str, int] = {}
    seen_contents: dict[bytes, int] = {}
    kept, mistakes = [], []
    removed: Counter[str] = Counter()
    for place, question in enumerate(questions):
        words = _digest(content(question))
        if (earlier := seen_ids.get(question.id)) is not None:
            removed[f"{split} rows: id repeated"] += 1
            before = questions[earlier].origin
            mistakes.append(f"{question.origin}: id {question.id!r} repeats {before}")
        elif (earlier := seen_contents.get(words)) is not None:
            removed[f"{split} rows: question repeated"] += 1
            before = questions[earlier].origin
            mistakes.append(f"{question.origin}: the question repeats {before}")
        else:
            seen_ids[question.id] = seen_contents[words] = place
        kept.append(earlier is None)
    if rule is Duplicates.refuse:
        refuse_mistakes(mistakes, "dataset.duplicates=first keeps the first of each")
    return keep(questions, kept), removed


def _digest(words: Sequence[str]) -> bytes:
    """Equal for equal words alone: no two of 10^9 contents share 128 bits (p < 10^-20)."""
    text = "".join(f"{len(word)} {word}" for word in words)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def leave_out(
    questions: Sequence[Question], held_out: Sequence[Question], split: str, held: str
) -> tuple[Questions, Counter[str]]:
    """The questions whose wording is not in `held_out`, and two counts, which may differ.

    One counts the rows that were left out, the other the held-out questions found among them.
    """
    wordings = [*map(fold, values_of(held_out, "text"))]
    asked = {*wordings}
    kept = [words not in asked for words in map(fold, values_of(questions, "text"))]
    if all(kept):
        return questions, Counter()
    here = asked.intersection(map(fold, values_of(questions, "text")))
    found = sum(words in here for words in wordings)
    return keep(questions, kept), Counter(
        {
            f"{split} rows: question stands in {held}": len(questions) - sum(kept),
            f"{held} questions found in {split}": found,
        }
    )


def order_of_draw(ids: Iterable[str], split: str, seed: int) -> list[str]:
    """The ids of questions in an order that depends only on them, `split` and `seed`.

    The order is that of a hash: rows added to a file later do not move the others, and it is the
    same for every Python version and platform.
    """

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"{split} {seed} {name}".encode()).digest()

    return sorted(ids, key=rank)


def draw(
    questions: Sequence[Question], count: int | None, split: str, seed: int, said: str = ""
) -> Questions:
    """`count` questions (None: all) drawn by seed, in their own order.

    UserError if there are too few, with what the setting is `said` to be in place of the count.
    """
    if count is None:
        return questions
    if count > len(questions):
        setting = "dataset.prompt.shots" if split == "shots" else f"dataset.{split}"
        raise UserError(
            f"{setting} is {said or count}, but without repeats and the other splits "
            f"{len(questions):,} of the questions can be drawn: ask for fewer, or give more rows"
        )
    drawn = {*order_of_draw(values_of(questions, "id"), split, seed)[:count]}
    return keep(questions, [name in drawn for name in values_of(questions, "id")])


def divide(
    config: DatasetConfig,
    *,
    train: Questions,
    validation: Questions | None = None,
    test: Questions | None = None,
    shots: Questions | None = None,
) -> QuestionSplits:
    """Divides the rows of a source into the splits of a run; splits of None are drawn from train.

    Repeats are removed first. A question of two splits stays in the first of test, validation,
    shots and train. All rows of a split's own file are removed from train, whether they are drawn
    or not, so that train does not depend on how many are.
    """
    train, removed = drop_repeats(train, "train", config.duplicates)
    tenth = max(1, len(train) // 10)
    sources = {
        "test": (test, config.test),
        "validation": (validation, config.validation),
        "shots": (shots, config.prompt.shots),
    }
    chosen: dict[str, Questions] = {}
    held: dict[str, Questions] = {}
    for split, (own, count) in sources.items():
        if own is None:
            wanted, said = (tenth, f"null (a tenth, {tenth})") if count is None else (count, "")
            rows = chosen[split] = draw(train, wanted, split, config.seed, said)
            drawn = {*values_of(rows, "id")}
            train = keep(train, [name not in drawn for name in values_of(train, "id")])
        else:
            rows, left_out = drop_repeats(own, split, config.duplicates)
            removed += left_out
            for earlier, held_out in held.items():
                rows, left_out = leave_out(rows, held_out, split, earlier)
                removed += left_out
            chosen[split] = draw(rows, count, split, config.seed)
        held[split] = rows
        train, left_out = leave_out(train, rows, "train", split)
        removed += left_out
    refuse_shared_ids({**held, "train": train})
    chosen["train"] = draw(train, config.train, "train", config.seed)
    _refuse_empty(chosen, removed)
    return QuestionSplits(**chosen, removed=dict(removed), sources={})


def take_test(config: DatasetConfig, *, test: Questions) -> QuestionSplits:
    """As `divide`, of a test split that has no other beside it."""
    rows, removed = drop_repeats(test, "test", config.duplicates)
    drawn = draw(rows, config.test, "test", config.seed)
    return QuestionSplits(train=(), validation=(), test=drawn, removed=dict(removed))


def refuse_shared_ids(splits: Mapping[str, Questions]) -> None:
    """UserError if an id means two questions: scores, classes and replies are kept by id."""
    ids = [name for rows in splits.values() for name in values_of(rows, "id")]
    if len({*ids}) == len(ids):
        return
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


def _refuse_empty(chosen: Mapping[str, Questions], removed: Mapping[str, int]) -> None:
    for split in ("train", "validation", "test"):
        if not chosen[split]:
            reasons = ", ".join(f"{reason}: {count}" for reason, count in removed.items())
            raise UserError(
                f"no question is left for {split} (left out: {reasons or 'none'}): give more "
                "rows, or files that do not hold the same questions"
            )
