"""Routed answering: which questions get a rationale, and what it cost to decide that. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from caft.estimators import ESTIMATORS, STAND_IN, Need
from caft.evaluate.config import RoutedBy
from caft.evaluate.predictions import Routing, refit_cut
from caft.pipeline.estimating import tokens_to_estimate
from caft.pipeline.findings import Findings
from caft.records import Prediction, difficulty
from caft.split.config import SplitConfig


def choose_routing(
    split: SplitConfig,
    routed_by: RoutedBy,
    findings: Findings,
    answers: Sequence[Prediction],
    who: str,
) -> Routing:
    """For the model `who` (base or tuned), from its answers to the held-out questions.

    By the classes of the split; where the tuned model's own estimates route, with a cut that sends
    the same share of validation questions to the hardest class.
    """
    estimator = getattr(split, "estimator", None)
    hardest = split.classes[-1]
    if who == "tuned" and estimator and routed_by is RoutedBy.tuned:
        return _by_tuned_estimates(findings, answers, estimator, hardest)
    return _by_classes(findings, answers, who, estimator, hardest)


def _by_classes(
    findings: Findings, answers: Sequence[Prediction], who: str, estimator: str | None, hardest: str
) -> Routing:
    assert findings.split is not None
    names, placed = [row.question_id for row in answers], findings.split.complexity_of
    hard = {name for name in names if placed[name] == hardest}
    if estimator is None:
        return Routing(hard)  # drawn by lot
    estimator = findings.split.held_out_by or estimator
    if who == "base" and ESTIMATORS[estimator].need is Need.single_token:
        return Routing(hard, by_own_answer=True)
    return Routing(hard, tokens_to_estimate(findings, estimator, names))


def _by_tuned_estimates(
    findings: Findings, answers: Sequence[Prediction], estimator: str, hardest: str
) -> Routing:
    assert findings.split is not None
    # The tuned model is asked with one token: what that does not tell, the stand-in tells.
    single = ESTIMATORS[estimator].need is Need.single_token
    estimator = estimator if single and ESTIMATORS[estimator].known_at_test else STAND_IN
    values = {
        row.question_id: difficulty(estimator, row.estimates.get(estimator)) or 0.0
        for row in answers
    }
    on_validation = {row.id: values[row.id] for row in findings.questions.validation}
    placed, train = findings.split.complexity_of, findings.questions.train
    share = sum(placed[question.id] == hardest for question in train) / len(train)
    cut = refit_cut(on_validation, share)
    return Routing({name for name, value in values.items() if value >= cut}, by_own_answer=True)
