"""Random routing at the entropy arm's budget, with a teacher that is a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from small_runs import TWO_STAGES, score_in_order

from caft.errors import UserError
from caft.pipeline.matched_budget import OVER_BUDGET, likely_asked, match_budget
from caft.pipeline.stages import split_scored
from caft.pipeline.steps import find_matched_budget
from caft.pipeline.workspace import Workspace
from caft.records import Question, Rationale
from caft.split.matched import shuffle_questions

Open = Callable[..., Workspace]
MATCHED = ("split=random", "split.match=calls", TWO_STAGES)


def write_all(questions: Sequence[Question], refused: str = "") -> list[Rationale]:
    return [
        Rationale(question_id=item.id, text="so [[1]]", answer="1", agrees=True,
                  refusal="cut" if item.id == refused else "")
        for item in questions
    ]  # fmt: skip


@pytest.mark.parametrize("words", [("split=entropy",), ("split=random", "split.match=sizes")])
def test_only_a_matched_random_split_has_a_budget(open_small: Open, words: tuple[str, ...]) -> None:
    assert find_matched_budget(open_small(*words, TWO_STAGES).config) is None


def test_rationales_for_every_class_leave_nothing_to_match(open_small: Open) -> None:
    everything = "method.stages=[{targets:{easy:rationale,middle:rationale,hard:rationale}}]"
    words = ("split=random", "split.match=calls", everything)
    assert find_matched_budget(open_small(*words).config) is None


def test_rationales_for_two_of_three_classes_are_refused(open_small: Open) -> None:
    two = "method.stages=[{targets:{easy:answer,middle:rationale,hard:rationale}}]"
    with pytest.raises(UserError, match=r"uses them for hard, middle: set split\.match=sizes"):
        open_small("split=random", "split.match=calls", two)


def test_draws_of_every_class_are_not_taken_for_all_rationales(open_small: Open) -> None:
    targets = "targets:{easy:rationale,middle:rationale,hard:rationale}"
    drawn = f"method.stages=[{{{targets},draw:{{easy:1}}}}]"
    with pytest.raises(UserError, match=r"uses them for easy, hard, middle: set split\.match"):
        open_small("split=random", "split.match=tokens", drawn)


def test_as_many_questions_are_asked_and_kept_as_by_entropy(open_small: Open) -> None:
    workspace = open_small(*MATCHED)
    scored = score_in_order(workspace.every_question)
    budget = find_matched_budget(workspace.config)
    assert budget is not None
    assert (budget.taught, budget.seed) == ("hard", workspace.config.seed)
    train = workspace.questions.train
    order = shuffle_questions(train, budget.seed)
    # Of the entropy arm's two hard questions, one reply is refused: the budget is two calls, one
    # kept rationale.
    split = split_scored(workspace, scored)
    settled, rows = match_budget(
        workspace, scored, split, budget, lambda asked: write_all(asked, refused=train[-1].id)
    )
    assert [row.question_id for row in rows] == [item.id for item in order[:2]]
    kept = [row for row in rows if row.accepted]
    over = [row for row in rows if row.refusal == OVER_BUDGET]
    cut = [row for row in rows if row.refusal == "cut"]
    assert (len(kept), len(over) + len(cut)) == (1, 1)
    placed = settled.complexity_of
    hard = [item.id for item in train if placed[item.id] == "hard"]
    assert sorted(hard) == sorted(item.id for item in order[:2])
    assert sorted(placed) == sorted(item.id for item in workspace.every_question)
    assert settled.thresholds == ()


def test_the_dry_run_expects_the_entropy_arms_questions_and_the_drawn_ones(
    open_small: Open,
) -> None:
    workspace = open_small(*MATCHED)
    budget = find_matched_budget(workspace.config)
    assert budget is not None
    expected = likely_asked(workspace, score_in_order(workspace.every_question), budget)
    train = workspace.questions.train
    drawn = shuffle_questions(train, budget.seed)[:2]
    assert {item.id for item in expected} == {item.id for item in [*train[-2:], *drawn]}
