"""Every complexity estimator, as data: what it needs, its direction, and where it applies.

An estimator turns one question into one number that should say how hard the question is for the
student. Rooms look properties up here and never test for an estimator's name: the pipeline gathers
what the requested ones need, in the order of `Need`, the split cuts by the chosen one, and the
report states the caveats of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial

from caft.errors import UserError, did_you_mean


class Need(Enum):
    """What must be gathered before an estimate exists, cheapest first.

    `single_token`: the one forward pass that every run makes. `hidden`: hidden states of that pass.
    `fallback`: one more pass, in which the student may decline. `p_true` and `verbalized`: one more
    pass each, about its own answer. `teacher`: the teacher's pass over the training questions, or a
    file. `teacher_options`: an endpoint's log-probabilities of the options, one call a training
    question. `chain`: the student's own chain of thought, written out. `samples`: several drawn
    ones. `rationale`: the teacher's rationale of every training question. `judge`: a judge's reply
    to each question.
    """

    single_token = "single_token"
    hidden = "hidden"
    fallback = "fallback"
    p_true = "p_true"
    verbalized = "verbalized"
    teacher = "teacher"
    teacher_options = "teacher_options"
    chain = "chain"
    samples = "samples"
    rationale = "rationale"
    judge = "judge"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """One measure of how hard a question is.

    `title` stands in sentences, `unit` after numbers. `circular`: it looks at the gold answer,
    so that its AUC proves nothing. `needs_labels`: it is fitted on the gold answers of training
    questions other than the one that it judges. `known_at_test`: it exists for questions whose
    answer nobody knows; where it does not, validation and test questions are placed by another one.
    `free_text`: it differs from the plain one only where answers are several tokens.
    `lower_is_harder`: it falls as questions get harder.
    """

    name: str
    title: str
    need: Need = Need.single_token
    unit: str = ""
    circular: bool = False
    needs_labels: bool = False
    known_at_test: bool = True
    free_text: bool = False
    lower_is_harder: bool = False

    @property
    def may_be_missing(self) -> bool:
        """Whether single questions may lack it: a reply that cannot be read has no number."""
        asked = (Need.teacher_options, Need.chain, Need.rationale, Need.judge)
        return self.need in asked or self.follows_answer

    @property
    def follows_answer(self) -> bool:
        """Whether the student is asked about the answer that it gave."""
        return self.need in (Need.p_true, Need.verbalized)


_entropy = partial(Estimator, unit="nats")
_of_chain = partial(_entropy, need=Need.chain)
_sureness = partial(Estimator, lower_is_harder=True)


_ALL = (
    _entropy(name="answer_entropy", title="answer entropy"),
    _entropy(name="option_entropy", title="entropy over the options"),
    _sureness(name="option_mass", title="probability on the options"),
    _sureness(name="top1_margin", title="top-1 margin"),
    _sureness(name="top1_probability", title="top-1 probability"),
    _entropy(
        name="answer_mean_entropy", title="mean entropy of the answer's tokens", free_text=True
    ),
    _entropy(
        name="answer_sum_entropy", title="summed entropy of the answer's tokens", free_text=True
    ),
    _entropy(
        name="gold_cross_entropy",
        title="cross-entropy of the gold answer (circular)",
        circular=True,
        known_at_test=False,
    ),
    Estimator(
        name="probe",
        title="probability of a mistake by a probe of the hidden state (needs labels)",
        need=Need.hidden,
        needs_labels=True,
    ),
    _entropy(
        name="fallback_entropy", title="entropy where declining is allowed", need=Need.fallback
    ),
    Estimator(name="fallback_declines", title="probability of declining", need=Need.fallback),
    _sureness(name="p_true", title="probability that its own answer is true", need=Need.p_true),
    _sureness(name="verbalized", title="stated confidence in its own answer", need=Need.verbalized),
    _entropy(
        name="entropy_gain",
        title="answer entropy above the teacher's",
        need=Need.teacher,
        known_at_test=False,
    ),
    _entropy(
        name="option_entropy_gain",
        title="entropy over the options above the teacher's",
        need=Need.teacher_options,
        known_at_test=False,
    ),
    _of_chain(name="cot_answer_entropy", title="CoT entropy at the answer"),
    _of_chain(name="cot_mean_entropy", title="mean CoT entropy"),
    _of_chain(name="cot_max_entropy", title="largest CoT entropy"),
    _of_chain(name="cot_top_entropy", title="mean of the largest tenth of CoT entropies"),
    _of_chain(name="cot_sum_entropy", title="summed CoT entropy"),
    _of_chain(name="cot_sentence_mean_of_means", title="CoT entropy, mean of sentence means"),
    _of_chain(name="cot_sentence_mean_of_max", title="CoT entropy, mean of sentence maxima"),
    _sureness(name="cot_margin", title="mean CoT top-2 margin", need=Need.chain),
    _sureness(name="cot_answer_margin", title="CoT top-2 margin at the answer", need=Need.chain),
    _sureness(
        name="answer_frequency",
        title="share of the most frequent sampled answer",
        need=Need.samples,
    ),
    _sureness(
        name="pass_rate",
        title="share of sampled chains that are right (circular)",
        need=Need.samples,
        circular=True,
        known_at_test=False,
    ),
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
"""No estimator: the strategy split=random draws its classes by lot."""

STAND_IN = "answer_entropy"
"""Places the questions for which the chosen estimator is not known at test time."""


def difficulty(estimator: str, value: float | None) -> float | None:
    """An estimate turned so that more means harder, whichever way it points by itself."""
    falls = estimator in ESTIMATORS and ESTIMATORS[estimator].lower_is_harder
    return -value if falls and value is not None else value


def find_estimator(dial: str, name: str) -> Estimator:
    """The estimator of that name. UserError with the nearest valid one where there is none."""
    if name in ESTIMATORS:
        return ESTIMATORS[name]
    if name == CONTROL:
        raise UserError(f"{dial} is {CONTROL}, which is drawn by lot; give split=random for that")
    of_answer = f"answer_{name}"
    hint = did_you_mean(of_answer if of_answer in ESTIMATORS else name, ESTIMATORS)
    raise UserError(f"{dial} is {name}; give one of {', '.join(ESTIMATORS)}{hint}")


def needs_of(names: Iterable[str]) -> list[Need]:
    """What the named estimators need, each once, cheapest first."""
    wanted = {ESTIMATORS[name].need for name in names}
    return [need for need in Need if need in wanted]
