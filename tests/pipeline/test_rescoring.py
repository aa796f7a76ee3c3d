"""A stage that rescores: new classes, whose teacher is asked then, and what a dry run promises."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from small_runs import finish_scores, score_in_order

from caft.errors import UserError
from caft.pipeline.planner import Planner
from caft.pipeline.rescoring import (
    count_moved,
    join_taught,
    move_at_random,
    rescoring,
    split_rescored,
)
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import refuse_sizes, stage_tuning
from caft.pipeline.stages import _teach_again, split_scored, teach
from caft.pipeline.steps import asked_targets, list_phases, list_steps
from caft.pipeline.workspace import Workspace
from caft.records import Rationale, Target
from caft.split import SplitResult
from caft.tune.config import Part

Open = Callable[..., Workspace]
METHOD = (
    "method.stages=[{targets:{easy:answer}},{targets:{hard:rationale}},"
    "{targets:{hard:rationale},rescore:true},{targets:{middle:answer}}]"
)


def write_reversed(workspace: Workspace) -> None:
    """As if tuning had made the hardest question the easiest one; the base model stands for it."""
    stage = rescoring(workspace, workspace.student)
    rows = score_in_order(list(reversed(stage.questions))).of(stage.questions)
    workspace.store.obtain(finish_scores(stage, rows))


def test_a_stage_that_rescores_begins_a_phase_with_steps_of_its_own(open_small: Open) -> None:
    config = open_small(METHOD).config
    assert list_phases(config.method) == [range(2), range(2, 4)]
    assert [step.name for step in list_steps(config)][:8] == [
        "score", "distill", "tune 1", "tune 2", "rescore 3", "distill 3", "tune 3", "tune 4",
    ]  # fmt: skip
    answers = "[{targets:{easy:answer}},{targets:{easy:answer},rescore:true}]"
    names = [step.name for step in list_steps(open_small(f"method.stages={answers}").config)]
    assert names[:4] == ["score", "tune 1", "rescore 2", "tune 2"]
    assert asked_targets(config, range(3, 4)) == {}
    assert [list(each) for each in list_phases(open_small("method=base").config.method)] == [[]]


def test_every_epoch_of_a_stage_may_have_classes_of_its_own(open_small: Open) -> None:
    """The first epoch of a run has the base model's; draw, seed and schedule go on."""
    first = "{targets:{hard:rationale},epochs:2,rescore:epoch,draw:{hard:1}}"
    second = "{targets:{easy:answer},epochs:2,rescore:epoch}"
    workspace = open_small(f"method.stages=[{first},{second}]")
    method = workspace.config.method
    assert [step.name for step in list_steps(workspace.config)][:9] == [
        "score", "distill", "tune 1", "rescore 2", "distill 2", "tune 2",
        "rescore 3", "tune 3", "rescore 4",
    ]  # fmt: skip
    assert [method.part(number) for number in range(4)] == [
        Part(0, 0, 2), Part(0, 1, 2), Part(1, 0, 2), Part(1, 1, 2),
    ]  # fmt: skip
    assert {stage.epochs for stage in method.stages} == {1}
    split = split_scored(workspace, score_in_order(workspace.every_question))
    hard = [name for name, placed in split.complexity_of.items() if placed == "hard"]
    taught = Taught(split=split, rationales=[
        Rationale(question_id=name, text="x", answer="1", agrees=True) for name in hard
    ])  # fmt: skip
    stages = [stage_tuning(workspace, taught, workspace.student, number) for number in range(2)]
    assert [stage.part.epoch for stage in stages] == [0, 1]
    assert stages[0].draws != stages[1].draws
    stage = "{targets:{hard:answer},epochs:3,rescore:epoch,draw:{hard:2}}"
    wide = open_small(f"method.stages=[{stage}]")
    with pytest.raises(UserError, match=r"method.stages.0.draw.hard is 2, but only 1 of 8"):
        refuse_sizes(wide, {"hard": 1}, range(2, 3))


