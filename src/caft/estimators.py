"""Every complexity estimator, as data: what it needs, its direction, and where it applies.

An estimator turns one question into one number that should say how hard the question is for the
student. Rooms look properties up here and never test for an estimator's name: the pipeline gathers
what the requested ones need, in the order of `Need`, the split cuts by the chosen one, and the
report states the caveats of each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from caft.errors import UserError
from caft.records import LOWER_IS_HARDER


class Need(Enum):
    """What must be gathered before an estimate exists, cheapest first.

    `single_token`: the one forward pass that every run makes. `fallback`: one more pass, in which
    the student may decline. `chain`: the student's own chain of thought, written out. `rationale`:
    the teacher's rationale of every training question. `judge`: a judge's reply to each question.
    """

    single_token = "single_token"
    fallback = "fallback"
    chain = "chain"
    rationale = "rationale"
    judge = "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """One measure of how hard a question is.

    `title` is used in sentences, `unit` after numbers. `circular`: it uses the gold answer, so that
    its AUC proves nothing. `known_at_test`: it exists for questions whose answer is unknown; if it
    does not, validation and test questions are placed by another estimator. `free_text`: it differs
    from the plain one only for answers of several tokens.
    """

    name: str
    title: str
    need: Need = Need.single_token
    unit: str = ""
    circular: bool = False
    known_at_test: bool = True
    free_text: bool = False

    @property
    def lower_is_harder(self) -> bool:
        """Whether the number falls as questions get harder."""
        return self.name in LOWER_IS_HARDER

    @property
    def may_be_missing(self) -> bool:
        """Whether single questions may lack it: a reply that cannot be read has no number."""
        return self.need in (Need.chain, Need.rationale, Need.judge)


def _chain(name: str, title: str, unit: str = "nats") -> Estimator:
    return Estimator(name=name, title=title, need=Need.chain, unit=unit)


_ALL = (
    Estimator(name="answer_entropy", title="answer entropy", unit="nats"),
    Estimator(name="option_entropy", title="entropy over the options", unit="nats"),
    Estimator(name="option_mass", title="probability on the options"),
    Estimator(name="top1_margin", title="top-1 margin"),
    Estimator(name="top1_probability", title="top-1 probability"),
    Estimator(
        name="answer_mean_entropy",
        title="mean entropy of the answer's tokens",
        unit="nats",
        free_text=True,
    ),
    Estimator(
        name="answer_sum_entropy",
        title="summed entropy of the answer's tokens",
        unit="nats",
        free_text=True,
    ),
    Estimator(
        name="gold_cross_entropy",
        title="cross-entropy of the gold answer (circular)",
        unit="nats",
        circular=True,
        known_at_test=False,
    ),
    Estimator(
        name="fallback_entropy",
        title="entropy where declining is allowed",
        need=Need.fallback,
        unit="nats",
    ),
    Estimator(name="fallback_declines", title="probability of declining", need=Need.fallback),
    _chain("cot_answer_entropy", "CoT entropy at the answer"),
    _chain("cot_mean_entropy", "mean CoT entropy"),
    _chain("cot_max_entropy", "largest CoT entropy"),
    _chain("cot_sum_entropy", "summed CoT entropy"),
    _chain("cot_sentence_mean_of_means", "CoT entropy, mean of sentence means"),
    _chain("cot_sentence_mean_of_max", "CoT entropy, mean of sentence maxima"),
    _chain("cot_margin", "mean CoT top-2 margin", unit=""),
    _chain("cot_answer_margin", "CoT top-2 margin at the answer", unit=""),
    Estimator(
        name="rationale_length",
        title="length of the teacher's rationale",
        need=Need.rationale,
        unit="tokens",
        known_at_test=False,
    ),
    Estimator(
        name="judge_education", title="education level by a judge", need=Need.judge, unit="level"
    ),
    Estimator(
        name="judge_steps", title="reasoning steps by a judge", need=Need.judge, unit="steps"
    ),
)

ESTIMATORS: dict[str, Estimator] = {estimator.name: estimator for estimator in _ALL}
"""By name, in the order in which tables list them. To add an estimator, add one line above."""

CONTROL = "random"
"""A number drawn at random for every question: an estimator must do better than that. It never cuts
classes; the strategy split=random does."""

STAND_IN = "answer_entropy"
"""Places the questions for which the chosen estimator is not known at test time."""


def find_estimator(setting: str, name: str) -> Estimator:
    """The estimator of that name. UserError with the nearest valid one where there is none."""
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    if name == CONTROL:
        raise UserError(f"{setting} is {CONTROL}, which is drawn at random; give split=random")
    near = difflib.get_close_matches(name, ESTIMATORS, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UserError(f"{setting} is {name}; give one of {', '.join(ESTIMATORS)}{hint}")


def needs_of(names: Iterable[str]) -> list[Need]:
    """What the named estimators need, each once, cheapest first."""
    wanted = {ESTIMATORS[name].need for name in names}
    return [need for need in Need if need in wanted]
