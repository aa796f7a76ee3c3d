"""Who keeps hidden states, and what the probe says of whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from small_runs import score_in_order

from caft.pipeline.estimators import estimate_by_probe
from caft.pipeline.stage_inputs import tuned_scoring
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore
from caft.statistics.probe import cross_fit

Open = Callable[..., Workspace]


def test_hidden_states_are_kept_where_the_probe_is_wanted(open_small: Open) -> None:
    plain, wanting = open_small(), open_small("score.estimators=[probe,p_true,fallback_entropy]")
    assert not plain.base_scoring.keeps_hidden
    assert wanting.base_scoring.keeps_hidden
    assert plain.base_scoring.key != wanting.base_scoring.key
    assert plain.fallback_scoring.key == wanting.fallback_scoring.key
    assert tuned_scoring(plain, plain.student).key == tuned_scoring(wanting, plain.student).key
    assert open_small("split.estimator=probe").base_scoring.keeps_hidden


def test_training_questions_are_predicted_out_of_fold(open_small: Open) -> None:
    workspace = open_small("dataset.train=30")
    scores = score_in_order(workspace.every_question).scores
    hidden = np.random.default_rng(2).normal(size=(len(scores), 5)).astype(np.float16)
    values = estimate_by_probe(workspace, scores, hidden)
    wrong = [not score.correct for score in scores]
    inside, outside = cross_fit(hidden[:30], wrong[:30], hidden[30:])
    assert list(values.values()) == [*inside, *outside]
    assert list(values) == [question.id for question in workspace.every_question]
    # Neither labels nor anything else of held-out questions is looked at.
    others: Sequence[AnswerScore] = [*scores[:30], *(replace(s, correct=True) for s in scores[30:])]
    assert estimate_by_probe(workspace, others, hidden) == values


def test_there_is_no_probe_of_a_model_that_is_always_wrong(
    open_small: Open, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_small("dataset.train=30")
    scores = [
        replace(score, correct=False) for score in score_in_order(workspace.every_question).scores
    ]
    hidden = np.zeros((len(scores), 2), dtype=np.float16)
    assert estimate_by_probe(workspace, scores, hidden) == {}
    assert "0 are answered right and 30 wrong" in caplog.text