def test_the_teacher_is_asked_for_the_classes_of_the_tuned_student(open_small: Open) -> None:
    workspace = open_small(METHOD)
    train = [item.id for item in workspace.questions.train]
    stage = rescoring(workspace, workspace.student)
    # As evaluation asks: without the shots; and no test question.
    assert stage.shots == ()
    assert [item.id for item in stage.questions][:8] == train
    assert not {item.id for item in workspace.questions.test} & {q.id for q in stage.questions}
    scored = score_in_order(workspace.every_question)
    split = split_scored(workspace, scored)
    taught = teach(workspace, scored, split)
    assert [row.question_id for row in taught.rationales] == train[6:]
    write_reversed(workspace)
    again = _teach_again(workspace, scored, workspace.student, range(2, 4))
    assert [row.question_id for row in again.rationales] == train[:2]
    assert [row["name"] for row in again.stages] == ["rescore 3", "distill 3"]
    placed = [again.split.complexity_of[name] for name in train]
    assert placed == ["hard"] * 2 + ["middle"] * 4 + ["easy"] * 2
    assert count_moved(workspace.questions.train, split, again.split) == 4
    # The bill has both; routing and report keep the first classes.
    joined = join_taught(taught, again)
    assert [row.question_id for row in joined.rationales] == [*train[6:], *train[:2]]
    assert joined.split is taught.split
    assert join_taught(joined, again) == joined


def test_a_reply_that_two_phases_use_is_in_the_bill_once() -> None:
    def bought(key: str, target: Target, attempt: int = 0) -> Rationale:
        return Rationale(
            question_id="q", text="x", answer="1", agrees=True, target=target, attempt=attempt,
            ledger_key=key,
        )  # fmt: skip

    split = SplitResult(complexity_of={}, thresholds=())
    first = [bought("a", Target.rationale), bought("", Target.rationale)]
    more = [bought("a", Target.thinking), bought("b", Target.short_rationale), *first]
    more.append(bought("", Target.rationale, attempt=1))
    # A file's text that is judged as thinking later on is the same reply; a short one is another.
    more += [bought("", Target.thinking), bought("", Target.short_rationale)]
    joined = join_taught(
        Taught(split=split, rationales=first), Taught(split=split, rationales=more)
    )
    assert [(row.ledger_key, row.attempt) for row in joined.rationales] == [
        ("a", 0), ("", 0), ("b", 0), ("", 1), ("", 0),
    ]  # fmt: skip
    assert joined.rationales[-1].target is Target.short_rationale


def test_a_dry_run_bounds_the_calls_until_the_classes_are_known(open_small: Open) -> None:
    asks = ("teacher=vllm", "teacher.model=fake", "teacher.base_url=http://127.0.0.1:9")
    words = (METHOD, *asks, "teacher.attempts=2", "dry_run=true", "split=sampled")
    lines = {line.name: line.work for line in Planner(open_small(*words), None).plan()}
    assert lines["rescore 3"].startswith("12 questions, 1 forward pass each of the student as tun")
    # Two of eight questions are hard, whoever they are; each may be asked twice.
    assert "at most, if the ledger has none: " in lines["distill 3"]
    assert "2 questions, 0 replies in the ledger; about 2 (2 to 4) calls" in lines["distill 3"]
    # Where the cuts are absolute, or estimates are equal, all eight may be in the class.
    for rule in ("split=entropy_threshold", "split=entropy"):
        lines = {line.name: line.work for line in Planner(open_small(*words, rule), None).plan()}
        assert "8 questions, 0 replies in the ledger; about 8 (8 to 16) calls" in lines["distill 3"]


def test_a_dry_run_knows_the_classes_that_the_store_has(open_small: Open) -> None:
    workspace = open_small(METHOD)
    write_reversed(workspace)
    planner = Planner(open_small(METHOD, "dry_run=true"), workspace.student)
    planner.scored, planner.student = score_in_order(workspace.every_question), workspace.student
    step = next(step for step in list_steps(planner.config) if step.name == "rescore 3")
    assert planner.plan_scores(step).state == "cached"
    assert planner.split is not None
    assert planner.taught is not None
    train = [item.id for item in workspace.questions.train]
    assert [row.question_id for row in planner.taught.rationales] == train[:2]


