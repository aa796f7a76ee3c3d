"""Rows as tokens, before anything is trained or paid for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_runs import TWO_STAGES, score_in_order

from caft.errors import UserError
from caft.pipeline.data_check import check_before_teaching, check_stages
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import questions_for_teacher
from caft.pipeline.stages import split_scored
from caft.pipeline.workspace import Workspace
from caft.records import Rationale, Target

Open = Callable[..., Workspace]
CLASSES = {Target.rationale: {"hard"}}


def teach(workspace: Workspace, text: str = "so [[1]]") -> Taught:
    split = split_scored(workspace, score_in_order(workspace.every_question))
    return Taught(
        split=split,
        rationales=[
            Rationale(question_id=item.id, text=text, answer="1", agrees=True)
            for _, asked in questions_for_teacher(workspace, split, CLASSES)
            for item in asked
        ],
    )


def test_stages_of_answers_are_checked_before_the_teacher_is_paid(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES)
    scored = score_in_order(workspace.every_question)
    split = split_scored(workspace, scored)
    checked = check_before_teaching(workspace, split)
    assert {number: len(rows.examples) for number, rows in checked.items()} == {0: 6}
    taught = teach(workspace)
    rows = check_stages(workspace, taught, checked)
    assert rows[0] is checked[0]
    assert len(rows[1].examples) == 2


@pytest.mark.parametrize("word", ["until=distill", "method=sft", "split=random split.match=calls"])
def test_nothing_is_checked_where_nothing_is_paid_or_classes_may_still_move(
    open_small: Open, word: str
) -> None:
    workspace = open_small(*([] if "method" in word else [TWO_STAGES]), *word.split())
    scored = score_in_order(workspace.every_question)
    assert check_before_teaching(workspace, split_scored(workspace, scored)) == {}


def test_rationales_that_an_estimator_bought_are_not_paid_again(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES, "score.estimators=[rationale_length]")
    assert check_before_teaching(workspace, teach(workspace).split) == {}


def test_a_row_longer_than_allowed_is_refused_before_any_stage_trains(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES, "tuning.max_length=60")
    with pytest.raises(UserError, match=r"training row of \d+ tokens"):
        check_stages(workspace, teach(workspace, "again and " * 60 + "[[1]]"), {})
