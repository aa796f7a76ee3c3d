"""The student's own drawn chains of thought as rationales: rejection sampling. Pure.

Of a question's tries the first that is right is kept, as in STaR (Zelikman et al., arXiv
2203.14465) where one chain a question is trained: a fair draw of the chains that end in the gold
answer. The shortest would be a biased one, which skips steps. It is kept only where more tries are
right than chance explains (`chance.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from caft.distill.accept import Rules, judge_reply
from caft.distill.chance import Chance, measure_chance
from caft.distill.inputs import unjudged
from caft.records import Question, Rationale, SampledReply, Target
from caft.teachers.config import Keep
from caft.teachers.refusals import BY_CHANCE, WRONG
from caft.text.config import OptionIds

SOURCE = "the student"


def keep_own(
    questions: Sequence[Question],
    tries: Sequence[SampledReply],
    *,
    option_ids: OptionIds,
    forbidden: Sequence[str] = (),
    longest: int,
) -> tuple[list[Rationale], Chance]:
    """One rationale a question: the first accepted try, or else the first one with its refusal.

    With it what chance makes right: a question with too few right tries for that is refused, too.
    Every question needs a try. A try is judged as a teacher's reply is, and must be right; one of
    `longest` tokens without an answer was cut off. No call of a teacher is in its cost.
    """
    rules = Rules(
        keep=Keep.correct, option_ids=option_ids, forbidden=forbidden, target=Target.own_rationale
    )
    tries_of: dict[str, list[SampledReply]] = {}
    for each in sorted(tries, key=lambda each: each.sample):
        tries_of.setdefault(each.question_id, []).append(each)
    chance = measure_chance(questions, tries, option_ids)
    rows = [_first_right(question, tries_of[question.id], rules, longest) for question in questions]
    right = Counter(each.question_id for each in tries if each.correct)
    kept = [
        row if right[row.question_id] >= chance.needed else _refuse_lucky(row, chance)
        for row in rows
    ]
    return kept, chance


def _refuse_lucky(row: Rationale, chance: Chance) -> Rationale:
    reason = f"{BY_CHANCE}: fewer than {chance.needed} of {chance.tries} tries are right"
    return replace(row, refusal=reason) if row.accepted else row


def _first_right(
    question: Question, tries: Sequence[SampledReply], rules: Rules, longest: int
) -> Rationale:
    judged = [judge_reply(question, _as_rationale(each, longest), rules) for each in tries]
    return next((row for row in judged if row.accepted), judged[0])


def _as_rationale(written: SampledReply, longest: int) -> Rationale:
    row = unjudged(
        question_id=written.question_id,
        text=written.text,
        source=SOURCE,
        finish_reason="stop",
        attempt=written.sample,
    )
    if written.correct:
        return row
    # Its own reading counts: it knows whether a thinking span was open before the reply.
    cut = written.parsed is None and written.generated_tokens >= longest
    missing = "cut_off" if cut else "unparsable"
    return replace(row, refusal=WRONG if written.parsed is not None else missing)