def test_a_class_that_tuning_has_emptied_is_refused_before_its_teacher(open_small: Open) -> None:
    cuts = ("split=entropy_threshold", "split.thresholds=[-2,-1]")
    workspace = open_small(METHOD, *cuts)
    stage = rescoring(workspace, workspace.student)
    rows = score_in_order(stage.questions).of(stage.questions)
    assert set(split_rescored(workspace, rows, 2).complexity_of.values()) == {"hard"}
    workspace.store.obtain(finish_scores(stage, rows))
    with pytest.raises(UserError, match="trains the class middle, but no training question is in"):
        _teach_again(workspace, score_in_order(workspace.every_question), workspace.student,
                     range(2, 4))  # fmt: skip


EPOCHS = (
    "method.stages=[{targets:{easy:answer,middle:answer,hard:rationale},epochs:3,rescore:epoch}]"
)
CONTROL = ("split=random", "split.pool=5")


def test_random_classes_move_on_and_keep_their_sizes() -> None:
    """Ten questions on a ring: two leave every class, and two that it never had come."""
    ids = [f"q{k}" for k in range(10)]
    placed = dict(zip(ids, ["easy"] * 4 + ["middle"] * 3 + ["hard"] * 3, strict=True))
    split = SplitResult(complexity_of={**placed, "held out": "hard"}, thresholds=())
    had, classes = {"hard": set(ids[7:])}, ["easy", "middle", "hard"]
    for by in (0, 2, 4):
        moved = move_at_random(split, ids, classes, by, seed=1).complexity_of
        assert [[*moved.values()].count(name) for name in classes] == [4, 3, 4]
        assert moved["held out"] == "hard"
        hard = {name for name in ids if moved[name] == "hard"}
        assert len(hard - had["hard"]) == (2 if by else 0)
        had["hard"] |= hard
    assert len(had["hard"]) == 7
    # From the class below, and in an order of the seed.
    first = {seed: move_at_random(split, ids, classes, 1, seed).complexity_of for seed in range(9)}
    come = [{n for n in ids if moved[n] == "hard" != placed[n]} for moved in first.values()]
    assert all(placed[name] == "middle" for names in come for name in names)
    assert len(set(map(frozenset, come))) > 1


def test_the_control_of_rescoring_asks_for_its_pool_and_no_more(open_small: Open) -> None:
    """Two of eight questions are hard, three times; five different ones in all."""
    workspace = open_small(EPOCHS, *CONTROL)
    scored = score_in_order(workspace.every_question)
    every = teach(workspace, scored, split_scored(workspace, scored))
    trained = [len(every.rationales)]
    for phase in list_phases(workspace.config.method)[1:]:
        stage = rescoring(workspace, workspace.student)
        workspace.store.obtain(finish_scores(stage, scored.of(stage.questions)))
        again = _teach_again(workspace, scored, workspace.student, phase)
        trained.append(len(again.rationales))
        every = join_taught(every, again)
    assert trained == [2, 2, 2]
    assert len({row.question_id for row in every.rationales}) == len(every.rationales) == 5
    # As the dry run says, of which only the first number waits for no scores.
    asks = ("teacher=vllm", "teacher.model=fake", "teacher.base_url=http://127.0.0.1:9")
    plan = Planner(open_small(EPOCHS, *CONTROL, *asks, "dry_run=true"), None).plan()
    works = {line.name: line.work for line in plan}
    found = [
        re.search(r"ledger; (?:about )?(\d+)", works[name]) for name in works if "distill" in name
    ]
    calls = [each and each[1] for each in found]
    assert calls == ["2", "2", "1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([EPOCHS, "split.pool=1"], "the class hard alone has 2 of 8 .* from 2 to 8"),
        ([EPOCHS, "split.pool=9"], "split.pool=9, but .* from 2 to 8"),
        ([EPOCHS.replace("middle:answer", "middle:rationale"), "split.pool=5"], "hard, middle: le"),
        ([EPOCHS.replace("rationale", "answer"), "split.pool=5"], "asks about none: leave it out"),
        ([EPOCHS, "split.pool=5", "split.match=calls"], "without split.match"),
        (["split.pool=5"], "no stage of complexity_aware does; leave it out"),
    ],
)
def test_a_pool_that_cannot_be_is_refused(open_small: Open, words: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        open_small("split=random", *words)
