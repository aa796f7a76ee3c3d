"""What a run would do, stage by stage, from an empty store."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from small_runs import TWO_STAGES, score_in_order

from caft.errors import UserError
from caft.pipeline.dry_run import plan_run
from caft.pipeline.estimators import find_judge
from caft.pipeline.expected import count_prompt_tokens
from caft.pipeline.planned import RUNS, PlannedStage, print_table
from caft.pipeline.planner import Planner
from caft.pipeline.preflight import check_prompts_and_start
from caft.pipeline.results import Taught
from caft.pipeline.stage_inputs import stage_tuning
from caft.pipeline.stages import run_stages, split_scored
from caft.pipeline.steps import judged_estimators, list_steps
from caft.pipeline.workspace import Workspace
from caft.score.stage import judge_prompts
from caft.store import StageKind, Store
from caft.teachers.ledger import BatchLedger
from caft.teachers.prices import Caps
from caft.teachers.replies import Request, prepare
from caft.trainers.loggers import open_logger
from caft.trainers.tracker import RunIdentity
from scripted_chains import Finished

Open = Callable[..., Workspace]


def plan(workspace: Workspace) -> dict[str, tuple[str, str]]:
    return {stage.name: (stage.state, stage.work) for stage in plan_run(workspace)}


def test_an_empty_store_runs_every_stage_with_the_expected_rows(open_small: Open) -> None:
    stages = plan(open_small(TWO_STAGES, "dry_run=true"))
    assert stages["model"] == ("would run", "made once, in the model cache")
    assert list(stages)[1:] == [
        "score", "split", "distill", "tune 1", "tune 2", "evaluate base rationale",
        "evaluate tuned answer", "evaluate tuned rationale",
    ]  # fmt: skip
    assert {stages[name][0] for name in stages if name != "distill"} == {"would run"}
    assert stages["score"][1].startswith("14 questions, 1 forward pass each")
    # Quantiles 0.25 and 0.75 of eight rows: six with answers, two with rationales.
    assert stages["tune 1"][1] == "{easy: answer, middle: answer}: about 6 rows x 1 epoch"
    assert stages["tune 2"][1] == "{hard: rationale}: about 2 rows x 2 epochs"


@pytest.mark.parametrize("until", [[], ["until=score", "score.estimators=[cot_mean_entropy]"]])
def test_a_plan_is_refused_where_the_run_would_be(open_small: Open, until: list[str]) -> None:
    assert open_small().student  # it is made here
    words = ["evaluation.max_new_tokens=100000", "score.chain.max_new_tokens=100000", *until]
    with pytest.raises(UserError, match="leaves less than 100000 of the model's") as refused:
        plan(open_small(*words, "dry_run=true"))
    with pytest.raises(UserError, match="leaves less than") as run:
        check_prompts_and_start(open_small(*words))
    assert str(refused.value).partition(";")[2] == str(run.value).partition(";")[2]


@pytest.mark.parametrize("until", ["score", "split", "distill", "tune", "evaluate"])
def test_the_plan_ends_where_the_run_does(open_small: Open, until: str) -> None:
    names = list(plan(open_small(TWO_STAGES, "dry_run=true", f"until={until}")))
    assert names[-1].startswith(until)


def test_a_base_method_plans_no_tuning(open_small: Open) -> None:
    stages = plan(open_small("method=base", "dry_run=true"))
    assert stages["distill"] == ("no work", "the method needs no rationales")
    assert not [name for name in stages if name.startswith(("tune", "evaluate tuned"))]


def test_what_estimators_need_is_planned_too(open_small: Open) -> None:
    words = ("score.estimators=[fallback_entropy,cot_mean_entropy]", "until=score", "dry_run=true")
    stages = plan(open_small(*words))
    assert list(stages) == ["model", "score", "score fallback", "score chains"]
    assert stages["score chains"][1].startswith("14 chains of thought of at most")


MORE = "1 more forward pass each, about the model's own answer"
CHAINS = "8 drawn chains of thought each, of at most 4 tokens"
LOCAL = ("teacher=local_model", "teacher.id=a/b")


@pytest.mark.parametrize(
    ("estimator", "stage", "work"),
    [
        ("p_true", "score p_true", f"14 questions, {MORE}"),
        ("verbalized", "score verbalized", f"14 questions, {MORE}"),
        ("entropy_gain", "score teacher", "8 training questions, 1 forward pass each of a/b"),
        ("probe", "score", "14 questions, 1 forward pass each, about {tokens:,} tokens, hidden "
         "states kept for the probe"),
        # No held-out question is placed by what needs its gold answer.
        ("pass_rate", "score samples", f"8 questions, {CHAINS}: up to 256"),
        ("answer_frequency", "score samples", f"14 questions, {CHAINS}: up to 448"),
    ],
)  # fmt: skip
def test_the_work_of_an_estimator_is_planned_in_whole_sentences(
    open_small: Open, estimator: str, stage: str, work: str
) -> None:
    words = (f"score.estimators=[{estimator}]", "until=score", "score.chain.max_new_tokens=4")
    workspace = open_small(*words, *LOCAL, "dry_run=true")
    stages = plan(workspace)
    assert list(stages)[1:] == list(dict.fromkeys(["score", stage]))
    assert stages[stage] == (RUNS, work.format(tokens=count_prompt_tokens(workspace)))


ALL_ESTIMATORS = "score.estimators=[fallback_entropy,cot_mean_entropy,rationale_length]"
SHORT = ("score.chain.max_new_tokens=4", "dataset.max_new_tokens=4")


@pytest.mark.parametrize(
    "words",
    [
        (TWO_STAGES,),
        pytest.param((TWO_STAGES, "tuning.answer_target=bracketed"), marks=pytest.mark.slow),
        pytest.param(
            (TWO_STAGES, "split=random", "split.match=calls", "until=tune"), marks=pytest.mark.slow
        ),
        (TWO_STAGES, "split=random", "split.match=calls", "until=distill", ALL_ESTIMATORS),
        pytest.param(("method=base", "split.estimator=fallback_entropy"), marks=pytest.mark.slow),
        pytest.param(("method=sft", "until=tune"), marks=pytest.mark.slow),
        (TWO_STAGES, "until=distill", ALL_ESTIMATORS),
        ("until=score", ALL_ESTIMATORS),
        pytest.param((TWO_STAGES, "evaluation.modes=[answer]"), marks=pytest.mark.slow),
        ("until=split",),
    ],
    ids=" ".join,
)
def test_the_plan_names_what_a_run_records(
    open_small: Open, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """Before the run, when nothing is known, and after it, when everything is."""
    dry = open_small(*SHORT, *words, "dry_run=true")
    before = [(line.kind.name, line.name) for line in plan_run(dry) if line.kind]
    run = open_small(*SHORT, *words)
    with open_logger(run.config.logger, RunIdentity(name="run", folder=tmp_path)) as tracker:
        results = run_stages(run, tracker)
    recorded = [(record["kind"], record["name"]) for record in results.stages]
    assert before == recorded
    after = plan_run(open_small(*SHORT, *words, "dry_run=true"))
    assert [(line.kind.name, line.name) for line in after if line.kind] == recorded
    assert {line.state for line in after if line.kind} <= {"cached", "no work"}


def test_a_file_of_rationales_is_read_to_see_what_is_tuned_already(
    open_small: Open, tmp_path: Path
) -> None:
    file = tmp_path / "rationales.jsonl"
    words = (*SHORT, TWO_STAGES, "teacher=file", f"teacher.path={file}", "until=tune")
    file.write_text('{"question_id": "other", "text": "[[1]]"}\n')
    questions = open_small(*words, "dry_run=true").questions.train
    rows = [{"question_id": each.id, "text": f"So. [[{each.gold_text}]]"} for each in questions]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = open_small(*words)
    with open_logger(run.config.logger, RunIdentity(name="run", folder=tmp_path)) as tracker:
        run_stages(run, tracker)
    stages = plan(open_small(*words, "dry_run=true"))
    assert [stages[name][0] for name in ("tune 1", "tune 2")] == ["cached", "cached"]


PRICED = ("teacher=openai", "teacher.model=m", "teacher.base_url=http://127.0.0.1:9",
          "teacher.usd_per_million_prompt_tokens=1000", "teacher.attempts=3",
          "teacher.usd_per_million_completion_tokens=1000")  # fmt: skip
JUDGED = ("until=split", "split.estimator=judge_steps", "dataset.train=30", "dry_run=true")


def test_a_teacher_that_judges_is_priced_as_it_is_asked(open_small: Open) -> None:
    """Once a question and without probes: 36 questions, all of them in the batch."""
    state, live = plan(open_small(*JUDGED, *PRICED))["score judge"]
    assert state == "would run"
    assert live.startswith("m: 36 questions, 0 replies in the ledger; 36 calls, ")
    words = (*PRICED, "teacher.batch=true", "teacher.batch_price_factor=0.5")
    planner = Planner(open_small(*JUDGED, *words), None)
    step = next(step for step in list_steps(planner.config) if step.kind is StageKind.judge)
    note = planner.plan_judge(step).note
    prices = re.search(r"([\d.]+) USD live, ([\d.]+) as a batch", note)
    assert prices, note
    assert float(prices[2]) == pytest.approx(float(prices[1]) / 2, abs=1e-4)


def test_what_earlier_stages_spend_of_a_cap_is_not_left_for_later_ones(open_small: Open) -> None:
    """36 calls of a judge that is the teacher, then 8 for rationales: 40 suffice for each."""
    words = (TWO_STAGES, *JUDGED[1:], *PRICED, "teacher.attempts=1", "until=distill")
    each, both = (
        {
            stage.name: stage.note
            for stage in plan_run(open_small(*words, f"teacher.max_calls={most}"))
            if "distill" in stage.name or "judge" in stage.name
        }
        for most in (40, 60)
    )
    assert both == {"score judge": "", "distill": ""}
    assert each == {
        "score judge": "",
        "distill": "teacher.max_calls=40 leaves 40 calls for this stage and those before it, and "
        "about 44 are needed: the run would stop there and keep what it bought",
    }
    words += ("score.judge.base_url=http://127.0.0.1:9", "score.judge.model=other",
              "score.judge.usd_per_million_prompt_tokens=1",
              "score.judge.usd_per_million_completion_tokens=1")  # fmt: skip
    assert not any(stage.note for stage in plan_run(open_small(*words, "teacher.max_calls=40")))


def test_a_matched_budget_buys_no_rationale_that_an_estimator_has_bought(open_small: Open) -> None:
    words = (TWO_STAGES, "split=random", "split.match=calls", "until=distill", "dry_run=true")
    bought = (*words, *PRICED, "teacher.max_calls=30", "score.estimators=[rationale_length]")
    lines = [line for line in plan_run(open_small(*bought)) if line.kind is StageKind.distill]
    assert [re.findall("; (.*) calls,", line.work) for line in lines] == [
        ["about 8 (8 to 24)"],
        ["0"],
    ]
    assert {line.note for line in lines} == {""}


def test_settings_that_a_note_names_are_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    note = "no run starts without teacher.usd_per_million_completion_tokens"
    print_table("A title.", [PlannedStage("distill", RUNS, "m: " + "words " * 30, note=note)])
    printed = capsys.readouterr().out
    assert "teacher.usd_per_million_completion_tokens" in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_a_judges_batch_that_is_out_is_still_to_be_fetched(open_small: Open) -> None:
    words = (*JUDGED, *PRICED, "teacher.batch=true", "teacher.batch_price_factor=0.5")
    workspace = open_small(*words)
    judge, names = find_judge(workspace.config), judged_estimators(workspace.config)
    prompts = judge_prompts(workspace.every_question, names, workspace.config.dataset.prompt)
    keys = [prepare(Request(prompt.turns), judge).key for prompt in prompts]
    with BatchLedger(Store(workspace.store.path).ledger_path, "m", sends=True) as ledger:
        ledger.claim([(key, 2.0) for key in keys], Caps())
        assert ledger.hand_over("file-1", len(keys), "batch-1")
    state, work = plan(workspace)["score judge"]
    assert state == "would run"
    assert "36 in a batch that is out; 0 calls" in work


def test_answers_of_a_matched_budget_wait_for_the_classes_that_it_settles(
    open_small: Open,
) -> None:
    words = ("split=random", "split.match=calls", TWO_STAGES, *PRICED, "dry_run=true")
    workspace = open_small(*words)
    scored = score_in_order(workspace.every_question)
    drawn = split_scored(workspace, scored)
    unsettled = stage_tuning(workspace, Taught(split=drawn), workspace.student, 0)
    Store(workspace.store.path).obtain(
        Finished(unsettled, lambda at: (at / "tuning.json").write_text("{}"))
    )

    def plan_first(*more: str) -> PlannedStage:
        planner = Planner(open_small(*words, *more), workspace.student)
        planner.scored, planner.split = scored, drawn
        planner.student = workspace.student
        planner.taught = planner._foresee_teaching()
        return planner.plan_tuning(
            next(s for s in list_steps(planner.config) if s.name == "tune 1")
        )

    # Which questions are trained on answers is known once the teacher has written.
    assert plan_first().state == "would run"
    assert plan_first("split.match=sizes").state == "cached"
