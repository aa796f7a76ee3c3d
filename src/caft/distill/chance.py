"""How many drawn chains are right by chance, and how many right ones are more than that. Pure.

A wrong chain may end in the gold answer, and does so often where answers are few. How often is
measured: an answer is compared with the gold answers of the *other* questions, to which it owes
nothing. A chain is trained only where its question has more right tries than that explains.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, log

from caft.grading import is_right
from caft.records import Question, SampledReply
from caft.text.answers import gold_label
from caft.text.config import OptionIds

RARE = 0.05
"""A question without any right chain of its own is trained with at most this probability."""

_MOST_COMPARED = 100_000
_MOST_GRADED = 2_000
"""Where a library or a function decides, which takes milliseconds."""


@dataclass(frozen=True, slots=True)
class Chance:
    """`rate` is the share of tries that chance makes right, of `tries` a question.

    `needed` is the smallest number of right ones that chance reaches in at most a share `RARE` of
    the questions, by the binomial distribution; larger than `tries` where even all are too few.
    """

    rate: float
    tries: int
    needed: int

    @property
    def kept_share(self) -> float:
        """The share of questions that would be kept if every answer were chance."""
        return at_least(self.needed, self.tries, self.rate)

    @property
    def fewest_tries(self) -> int | None:
        """How many tries a question make it possible to exceed chance; None where none do."""
        if self.rate >= 1:
            return None
        return 1 if self.rate <= RARE else ceil(log(RARE) / log(self.rate))


def measure_chance(
    questions: Sequence[Question], tries: Sequence[SampledReply], option_ids: OptionIds
) -> Chance:
    """From all tries at `questions`; the rate is 0 if there is only one question."""
    rate = _rate(questions, tries, option_ids)
    count = max(Counter(each.question_id for each in tries).values(), default=0)
    enough = (right for right in range(1, count + 1) if at_least(right, count, rate) <= RARE)
    return Chance(rate, count, next(enough, count + 1))


def _rate(
    questions: Sequence[Question], tries: Sequence[SampledReply], option_ids: OptionIds
) -> float:
    """The mean agreement of a try's answer with the gold answer of another question."""
    written = Counter(each.parsed for each in tries if each.parsed is not None)
    # Free text has as many answers as questions: some golds, evenly taken, are enough.
    most = _MOST_GRADED if any(item.grader for item in questions) else _MOST_COMPARED
    step = ceil(len(questions) * max(1, len(written)) / most)
    compared = {item.id: item for item in questions[::step]}
    golds = {gold_label(item, option_ids): item for item in compared.values()}
    times = Counter(gold_label(item, option_ids) for item in compared.values())
    agreeing = sum(
        times[gold] * count
        for gold, item in golds.items()
        for parsed, count in written.items()
        if is_right(parsed, item, option_ids)
    )
    own = sum(
        each.question_id in compared
        and is_right(each.parsed, compared[each.question_id], option_ids)
        for each in tries
    )
    pairs = sum(len(compared) - (each.question_id in compared) for each in tries)
    return (agreeing - own) / pairs if pairs else 0.0


def at_least(successes: int, n: int, p: float) -> float:
    """The probability of `successes` or more in `n` trials of probability `p`."""
    from scipy.stats import binom

    return float(binom.sf(successes - 1, n, p))
