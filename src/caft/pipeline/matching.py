"""Random routing at the entropy arm's budget: `split=random split.match=calls` or `tokens`.

How much a question's rationale costs is known once the teacher has written it, so this split is
settled while asking: first what the entropy arm asks, which other jobs of a sweep need anyway and
the ledger has once, then questions in a seeded order until the same budget is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from caft.errors import UserError
from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.pipeline.findings import Findings
from caft.records import Placement, Question, Rationale, Target
from caft.split import SplitResult, split_questions
from caft.split.config import EntropySplitConfig, Match, RandomSplitConfig
from caft.split.matched import (
    Price,
    count_needed,
    next_count,
    place_matched,
    price_questions,
    shuffle_questions,
    total,
)

if TYPE_CHECKING:
    from caft.pipeline.story import Workplace

Ask = Callable[[Sequence[Question]], list[Rationale]]

OVER_BUDGET = "over_budget: the entropy arm kept no more"


def taught_class(place: Workplace) -> str | None:
    """The one class whose budget is to be matched; None where there is nothing to match.

    UserError where rationales go to several classes but not to all, and where the entropy arm's
    estimator buys every rationale, so that its budget leaves nothing to choose.
    """
    split = place.config.split
    if not isinstance(split, RandomSplitConfig) or split.match is Match.sizes:
        return None
    stages = place.config.method.stages
    taught = {name for s in stages for name, to in s.targets.items() if to is Target.rationale}
    if not taught or taught == set(split.classes):
        return None
    if len(taught) > 1:
        raise UserError(
            f"split.match={split.match.value} needs a method that wants rationales for one class; "
            f"{place.config.method.name} wants them for {', '.join(sorted(taught))}: set "
            "split.match=sizes"
        )
    if ESTIMATORS[split.reference].need is Need.rationale:
        raise UserError(
            f"split.match={split.match.value} with split.reference={split.reference}: that "
            "estimator buys every question's rationale, and its budget leaves nothing to draw; set "
            f"split.match=sizes, or split.reference={STAND_IN}"
        )
    return taught.pop()


def match_budget(place: Workplace, findings: Findings, taught: str, ask: Ask) -> list[Rationale]:
    """Ask what the budget allows, place the questions by it, and return their rationales."""
    assert isinstance(place.config.split, RandomSplitConfig)
    reference = entropy_arm(place, findings)
    train = place.questions.train
    theirs = [item for item in train if reference.complexity_of[item.id] == taught]
    budget = total(_price(place, ask(theirs)).values())
    order = shuffle_questions(train, place.config.seed)
    count = min(len(theirs), len(order))
    while True:
        rationales = ask(order[:count])
        prices = _price(place, rationales)
        costs = [prices[item.id].asked for item in order[:count]]
        if sum(costs) >= budget.asked or count == len(order):
            break
        count = next_count(costs, budget.asked, len(order))
    count = count_needed(costs, budget.asked)
    asked = [item.id for item in order[:count]]
    findings.split = _settle(place, findings, reference, [item.id for item in order], count, taught)
    about = set(asked)
    kept = set(asked[: count_needed([prices[name].kept for name in asked], budget.kept)])
    return [
        row if row.question_id in kept or not row.accepted else replace(row, refusal=OVER_BUDGET)
        for row in rationales
        if row.question_id in about
    ]


def likely_asked(place: Workplace, findings: Findings, taught: str) -> list[Question] | None:
    """About what matching will ask: the entropy arm's questions and as many in the drawn order.

    None where the reference has no values yet.
    """
    split = place.config.split
    assert isinstance(split, RandomSplitConfig)
    if findings.scores is None or ESTIMATORS[split.reference].need is not Need.single_token:
        return None
    placed = entropy_arm(place, findings).complexity_of
    theirs = [item for item in place.questions.train if placed[item.id] == taught]
    drawn = shuffle_questions(place.questions.train, place.config.seed)[: len(theirs)]
    return list({item.id: item for item in [*theirs, *drawn]}.values())


def entropy_arm(place: Workplace, findings: Findings) -> SplitResult:
    """The split whose bill is the budget."""
    split = place.config.split
    assert isinstance(split, RandomSplitConfig)
    entropy = EntropySplitConfig(
        classes=split.classes,
        invalid=split.invalid,
        estimator=split.reference,
        quantiles=split.quantiles,
    )
    return split_questions(findings.scores_of(place.questions.train), [], entropy, 0)


def _price(place: Workplace, rationales: Sequence[Rationale]) -> dict[str, Price]:
    split = place.config.split
    assert isinstance(split, RandomSplitConfig)
    tokenizer = place.student.tokenizer
    texts = {row.text for row in rationales} if split.match is Match.tokens else set()
    # One more for the end of turn, which is trained with every rationale.
    read = {text: len(tokenizer(text, add_special_tokens=False).input_ids) + 1 for text in texts}
    return price_questions(rationales, split.match, read)


def _settle(  # noqa: PLR0917
    place: Workplace,
    findings: Findings,
    reference: SplitResult,
    order: Sequence[str],
    count: int,
    taught: str,
) -> SplitResult:
    assert findings.split is not None
    placed = list(reference.complexity_of.values())
    sizes = {name: placed.count(name) for name in place.config.split.classes}
    matched = place_matched(order, count, taught, sizes)
    return SplitResult(
        placements=tuple(
            Placement(
                question_id=row.question_id,
                complexity=matched.get(row.question_id, row.complexity),
            )
            for row in findings.split.placements
        ),
        thresholds=(),
    )
