"""Routed answering: which questions get a rationale, and what it cost to decide that. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isfinite

from caft.data import QuestionSplits
from caft.estimators import ESTIMATORS, STAND_IN, Need, difficulty
from caft.evaluate.predictions import Routing, fit_cut
from caft.pipeline.results import FittedCut, Scored
from caft.records import AnswerScore, Prediction, Question
from caft.split import SplitResult
from caft.split.config import SplitConfig


@dataclass(frozen=True, slots=True)
class Placed:
    """Held-out questions that get a rationale, and the estimator that chose them; None: chance.

    `cut` is the difficulty from which on they do, if it was fitted. `by_tuned`: the estimates are
    those of the tuned model's own answers.
    """

    hard: Collection[str]
    estimator: str | None
    cut: float | None = None
    by_tuned: bool = False


def place_by_classes(
    config: SplitConfig, split: SplitResult, question_ids: Collection[str]
) -> Placed:
    """The hardest class of the split."""
    estimator: str | None = getattr(config, "estimator", None)
    placed = split.complexity_of
    hard = {name for name in question_ids if placed[name] == config.classes[-1]}
    return Placed(hard, estimator and (split.held_out_by or estimator))


def place_by_validation(
    config: SplitConfig,
    scored: Scored,
    questions: QuestionSplits,
    answers: Sequence[Prediction],
    rationales: Sequence[Prediction],
    *,
    tuned: bool,
) -> Placed:
    """At the cut that is best for these replies on validation, by the estimate of the split.

    A tuned model's own, if its answers' pass has it, else the base model's. A random split says
    nothing of a question that was not trained: its reference, the rule whose budget it has, routes
    its student. An estimator that needs the gold answer or the teacher is not known at test time:
    the stand-in places questions. One without a readable estimate is as hard as the hardest, as in
    the split.
    """
    estimator: str = getattr(config, "estimator", getattr(config, "reference", STAND_IN))
    if not ESTIMATORS[estimator].known_at_test:
        estimator = STAND_IN
    single = ESTIMATORS[estimator].need is Need.single_token
    own = tuned and single and any(row.estimates.get(estimator) is not None for row in answers)
    values = _difficulties(estimator, answers if own else scored.scores)
    border = len(questions.validation)
    cut = fit_cut(
        [values[row.question_id] for row in answers[:border]],
        [row.correct for row in answers[:border]],
        [row.correct for row in rationales[:border]],
    )
    hard = {row.question_id for row in answers if values[row.question_id] >= cut}
    return Placed(hard, estimator, cut, by_tuned=own)


def tell_cut(placed: Placed, test: Sequence[Question]) -> FittedCut | None:
    """In the estimator's own unit; None if the cut was not fitted."""
    if placed.estimator is None or placed.cut is None:
        return None
    sign = -1.0 if ESTIMATORS[placed.estimator].lower_is_harder else 1.0
    value = sign * placed.cut if isfinite(placed.cut) else None
    share = sum(question.id in placed.hard for question in test) / len(test)
    return FittedCut(placed.estimator, value, share, by_tuned=placed.by_tuned)


def route_base_model(placed: Placed, scored: Scored, question_ids: Sequence[str]) -> Routing:
    """What placing costs the base model. An answer that decides is its own."""
    hard, estimator = placed.hard, placed.estimator
    if estimator and ESTIMATORS[estimator].need is Need.hidden:
        # The pass over the prompt is that of the answer's first token.
        return Routing(hard, dict.fromkeys(hard, 1))
    if estimator and ESTIMATORS[estimator].need is Need.single_token:
        return Routing(hard, by_own_answer=True)
    if estimator and ESTIMATORS[estimator].follows_answer:
        return Routing(hard, dict.fromkeys(question_ids, 1), by_own_answer=True)
    return Routing(hard, _tokens_to_decide(scored, estimator, question_ids))


def route_tuned_model(placed: Placed, scored: Scored, question_ids: Sequence[str]) -> Routing:
    """What placing costs a tuned model: another model's estimate, or its own answer's pass."""
    if placed.by_tuned:
        return Routing(placed.hard, by_own_answer=True)
    return Routing(placed.hard, _tokens_to_decide(scored, placed.estimator, question_ids))


def _difficulties(
    estimator: str, rows: Sequence[AnswerScore] | Sequence[Prediction]
) -> dict[str, float]:
    """By question id; a row without a readable estimate is as hard as the hardest."""
    found = {row.question_id: difficulty(estimator, row.estimates.get(estimator)) for row in rows}
    hardest = max((value for value in found.values() if value is not None), default=0.0)
    return {name: hardest if value is None else value for name, value in found.items()}


def _tokens_to_decide(
    scored: Scored, estimator: str | None, question_ids: Sequence[str]
) -> dict[str, int]:
    """Tokens that were generated to estimate each question's difficulty; none for a drawn class."""
    if estimator is None:
        return {}
    need = ESTIMATORS[estimator].need
    if need is Need.chain:
        return {chain.question_id: chain.generated_tokens for chain in scored.chains}
    if need is Need.samples:
        counts = Counter[str]()
        for row in scored.samples:
            counts[row.question_id] += row.generated_tokens
        return dict(counts)
    if need is Need.judge:
        rows = [row for row in scored.judgements if row.estimator == estimator]
        return {row.question_id: row.completion_tokens for row in rows}
    follows = ESTIMATORS[estimator].follows_answer
    if follows or need is Need.single_token:
        # The base model's answer, which a follow-up asks about with one token more.
        return {row.question_id: row.generated_tokens + follows for row in scored.scores}
    return dict.fromkeys(question_ids, 1)
