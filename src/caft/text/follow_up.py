"""Asking a model about its own answer, in one more pass. Pure.

Each kind is one entry of `FOLLOW_UPS`: a question about the question and the answer, whose reply is
one of a few labels. The estimate is the expected worth of the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from caft.records import Question
from caft.text.answers import answer_labels, gold_label
from caft.text.config import PromptConfig

_NO_ANSWER = "(none)"


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """A question about a proposed answer. `worth` has the value of each label, in their order.

    The labels are the ids of `options`, or the members of `answer_set`. `solved`: solved examples
    stand before it, since it is known whether their answers are right.
    """

    system: str
    asked: str
    completion: str
    worth: Sequence[float]
    options: tuple[str, ...] = ()
    answer_set: tuple[str, ...] = ()
    solved: bool = False

    def word(self, prompt: PromptConfig) -> PromptConfig:
        """The dataset's form of prompts, with this wording."""
        return replace(
            prompt,
            system_answer=self.system,
            user="{question}\n\n{options}",
            completion_answer=f"{{question}}\n{{options}}\n{self.completion}",
            shot_separator="\n\n",
        )

    def ask(self, question: Question, answer: str, *, right: bool | None = None) -> Question:
        """The follow-up as a question of its own; `right` says whether the answer is."""
        parts = [f"Question: {question.text}"]
        if question.options:
            # Without ids, which would be those of the follow-up's own options.
            parts += ["Choices:", *(f"- {option}" for option in question.options)]
        parts += [f"Proposed answer: {answer or _NO_ANSWER}", self.asked]
        return replace(
            question,
            text="\n".join(part for part in parts if part),
            options=self.options,
            answer_set=self.answer_set,
            gold_index=None if right is None else int(not right),
            gold_text="",
            rationale=None,
        )


FOLLOW_UPS: Mapping[str, FollowUp] = {
    # Kadavath et al. 2022, arXiv:2207.05221, section 3.
    "p_true": FollowUp(
        system="You are shown a question about {subject} and a proposed answer to it. Reply with "
        "the id of the right option and nothing else.",
        asked="Is the proposed answer true or false?",
        completion="The proposed answer is:",
        options=("True", "False"),
        worth=(1.0, 0.0),
        solved=True,
    ),
    # Xiong et al. 2023, arXiv:2306.13063. A digit instead of 0 to 100: small models write a number
    # of two digits badly, and one token has a distribution that can be read in one pass.
    "verbalized": FollowUp(
        system="You are shown a question about {subject} and a proposed answer to it. Say how "
        "likely the proposed answer is to be right: reply with one digit, from 0 (certainly wrong) "
        "to 9 (certainly right), and nothing else.",
        asked="How likely is the proposed answer to be right, from 0 (certainly wrong) to 9 "
        "(certainly right)?",
        completion="One digit:",
        answer_set=tuple("0123456789"),
        worth=tuple(digit / 9 for digit in range(10)),
    ),
}
"""By estimator."""


def follow_up_questions(
    name: str, questions: Sequence[Question], answers: Mapping[str, str], prompt: PromptConfig
) -> list[Question]:
    """What a model is asked about its own `answers`, given by question id as it wrote them."""
    asked = FOLLOW_UPS[name]
    return [asked.ask(each, _show(each, answers[each.id], prompt)) for each in questions]


def follow_up_shots(name: str, shots: Sequence[Question], prompt: PromptConfig) -> list[Question]:
    """Solved examples: right and wrong answers in turn, so that neither reply is the usual one.

    A shot that has no wrong answer to offer is left out where a wrong one is due.
    """
    asked = FOLLOW_UPS[name]
    return list(_solve(asked, shots, prompt)) if asked.solved else []


def _solve(asked: FollowUp, shots: Sequence[Question], prompt: PromptConfig) -> Iterator[Question]:
    for place, shot in enumerate(shots):
        right = place % 2 == 0
        gold = gold_label(shot, prompt.option_ids)
        answer = gold if right else _wrong_answer(place, shots, prompt)
        if answer is not None:
            yield asked.ask(shot, _show(shot, answer, prompt), right=right)


def _wrong_answer(place: int, shots: Sequence[Question], prompt: PromptConfig) -> str | None:
    """The next label after the gold one; in free text, another shot's answer."""
    gold = gold_label(shots[place], prompt.option_ids)
    labels = answer_labels(shots[place], prompt.option_ids)
    if labels:
        return labels[(labels.index(gold) + 1) % len(labels)] if len(labels) > 1 else None
    others = (gold_label(shot, prompt.option_ids) for shot in (*shots[place:], *shots[:place]))
    return next((other for other in others if other != gold), None)


def _show(question: Question, answer: str, prompt: PromptConfig) -> str:
    """An option's text instead of its id; what is no allowed answer stands as it was written."""
    labels = answer_labels(question, prompt.option_ids)
    if question.options and answer in labels:
        return question.options[labels.index(answer)]
    return answer


def read_follow_up(name: str, probabilities: Sequence[float]) -> float | None:
    """The expected worth of the labels, whose probabilities are renormalised to sum to 1.

    From 0 (surely wrong) to 1 (surely right); None if none of the labels has any probability.
    """
    mass = sum(probabilities)
    if mass <= 0:
        return None
    worth = FOLLOW_UPS[name].worth
    return sum(value * p for value, p in zip(worth, probabilities, strict=True)) / mass
