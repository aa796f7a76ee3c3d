"""What is checked about questions before anything runs, whatever their source."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from caft.data.cells import show
from caft.data.columns import equal_to_gold
from caft.data.config import DatasetConfig
from caft.data.positions import (
    ALPHA,
    HANDFUL,
    GoldPlace,
    find_uneven_place,
    names_letters,
    shuffle_options,
)
from caft.data.splits import QuestionSplits
from caft.errors import UserError, count_of
from caft.packed import join, values_of
from caft.records import Question
from caft.text.config import PromptConfig, PromptStyle

log = logging.getLogger(__name__)


def check_questions(splits: QuestionSplits, config: DatasetConfig) -> QuestionSplits:
    """The questions, with options shuffled if the config asks for it. Warns of what is unusual.

    Raises UserError if the gold answer of every question has the same place.
    """
    questions = join(*(part for _, part in splits.parts()))
    _warn_of_equal_options(questions)
    _warn_of_one_answer(questions)
    if config.shuffle_options:
        splits = _shuffle(splits, config.seed)
    _check_places(splits, shuffled=config.shuffle_options)
    return splits


def refuse_other_prompts(questions: Sequence[Question], config: DatasetConfig) -> None:
    """UserError where the prompts hide the options, or ask for the id of one where there are none.

    A model would still reply, and its replies would be graded. Where the model decides between chat
    and completion (`style: auto`), both must be so.
    """
    prompt = config.prompt
    shows = {
        setting: "{options}" in getattr(prompt, setting)
        for style, setting in _ASKED_BY.items()
        if prompt.style in (style, PromptStyle.auto)
    }
    hidden = (each for each in questions if each.options and not _names_its_options(each))
    if not any(shows.values()) and (question := next(hidden, None)):
        raise UserError(
            f"{question.origin or question.id} has options, and dataset.prompt."
            f"{next(iter(shows))} does not show them; put {{options}} there, as the prompts of "
            "dataset=local have it, or set dataset.columns.options=null for free text"
        )
    asks, settings = dict(shows), [f"dataset.prompt.{name}" for name in shows]
    if "user" in shows:  # a completion has no system text
        asks["user"] |= prompt.system_answer == PromptConfig().system_answer
        settings.append("dataset.prompt.system_answer")
    choices = zip(values_of(questions, "options"), values_of(questions, "answer_set"), strict=True)
    if all(asks.values()) and any(not options and not answers for options, answers in choices):
        raise UserError(
            "the answers are free text, and the prompts ask for the id of an option; use "
            f"dataset=text for your own files, else give {', '.join(settings)} and their like for "
            "free answers"
        )


_ASKED_BY = {PromptStyle.chat: "user", PromptStyle.completion: "completion_answer"}


def _names_its_options(question: Question) -> bool:
    text = question.text.casefold()
    return all(option.casefold() in text for option in question.options)


def _warn_of_equal_options(questions: Sequence[Question]) -> None:
    """In published rows only: in the user's own files they are refused on reading."""
    doubled = [question for question in questions if equal_to_gold(question)]
    if doubled:
        log.warning(
            "%s with the answer among the options twice (%s); either one is read as an option of "
            "its own",
            count_of(len(doubled), "question"),
            doubled[0].origin or doubled[0].id,
        )


def _warn_of_one_answer(questions: Sequence[Question]) -> None:
    """Without listed options there are no places, but all answers may be the same."""
    listed = [*map(bool, values_of(questions, "options"))]
    asked = len(listed) - sum(listed)
    if not asked:
        return
    answers = {
        q.gold_text if q.gold_index is None else q.answer_set[q.gold_index]
        for q in questions
        if not q.options
    }
    if len(answers) == 1 and asked > HANDFUL:
        log.warning(
            "the right answer of all %d questions is %s, so a model need only learn that one; give "
            "rows whose answers differ",
            asked,
            show(*answers),
        )


def _shuffle(splits: QuestionSplits, seed: int) -> QuestionSplits:
    parts = {**dict(splits.parts()), "shots": splits.shots}
    questions = join(*parts.values())
    if not any(values_of(questions, "options")):
        log.warning("dataset.shuffle_options=true changes nothing: no question lists its options")
    kept = [each for each in questions if each.options and names_letters(each)]
    if kept:
        log.warning(
            "the options of %s are not shuffled, since they or the worked solution name "
            "others by letter or place (%s)",
            count_of(len(kept), "question"),
            kept[0].origin or kept[0].id,
        )
    shuffled = {name: shuffle_options(part, seed) for name, part in parts.items()}
    return QuestionSplits(**shuffled, removed=splits.removed, sources=splits.sources)


def _check_places(splits: QuestionSplits, *, shuffled: bool) -> None:
    """All questions together, then each split: only a test file may be uneven."""
    parts = dict(splits.parts())
    warned = False
    for name, part in {"": join(*parts.values()), **parts}.items():
        found = find_uneven_place(part)
        if found is None:
            continue
        unlikely = found.p < ALPHA
        if found.everywhere and found.questions > HANDFUL and (unlikely or not name):
            raise UserError(_refusal(found, name, shuffled=shuffled))
        if unlikely and not warned:
            log.warning("%s", _warning(found, name, shuffled=shuffled))
            warned = True


def _refusal(found: GoldPlace, split: str, *, shuffled: bool) -> str:
    advice = (
        "give rows whose answers differ"
        if shuffled
        else "set dataset.shuffle_options=true, which draws an order for every question"
    )
    return (
        f"the right answer of all {found.questions} {_describe(split)}questions is option "
        f"{found.place + 1}, so a model need only learn that place; {advice}"
    )


def _warning(found: GoldPlace, split: str, *, shuffled: bool) -> str:
    advice = "" if shuffled else "; dataset.shuffle_options=true draws an order for every question"
    return (
        f"the right answer is option {found.place + 1} in {found.gold} of {found.questions} "
        f"{_describe(split)}questions, where chance gives {found.expected:.0f} (p = "
        f"{max(found.p, 1e-30):.0e}): a model may learn the place{advice}"
    )


def _describe(split: str) -> str:
    return {"": "", "train": "training "}.get(split, f"{split} ")
