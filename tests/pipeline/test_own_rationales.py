"""The student's own rationales: what is drawn, what is kept of it, and who is not asked."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_server import FakeServer
from small_runs import score_in_order, teach_all

from caft.errors import UserError
from caft.pipeline.data_check import check_stages
from caft.pipeline.dry_run import plan_run
from caft.pipeline.own_rationales import own_questions, own_sampling
from caft.pipeline.planner import Planner
from caft.pipeline.stages import split_scored
from caft.pipeline.steps import list_steps
from caft.pipeline.workspace import Workspace
from caft.records import Question, Target
from caft.store import digest
from caft.tune.draws import Draws
from scripted_chains import write_tries as write

Open = Callable[..., Workspace]
OWN = ("method=self_taught", "score.samples.count=2")
EVERYWHERE = (
    "method.stages=[{targets:{easy:own_rationale,middle:own_rationale,hard:own_rationale}}]"
)


def classes(workspace: Workspace) -> tuple[list[Question], list[Question], list[Question]]:
    """Easy, middle and hard: eight rows in rising order, cut at 0.25 and 0.75."""
    train = list(workspace.questions.train)
    return train[:2], train[2:6], train[6:]


def test_the_middle_class_gets_its_own_chains_and_the_teacher_is_asked_for_the_hard_one(
    open_small: Open, caplog: pytest.LogCaptureFixture
) -> None:
    workspace = open_small(*OWN)
    easy, middle, hard = classes(workspace)
    sampling = own_sampling(workspace, middle)
    # Drawn with the shots, since the base model would write no chain without.
    assert sampling.shots == workspace.questions.shots != ()
    write(workspace, sampling, {middle[0].id: 0, middle[1].id: 1, middle[3].id: 1})
    with caplog.at_level(logging.INFO):
        taught = teach_all(workspace)
    assert [(row.question_id, row.refusal, row.attempt) for row in taught.own] == [
        (middle[0].id, "", 0),
        (middle[1].id, "", 1),
        (middle[2].id, "wrong", 0),
        (middle[3].id, "", 1),
    ]
    assert {row.question_id for row in taught.rationales} == {item.id for item in hard}
    # Four questions, two tries each, of 10 and 11 tokens.
    assert "3 of 4 middle questions; 8 tries, 84 tokens, no teacher call; left out: 1 wrong" in (
        caplog.text
    )
    (rows,) = check_stages(workspace, taught, {}).values()
    trained = {row.question_id: row for row in rows.examples}
    assert middle[2].id not in trained
    assert [row.target.name for row in rows.examples] == (
        ["answer"] * 2 + ["own_rationale"] * 3 + ["rationale"] * 2
    )
    decode = workspace.student.tokenizer.decode
    assert "my try 1 [[" in decode(trained[middle[1].id].completion_ids)
    # Nobody knows a test question's class: it is asked as the hard class is, without the shots.
    prompts = [
        decode(trained[item.id].prompt_ids).replace(item.text, "") for item in (middle[0], hard[0])
    ]
    assert prompts[0] == prompts[1]
    assert [row["name"] for row in taught.stages] == ["own rationales", "distill"]
    assert easy[0].id not in {each.question_id for each in taught.tries}


def test_a_class_without_any_is_refused_before_the_teacher_is_asked(
    open_small: Open, server: FakeServer
) -> None:
    asks = ("teacher=vllm", "teacher.model=fake", f"teacher.base_url={server.base_url}")
    priced = [f"teacher.usd_per_million_{kind}_tokens=1" for kind in ("prompt", "completion")]
    workspace = open_small(*OWN, *asks, *priced)
    _, middle, _ = classes(workspace)
    write(workspace, own_sampling(workspace, middle), {})
    message = (
        r"self_taught trains the class middle on own_rationale, but none of the student's 2 tries "
        r"at each of its 4 questions .*\(4 wrong\); raise score\.samples\.count"
    )
    with pytest.raises(UserError, match=message):
        teach_all(workspace)
    assert not server.log


def test_an_estimators_chains_are_the_same_stage(open_small: Open) -> None:
    estimated = open_small(*OWN, "score.estimators=[pass_rate]")
    assert [step.name for step in list_steps(estimated.config)][:3] == [
        "score", "score samples", "distill",
    ]  # fmt: skip
    _, middle, _ = classes(estimated)
    assert own_sampling(estimated, middle) is estimated.base_samples
    # Only the tries of the class are in its bill.
    write(estimated, estimated.base_samples, {item.id: 0 for item in middle})
    taught = teach_all(estimated)
    assert {each.question_id for each in taught.tries} == {item.id for item in middle}
    assert [row["name"] for row in taught.stages] == ["distill"]
    # And without the estimator all classes together are what it would have drawn.
    alone = open_small("score.samples.count=2", EVERYWHERE)
    sampling = own_sampling(alone, list(alone.questions.train))
    assert digest(sampling.key) == digest(estimated.base_samples.key)


def test_only_what_some_epoch_draws_is_sampled(open_small: Open) -> None:
    workspace = open_small(
        "seed=3",
        "method.stages=[{targets:{easy:answer,middle:own_rationale},epochs:2,draw:{middle:1}}]",
    )
    _, middle, _ = classes(workspace)
    drawn = Draws({"middle": 1}, seed=3, stage=0).pick_any([q.id for q in middle], "middle", 2)
    split = split_scored(workspace, score_in_order(workspace.every_question))
    assert {item.id for item in own_questions(workspace, split)} == drawn
    assert len(drawn) < len(middle)


def test_a_matched_budget_settles_the_classes_first(open_small: Open) -> None:
    workspace = open_small(*OWN, "split=random", "split.match=calls")
    names = [step.name for step in list_steps(workspace.config)]
    assert names.index("own rationales") == names.index("distill") + 1
    scored = score_in_order(workspace.every_question)
    # The teacher is a file of solutions: what it is asked can be foreseen.
    planner = Planner(open_small(*OWN, "split=random", "split.match=calls"), workspace.student)
    planner.scored, planner.split = scored, split_scored(workspace, scored)
    foreseen = planner._foresee_teaching()
    assert foreseen is not None
    middle = own_questions(workspace, foreseen.split)
    write(workspace, own_sampling(workspace, middle), {item.id: 0 for item in middle})
    taught = teach_all(workspace)
    assert [row.question_id for row in taught.own] == [item.id for item in middle]
    # The budget counts what the teacher wrote, and nothing of the student's own.
    assert len(taught.rationales) == 2
    assert {row.target for row in taught.rationales} == {Target.rationale}


def test_the_dry_run_names_tokens_and_finds_what_was_drawn(open_small: Open) -> None:
    words = (*OWN, "score.chain.max_new_tokens=5", "dry_run=true")
    lines = {line.name: line for line in plan_run(open_small(*words))}
    # Half of eight rows, two tries each, five tokens at most.
    assert lines["own rationales"].work == (
        "4 questions, 2 drawn chains of thought each, of at most 5 tokens: up to 40, no teacher "
        "call"
    )
    workspace = open_small(*OWN, "score.chain.max_new_tokens=5")
    _, middle, _ = classes(workspace)
    write(workspace, own_sampling(workspace, middle), {middle[0].id: 1})
    planner = Planner(open_small(*words), workspace.student)
    planner.scored = score_in_order(workspace.every_question)
    known = {line.name: line for line in planner.plan()}
    assert (lines["own rationales"].state, known["own rationales"].state) == ("would run", "cached")
    # Two easy rows, the one with an own rationale, two hard rows.
    assert known["tune 1"].work.endswith("about 5 rows x 2 epochs")


def test_a_method_without_a_teacher_needs_none(open_small: Open) -> None:
    lines = {line.name: line for line in plan_run(open_small(EVERYWHERE, "dry_run=true"))}
    assert lines["distill"].work == "the method needs no teacher"
    assert [step.name for step in list_steps(open_small(EVERYWHERE).config)][:2] == [
        "score", "own rationales",
    ]  # fmt: skip


def test_with_published_scores_chains_are_as_long_as_the_dataset_says(
    open_small: Open, tmp_path: Path
) -> None:
    file = tmp_path / "scored.jsonl"
    row = {"options": ["3", "4"], "published_correct": True, "published_entropy_nats": 0.5}
    lines = (
        json.dumps({**row, "question": f"Shape {n}?", "answer": "AB"[n % 2]}) for n in range(20)
    )
    file.write_text("\n".join(lines), encoding="utf-8")
    words = ("dataset=local", f"dataset.train_path={file}", "dataset.answer_form=letter")
    solutions = ("score=published", "method.stages=[{targets:{middle:own_rationale}}]")
    workspace = open_small(*words, *solutions, "dataset.max_new_tokens=77")
    sampling = own_sampling(workspace, workspace.questions.train[:1])
    assert sampling.config.max_new_tokens == 77
    assert list_steps(workspace.config)[0].name == "own rationales"
