"""The replies that a question allows, and the gold one."""

from __future__ import annotations

import string

from caft.records import Question
from caft.text.config import OptionIds


def answer_labels(question: Question, option_ids: OptionIds) -> tuple[str, ...]:
    """The allowed replies, in the order of options or answer set; empty for free text."""
    if not question.options:
        return question.answer_set
    count = len(question.options)
    if option_ids is OptionIds.letters:
        return tuple(string.ascii_uppercase[:count])
    return tuple(str(number) for number in range(1, count + 1))


def gold_label(question: Question, option_ids: OptionIds) -> str:
    """The right reply: an option id, a member of the answer set, or the free text."""
    if question.gold_index is None:
        return question.gold_text
    return answer_labels(question, option_ids)[question.gold_index]
