"""Routed answering: which questions get a rationale, and what it cost to decide that. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from caft.data import QuestionSplits
from caft.estimators import ESTIMATORS, STAND_IN, Need, difficulty
from caft.evaluate.config import RoutedBy
from caft.evaluate.predictions import Routing, refit_cut
from caft.pipeline.results import Scored
from caft.records import Prediction
from caft.split import SplitResult
from caft.split.config import SplitConfig


def route_base_model(
    config: SplitConfig, split: SplitResult, scored: Scored, question_ids: Sequence[str]
) -> Routing:
    """By the classes of the split. A single token that decides is the answer's own."""
    hard, estimator = _hardest(config, split, question_ids), _placed_by(config, split)
    if estimator and ESTIMATORS[estimator].need in (Need.single_token, Need.hidden):
        return Routing(hard, by_own_answer=True)
    if estimator and ESTIMATORS[estimator].follows_answer:
        return Routing(hard, dict.fromkeys(question_ids, 1), by_own_answer=True)
    return Routing(hard, _tokens_to_decide(scored, estimator, question_ids))


def route_tuned_model(  # noqa: PLR0917
    config: SplitConfig,
    routed_by: RoutedBy,
    split: SplitResult,
    scored: Scored,
    questions: QuestionSplits,
    answers: Sequence[Prediction],
) -> Routing:
    """Routing by the tuned model's `answers` to the held-out questions.

    By the classes of the split; or, where its own estimates route, with a cut that sends the same
    share of validation questions to the hardest class.
    """
    estimator = getattr(config, "estimator", None)
    if estimator and routed_by is RoutedBy.tuned:
        return _by_own_estimates(config, split, questions, answers, estimator)
    ids = [row.question_id for row in answers]
    tokens = _tokens_to_decide(scored, _placed_by(config, split), ids)
    return Routing(_hardest(config, split, ids), tokens)


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
    # The answer that a follow-up asks about was the base model's.
    return dict.fromkeys(question_ids, 2 if ESTIMATORS[estimator].follows_answer else 1)


def _placed_by(config: SplitConfig, split: SplitResult) -> str | None:
    """The estimator that placed the held-out questions; None if they were drawn at random."""
    estimator: str | None = getattr(config, "estimator", None)
    return estimator and (split.held_out_by or estimator)


def _hardest(config: SplitConfig, split: SplitResult, question_ids: Sequence[str]) -> set[str]:
    placed = split.complexity_of
    return {name for name in question_ids if placed[name] == config.classes[-1]}


def _by_own_estimates(
    config: SplitConfig,
    split: SplitResult,
    questions: QuestionSplits,
    answers: Sequence[Prediction],
    estimator: str,
) -> Routing:
    # The tuned model is asked with one token: if that has no such estimate, the stand-in routes.
    single = ESTIMATORS[estimator].need is Need.single_token
    estimator = estimator if single and ESTIMATORS[estimator].known_at_test else STAND_IN
    values = {
        row.question_id: difficulty(estimator, row.estimates.get(estimator)) or 0.0
        for row in answers
    }
    on_validation = {row.id: values[row.id] for row in questions.validation}
    train = [question.id for question in questions.train]
    cut = refit_cut(on_validation, len(_hardest(config, split, train)) / len(train))
    return Routing({name for name, value in values.items() if value >= cut}, by_own_answer=True)
