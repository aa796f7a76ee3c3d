"""Routed answering: which questions get a rationale, and what it cost to decide that. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from caft.data import QuestionSplits
from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.evaluate.config import RoutedBy
from caft.evaluate.predictions import Routing, refit_cut
from caft.pipeline.estimators import tokens_to_estimate
from caft.pipeline.results import Scored
from caft.records import Prediction, difficulty
from caft.split import SplitResult
from caft.split.config import SplitConfig


def route_base_model(
    config: SplitConfig, split: SplitResult, scored: Scored, question_ids: Sequence[str]
) -> Routing:
    """By the classes of the split. A single token that decides is the answer's own."""
    estimator = _placed_by(config, split)
    if estimator and ESTIMATORS[estimator].need is Need.single_token:
        return Routing(_hardest(config, split, question_ids), by_own_answer=True)
    return _by_classes(config, split, scored, question_ids)


def route_tuned_model(  # noqa: PLR0917
    config: SplitConfig,
    routed_by: RoutedBy,
    split: SplitResult,
    scored: Scored,
    questions: QuestionSplits,
    answers: Sequence[Prediction],
) -> Routing:
    """From the tuned model's `answers` to the held-out questions.

    By the classes of the split; or, where its own estimates route, with a cut that sends the same
    share of validation questions to the hardest class.
    """
    estimator = getattr(config, "estimator", None)
    if estimator and routed_by is RoutedBy.tuned:
        return _by_own_estimates(config, split, questions, answers, estimator)
    return _by_classes(config, split, scored, [row.question_id for row in answers])


def _by_classes(
    config: SplitConfig, split: SplitResult, scored: Scored, question_ids: Sequence[str]
) -> Routing:
    hard = _hardest(config, split, question_ids)
    estimator = _placed_by(config, split)
    if estimator is None:
        return Routing(hard)
    return Routing(hard, tokens_to_estimate(scored, estimator, question_ids))


def _placed_by(config: SplitConfig, split: SplitResult) -> str | None:
    """The estimator that placed the held-out questions; None where they were drawn at random."""
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
    # The tuned model is asked with one token: where that has no such estimate, the stand-in routes.
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
