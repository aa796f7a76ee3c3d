"""What each stage is given, and that only the base model is shown the solved examples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_runs import TWO_STAGES, score_in_order

from caft.errors import UserError
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import (
    questions_for_teacher,
    stage_tuning,
    tuned_replies,
    tuned_scoring,
)
from caft.pipeline.stages import split_scored
from caft.pipeline.steps import asked_targets, rationale_classes, taught_classes, tunes
from caft.pipeline.workspace import Workspace
from caft.records import Rationale, Target
from caft.text.prompts import Wanted

Open = Callable[..., Workspace]


def teach_in_order(workspace: Workspace) -> Taught:
    split = split_scored(workspace, score_in_order(workspace.every_question))
    ((_, asked),) = questions_for_teacher(workspace, split, taught_classes(workspace.config.method))
    rationales = [
        Rationale(question_id=question.id, text=f"so [[{number}]]", answer=None, agrees=True,
                  refusal="" if number else "cut")
        for number, question in enumerate(asked)
    ]  # fmt: skip
    return Taught(split=split, rationales=rationales)


def test_the_base_model_is_shown_the_shots_and_a_tuned_one_is_not(open_small: Open) -> None:
    workspace = open_small()
    assert len(workspace.questions.shots) == 2
    for of_base in (workspace.base_scoring, workspace.base_rationales):
        assert of_base.shots == workspace.questions.shots
    student = workspace.student
    replies = tuned_replies(workspace, student, Wanted.rationale)
    for of_tuned in (tuned_scoring(workspace, student), replies):
        assert of_tuned.shots == ()
    assert [*workspace.base_scoring.questions] == [*workspace.every_question]
    assert [*replies.questions] == [*workspace.held_out]


def test_the_teacher_is_asked_about_the_training_questions_of_the_classes_on_rationales(
    open_small: Open,
) -> None:
    workspace = open_small(TWO_STAGES)
    split = split_scored(workspace, score_in_order(workspace.every_question))
    # Eight training rows in rising order: quantiles 0.25 and 0.75 leave the last two as hard.
    ((target, asked),) = questions_for_teacher(
        workspace, split, asked_targets(workspace.config, range(2))
    )
    assert target is Target.rationale
    assert [*asked] == [*workspace.questions.train[-2:]]
    assert rationale_classes(workspace.config.method) == {"hard"}


def test_a_stage_trains_its_classes_each_with_its_target(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES)
    taught = teach_in_order(workspace)
    train = workspace.questions.train
    answers = stage_tuning(workspace, taught, workspace.student, 0)
    assert [row.question.id for row in answers.pairs] == [item.id for item in train[:6]]
    assert {row.target for row in answers.pairs} == {Target.answer}
    chains = stage_tuning(workspace, taught, workspace.student, 1)
    # The first of the two rationales was refused.
    assert [(row.question.id, row.rationale) for row in chains.pairs] == [
        (train[-1].id, "so [[1]]")
    ]
    assert (answers.epochs, chains.epochs) == (1, 2)
    # Validation questions lie above the training rows here: all hard, which stage 1 does not train.
    assert {target for _, target in answers.validation.questions} == {Target.answer}
    assert {target for _, target in chains.validation.questions} == {Target.rationale}


def test_between_epochs_replies_may_be_as_long_as_in_evaluation(open_small: Open) -> None:
    limits = {
        "max_new_tokens": "evaluation.max_new_tokens=31",
        "max_thinking_tokens": "evaluation.max_thinking_tokens=32",
        "free_answer_tokens": "score.free_answer_tokens=7",
    }
    words = (TWO_STAGES, "tuning.validate=true")
    workspace = open_small(*words, *limits.values())
    tuning = stage_tuning(workspace, teach_in_order(workspace), workspace.student, 0)
    given = {name: getattr(tuning.validation, name) for name in limits}
    assert given == {"max_new_tokens": 31, "max_thinking_tokens": 32, "free_answer_tokens": 7}
    bare, written = (
        tuned_scoring(workspace, workspace.student),
        tuned_replies(workspace, workspace.student, Wanted.rationale),
    )
    assert bare.config.free_answer_tokens == 7
    assert (written.max_new_tokens, written.max_thinking_tokens) == (31, 32)
    # Another limit chooses another epoch.
    for name, word in limits.items():
        other = open_small(*words, *(each for each in limits.values() if each != word))
        stage = stage_tuning(other, teach_in_order(other), other.student, 0)
        assert stage.key["validation"] != tuning.key["validation"], name


def test_a_class_without_an_accepted_rationale_is_refused(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES)
    split = split_scored(workspace, score_in_order(workspace.every_question))
    with pytest.raises(UserError, match="no accepted rationale is left"):
        stage_tuning(workspace, Taught(split=split), workspace.student, 1)


@pytest.mark.parametrize(
    ("words", "expected"),
    [((), True), (("until=tune",), True), (("until=distill",), False), (("method=base",), False)],
)
def test_a_run_tunes_where_it_gets_that_far_and_has_a_stage(
    open_small: Open, words: tuple[str, ...], expected: bool
) -> None:
    assert tunes(open_small(*words).config) is expected
