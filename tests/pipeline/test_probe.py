"""Who keeps hidden states, and what the probe says of whom."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import score_in_order

from caft.pipeline.estimators import estimate_by_probe, gather_estimates
from caft.pipeline.stage_inputs import tuned_scoring
from caft.pipeline.stages import split_scored
from caft.pipeline.workspace import Workspace
from caft.records import AnswerScore
from caft.statistics.probe import cross_fit
from caft.store import write_rows, write_table
from scripted_chains import Finished

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


def test_scores_whose_states_are_in_the_store_are_cut_by_the_probe(open_small: Open) -> None:
    workspace = open_small("split.estimator=probe", "dataset.train=30")
    stage, scores = workspace.base_scoring, score_in_order(workspace.every_question).scores
    # The wrong answers, every second one, are told apart by the first feature.
    states = [np.array([row.correct, place % 3], np.float16) for place, row in enumerate(scores)]

    def write(folder: Path) -> None:
        write_table(folder / "scores.parquet", AnswerScore, scores)
        write_rows(folder / "hidden.parquet", [{"float16": each.tobytes()} for each in states])

    workspace.store.obtain(Finished(stage, write))
    scored = gather_estimates(workspace)
    assert [(record["name"], record["cached"]) for record in scored.stages] == [("score", True)]
    expected = estimate_by_probe(workspace, scores, np.array(states))
    assert {row.question_id: row.estimates["probe"] for row in scored.scores} == expected
    assert all((row.estimates["probe"] > 0.5) is not row.correct for row in scored.scores)
    split = split_scored(workspace, scored)
    assert split.held_out_by == ""
    for where, right in (("easy", True), ("hard", False)):
        placed = [row for row in scored.scores if split.complexity_of[row.question_id] == where]
        assert {row.correct for row in placed} == {right}


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
