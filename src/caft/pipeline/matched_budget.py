"""Random routing at the entropy arm's budget: `split=random split.match=calls` or `tokens`.

The cost of a rationale is known once the teacher has written it, so this split is decided while
asking: first the entropy arm's questions, which other jobs of a sweep need anyway and the ledger
keeps once, then questions in a seeded order until the same budget is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from caft.pipeline.results import Scored
from caft.pipeline.stage_inputs import questions_for_teacher
from caft.pipeline.steps import MatchedBudget
from caft.pipeline.workspace import Workspace
from caft.protocols import Tokenizer
from caft.records import Question, Rationale, Target
from caft.split import SplitResult, split_questions
from caft.split.config import Match
from caft.split.matched import (
    Price,
    count_needed,
    next_count,
    place_matched,
    price_questions,
    shuffle_questions,
    total,
)

Ask = Callable[[Sequence[Question]], Sequence[Rationale]]

OVER_BUDGET = "over_budget: the entropy arm kept no more"


def match_budget(
    workspace: Workspace, scored: Scored, split: SplitResult, budget: MatchedBudget, ask: Ask
) -> tuple[SplitResult, Sequence[Rationale]]:
    """Ask as many questions as the budget allows, and place them in classes accordingly."""
    train = workspace.questions.train
    reference = _entropy_arm(workspace, scored, budget)
    theirs = _their_questions(workspace, reference, budget)

    def price(rationales: Sequence[Rationale]) -> dict[str, Price]:
        return _price(rationales, budget.split.match, workspace.student.tokenizer)

    limit = total(price(ask(theirs)).values())
    order = shuffle_questions(train, budget.seed)
    count = min(len(theirs), len(order))
    while True:
        rationales = ask(order[:count])
        prices = price(rationales)
        costs = [prices[item.id].asked for item in order[:count]]
        if sum(costs) >= limit.asked or count == len(order):
            break
        count = next_count(costs, limit.asked, len(order))
    count = count_needed(costs, limit.asked)
    asked = [item.id for item in order[:count]]
    kept = set(asked[: count_needed([prices[name].kept for name in asked], limit.kept)])
    chosen = set(asked)
    rows = [
        row if row.question_id in kept or not row.accepted else replace(row, refusal=OVER_BUDGET)
        for row in rationales
        if row.question_id in chosen
    ]
    return _settle(split, reference, [item.id for item in order], count, budget), rows


def likely_asked(workspace: Workspace, scored: Scored, budget: MatchedBudget) -> list[Question]:
    """Roughly what matching will ask: the entropy arm's questions and as many in drawn order."""
    train = workspace.questions.train
    theirs = _their_questions(workspace, _entropy_arm(workspace, scored, budget), budget)
    drawn = shuffle_questions(train, budget.seed)[: len(theirs)]
    return list({item.id: item for item in [*theirs, *drawn]}.values())


def _their_questions(
    workspace: Workspace, split: SplitResult, budget: MatchedBudget
) -> Sequence[Question]:
    ((_, questions),) = questions_for_teacher(workspace, split, {budget.target: [budget.taught]})
    return questions


def _entropy_arm(workspace: Workspace, scored: Scored, budget: MatchedBudget) -> SplitResult:
    train, subjects = scored.of(workspace.questions.train), workspace.subject_of
    return split_questions(train, [], budget.split.budget_of, budget.seed, subjects)


def _price(rationales: Sequence[Rationale], match: Match, tokenizer: Tokenizer) -> dict[str, Price]:
    # Where reasoning is trained, it is in the price.
    rationales = [
        replace(row, text=f"{row.reasoning}\n{row.text}")
        if row.target is Target.thinking and row.reasoning
        else row
        for row in rationales
    ]
    texts = {row.text for row in rationales} if match is Match.tokens else set()
    # One more for the end of turn, which is trained with every rationale.
    read = {text: len(tokenizer(text, add_special_tokens=False).input_ids) + 1 for text in texts}
    return price_questions(rationales, match, read)


def _settle(
    split: SplitResult,
    reference: SplitResult,
    order: Sequence[str],
    count: int,
    budget: MatchedBudget,
) -> SplitResult:
    counts = reference.count(reference.complexity_of)
    sizes = {name: counts[name] for name in budget.split.classes}
    matched = place_matched(order, count, budget.taught, sizes)
    moved = {name: matched.get(name, usual) for name, usual in split.complexity_of.items()}
    return SplitResult(complexity_of=moved, thresholds=())
