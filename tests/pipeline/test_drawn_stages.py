"""What a stage that draws anew every epoch asks of the teacher, and what is refused before that."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_runs import score_in_order

from caft.errors import UserError
from caft.pipeline.expected import expected_requests
from caft.pipeline.matched_budget import match_budget
from caft.pipeline.planner import Planner
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import (
    questions_for_teacher,
    refuse_small_classes,
    stage_tuning,
)
from caft.pipeline.stages import split_scored
from caft.pipeline.steps import find_matched_budget
from caft.pipeline.workspace import Workspace
from caft.records import Question, Rationale, Target
from caft.tune.draws import Draws

Open = Callable[..., Workspace]
# 40 training rows in rising order: 10 easy, 20 middle, 10 hard ones.
SIZES = ("dataset.train=40", "seed=3")


def drawing(epochs: int, hard: int) -> str:
    return (
        "method.stages=[{targets:{easy:answer,hard:rationale},"
        f"epochs:{epochs},draw:{{hard:{hard}}},weights:{{hard:2}}}}]"
    )


def write(asked: list[Question]) -> list[Rationale]:
    return [
        Rationale(question_id=item.id, text="so [[1]]", answer="1", agrees=True) for item in asked
    ]


HARD = {Target.rationale: {"hard"}}


def test_the_teacher_is_asked_what_some_epoch_draws_and_nothing_else(open_small: Open) -> None:
    workspace = open_small(*SIZES, drawing(epochs=2, hard=3))
    split = split_scored(workspace, score_in_order(workspace.every_question))
    hard = [item.id for item in workspace.questions.train[-10:]]
    draws = Draws({"hard": 3}, seed=3, stage=0)
    drawn = draws.pick(hard, "hard", 0) | draws.pick(hard, "hard", 1)
    assert 3 < len(drawn) <= 6
    ((_, asked),) = questions_for_teacher(workspace, split, HARD)
    assert {item.id for item in asked} == drawn
    taught = Taught(split=split, rationales=write(asked))
    tuning = stage_tuning(workspace, taught, workspace.student, 0)
    of_hard = {pair.question.id for pair in tuning.pairs if pair.complexity == "hard"}
    assert of_hard == drawn
    assert len(tuning.pairs) == 10 + len(drawn)
    assert (tuning.draws, tuning.weights) == (draws, {"hard": 2.0})


def test_a_draw_larger_than_its_class_is_refused_before_the_teacher(open_small: Open) -> None:
    # Where the cuts are absolute, only the scores tell how large a class is.
    words = (*SIZES, drawing(epochs=2, hard=11), "split=entropy_threshold")
    words = (*words, "split.thresholds=[9.5,29.5]")
    workspace = open_small(*words)
    scored = score_in_order(workspace.every_question)
    message = (
        r"method\.stages\.0\.draw\.hard is 11, but only 10 of 40 training questions can be in the "
        r"class; give 10 or"
    )
    with pytest.raises(UserError, match=message):
        refuse_small_classes(workspace, split_scored(workspace, scored), range(1))
    dry = open_small(*words, "dry_run=true")
    planner = Planner(dry, None)
    planner.scored, planner.split = scored, split_scored(dry, scored)
    with pytest.raises(UserError, match=message):
        planner.plan()


@pytest.mark.parametrize(
    ("most", "words"), [(10, ()), (40, ("split=entropy_threshold",))], ids=["quantiles", "cuts"]
)
def test_a_draw_larger_than_its_class_can_be_is_refused_before_scoring(
    open_small: Open, most: int, words: tuple[str, ...]
) -> None:
    open_small(*SIZES, drawing(epochs=2, hard=most), *words)
    with pytest.raises(UserError, match=rf"is {most + 1}, but only {most} of 40 training quest"):
        open_small(*SIZES, drawing(epochs=2, hard=most + 1), *words)


@pytest.mark.parametrize(
    "words",
    [
        ("split=entropy",),
        ("split=random", "split.match=calls"),
        # The page shows classes there, too.
        ("split=entropy", "until=score"),
    ],
    ids=" ".join,
)
def test_a_subject_with_fewer_rows_than_classes_is_refused_before_scoring(
    open_small: Open, words: tuple[str, ...]
) -> None:
    # Eight rows over five numbers of steps.
    with pytest.raises(UserError, match=r"split\.within=subject, but the subject '\d steps?' has"):
        open_small(*words, "split.within=subject")


def test_the_dry_run_expects_the_union_of_the_draws(open_small: Open) -> None:
    planner = Planner(open_small(*SIZES, drawing(epochs=2, hard=5), "dry_run=true"), None)
    # Of ten hard rows each epoch misses half: 7.5 are drawn in two.
    ((_, expected),) = expected_requests(
        planner.workspace, planner.split, planner.scored, planner.phase
    )
    assert len(expected) == round(7.5)
    stages = {line.name: line.work for line in planner.plan()}
    assert stages["tune 1"].endswith("about 15 rows x 2 epochs, drawn anew")


@pytest.mark.parametrize("words", [(), ("split.temperature=0.5",), ("split.within=subject",)])
def test_a_random_arm_asks_as_many_as_the_rule_that_it_controls(
    open_small: Open, words: tuple[str, ...]
) -> None:
    method = drawing(epochs=2, hard=3)
    workspace = open_small(*SIZES, method, "split=random", "split.match=calls", *words)
    kind = "split=sampled" if "split.temperature=0.5" in words else "split=entropy"
    rule = open_small(*SIZES, method, kind, *words)
    scored = score_in_order(workspace.every_question)
    ((_, bought),) = questions_for_teacher(rule, split_scored(rule, scored), HARD)
    budget = find_matched_budget(workspace.config)
    assert budget is not None
    rounds: list[set[str]] = []

    def ask(asked: object) -> list[Rationale]:
        rows = write(list(asked))  # type: ignore[call-overload]
        rounds.append({row.question_id for row in rows})
        return rows

    split = split_scored(workspace, scored)
    settled, rows = match_budget(workspace, scored, split, budget, ask)
    # First the rule's own questions, which its own job buys as well.
    assert rounds[0] == {item.id for item in bought}
    assert len(rows) == len(bought)
    train = workspace.questions.train
    hard = [item.id for item in train if settled.complexity_of[item.id] == "hard"]
    assert {row.question_id for row in rows} == set(hard)
