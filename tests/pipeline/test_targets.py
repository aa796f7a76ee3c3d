"""What a teacher is asked for, class by class, and what of it is trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from fake_server import Call, FakeServer
from small_runs import TWO_STAGES, score_in_order, teach_all
from tokenizers import AddedToken

from caft.errors import UserError
from caft.models.config import Architecture
from caft.models.sources.tiny_tokenizers import make_tokenizer
from caft.pipeline.data_check import check_stages
from caft.pipeline.dry_run import plan_run
from caft.pipeline.local_teacher import tag_thinking
from caft.pipeline.preflight import check_prompts_and_start
from caft.pipeline.stages import split_scored, teach
from caft.pipeline.steps import (
    asked_targets,
    find_matched_budget,
    list_phases,
    rationale_classes,
    taught_classes,
)
from caft.pipeline.teaching import ask_each
from caft.pipeline.workspace import Workspace
from caft.records import Target
from caft.report.run.cost import count_cost
from caft.tune.check import CLOSE, OPEN, render_example

Open = Callable[..., Workspace]
THINKING = "method.stages=[{targets:{easy:answer,middle:rationale,hard:thinking}}]"
TWICE = "method.stages=[{targets:{hard:rationale}},{targets:{hard:thinking}}]"
BOTH = "method.stages=[{targets:{hard:rationale}},{targets:{hard:short_rationale}}]"
THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking %}<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as running:
        running.think = lambda call: {"reasoning_content": "One and one."}
        yield running


def ask(server: FakeServer) -> tuple[str, ...]:
    return (
        "model.architecture=qwen2",
        "dataset.prompt.style=chat",
        "teacher=vllm",
        "teacher.model=fake",
        f"teacher.base_url={server.base_url}",
        "teacher.keep=all",
        "teacher.usd_per_million_prompt_tokens=0",
        "teacher.usd_per_million_completion_tokens=1",
    )


def let_think(workspace: Workspace) -> None:
    workspace.student.tokenizer.chat_template = THINKS


def is_short(call: Call) -> bool:
    return "shortest" in call.body["messages"][0]["content"]


def test_each_class_is_asked_for_its_own_kind_and_both_are_in_the_bill(
    open_small: Open, server: FakeServer
) -> None:
    server.write = lambda call: "Short. [[1]]" if is_short(call) else "Long and long. [[1]]"
    workspace = open_small("method=short_and_long", "dataset=arithmetic", *ask(server))
    taught = teach_all(workspace)
    # Eight training rows in rising order: quantiles 0.25 and 0.75 leave four middle, two hard.
    train = [item.id for item in workspace.questions.train]
    assert [(row.question_id, row.text) for row in taught.rationales] == [
        *((name, "Long and long. [[1]]") for name in train[6:]),
        *((name, "Short. [[1]]") for name in train[2:6]),
    ]
    assert sorted(map(is_short, server.log)) == [False] * 2 + [True] * 4
    rows = check_stages(workspace, taught, {})[0].examples
    assert [row.target.name for row in rows] == (
        ["answer"] * 2 + ["short_rationale"] * 4 + ["rationale"] * 2
    )
    # Nobody knows a test question's class: the student is asked for both in the same words.
    texts = {item.id: item.text for item in workspace.questions.train}
    asked = {
        row.target: workspace.student.tokenizer.decode(row.prompt_ids).replace(
            texts[row.question_id], ""
        )
        for row in rows
    }
    assert asked[Target.short_rationale] == asked[Target.rationale] != asked[Target.answer]
    cost = count_cost(taught.rationales, [], [], [])
    assert (cost["teacher_calls"], cost["teacher_completion_tokens"]) == (6, 60)


def test_the_dry_run_counts_each_kind(open_small: Open, server: FakeServer) -> None:
    words = ("method=short_and_long", *ask(server), "dry_run=true", "teacher.max_calls=5")
    (line,) = (stage for stage in plan_run(open_small(*words)) if stage.name == "distill")
    assert "(2 for rationale, 4 for short_rationale): 6 questions, 0 replies" in line.work
    assert line.note.endswith(
        "teacher.max_calls=5 leaves 5 calls, and about 6 are needed: the run would stop there and "
        "keep what it bought"
    )
    assert not server.log


def test_what_is_trained_is_the_thinking_prompt_the_span_and_the_reply(
    open_small: Open, server: FakeServer
) -> None:
    workspace = open_small(THINKING, *ask(server))
    let_think(workspace)
    check_prompts_and_start(workspace)
    taught = teach_all(workspace)
    assert {row.reasoning for row in taught.rationales} == {"One and one."}
    assert len(server.log) == 6
    (rows,) = check_stages(workspace, taught, {}).values()
    shown = {row.target: render_example(row, workspace.student.tokenizer) for row in rows.examples}
    prompt, trained = shown[Target.thinking].split(OPEN)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n")
    assert trained.startswith("One and one.\n</think>\n\nI read ")
    assert trained.endswith(f" [[A]]<|im_end|>{CLOSE}")
    prompt, trained = shown[Target.rationale].split(OPEN)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert "One and one." not in trained


def test_a_class_that_needs_the_reasoning_too_is_asked_once(
    open_small: Open, server: FakeServer
) -> None:
    workspace = open_small(TWICE, *ask(server))
    let_think(workspace)
    assert taught_classes(workspace.config.method) == {Target.thinking: {"hard"}}
    taught = teach_all(workspace)
    assert len(taught.rationales) == len(server.log) == 2
    rows = check_stages(workspace, taught, {})
    assert [row.target.name for number in (0, 1) for row in rows[number].examples] == [
        "rationale", "rationale", "thinking", "thinking",
    ]  # fmt: skip


def test_rows_without_reasoning_are_refused_and_none_at_all_names_teachers_that_have_it(
    open_small: Open, server: FakeServer
) -> None:
    workspace = open_small(THINKING, *ask(server))
    let_think(workspace)
    last = workspace.questions.train[-1]
    server.think = lambda call: {} if last.text in call.question else {"reasoning": "Hm."}
    taught = teach_all(workspace)
    assert [row.refusal for row in taught.rationales if row.question_id == last.id] == [
        "no_reasoning"
    ]
    check_stages(workspace, taught, {})
    silent = [replace(row, reasoning=None) for row in taught.rationales]
    with pytest.raises(UserError, match=r"class hard on thinking.*with the teacher's reasoning.*"):
        check_stages(workspace, replace(taught, rationales=silent), {})
    refused = [
        replace(row, refusal="no_reasoning") if row.target is Target.thinking else row
        for row in silent
    ]
    with pytest.raises(UserError, match=r"2 no_reasoning\): .*--reasoning-parser"):
        check_stages(workspace, replace(taught, rationales=refused), {})


def test_an_estimators_rationales_are_not_bought_again_and_short_ones_are(
    open_small: Open, server: FakeServer
) -> None:
    words = ("method=short_and_long", "score.estimators=[rationale_length]", *ask(server))
    config = open_small(*words).config
    (phase,) = list_phases(config.method)
    assert asked_targets(config, phase) == {Target.short_rationale: {"middle"}}
    assert rationale_classes(config.method) == {"middle", "hard"}


@pytest.mark.parametrize("words", [("split=entropy",), ("split=random", "split.match=calls")])
def test_what_an_estimator_bought_is_in_the_bill_and_judged_once(
    open_small: Open, server: FakeServer, words: tuple[str, ...]
) -> None:
    server.write = lambda call: "Because. [[1]]"
    bought = ("score.estimators=[rationale_length]", "until=distill", *ask(server))
    workspace = open_small(TWO_STAGES, *words, *bought)
    train = workspace.questions.train
    rows = ask_each(workspace, [(Target.rationale, train)])
    scored = replace(score_in_order(workspace.every_question), rationales=rows)
    taught = teach(workspace, scored, split_scored(workspace, scored))
    cost = count_cost(taught.rationales, [], [], [])
    assert cost["teacher_calls"] == len(server.log) == len(train)
    assert sorted(row.question_id for row in taught.rationales) == sorted(q.id for q in train)
    hard = [q.id for q in train if taught.split.complexity_of[q.id] == "hard"]
    assert {row.question_id for row in taught.rationales[-2:]} == {*hard}


def test_a_student_that_does_not_think_is_refused_before_anything_is_paid(
    open_small: Open, server: FakeServer
) -> None:
    workspace = open_small(THINKING, *ask(server))
    with pytest.raises(UserError, match=r"trains thinking, and model .*without a thinking span"):
        check_prompts_and_start(workspace)
    with pytest.raises(UserError, match="without a thinking span"):
        plan_run(open_small(THINKING, *ask(server), "dry_run=true"))
    with pytest.raises(
        UserError, match=r"is asked in completions; set dataset\.prompt\.style=chat"
    ):
        check_prompts_and_start(
            open_small(THINKING, *ask(server), "dataset.prompt.style=completion")
        )
    assert not server.log


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        ((), True),
        (("dry_run=true",), True),
        (("evaluation.thinking=false",), True),
        (("evaluation.thinking=true",), False),
        (("until=tune",), False),
        (("evaluation.modes=[answer]",), False),
    ],
)
def test_thinking_that_is_trained_and_not_evaluated_is_told_before_the_run(
    open_small: Open,
    server: FakeServer,
    caplog: pytest.LogCaptureFixture,
    words: tuple[str, ...],
    warned: bool,
) -> None:
    open_small(THINKING, *ask(server), *words)
    assert ("Set evaluation.thinking=true" in caplog.text) is warned


def test_a_local_teachers_span_stands_between_tags_whatever_its_marks_are() -> None:
    tokenizer = make_tokenizer(Architecture.qwen2)
    marks = [AddedToken(mark, special=True) for mark in ("[THINK]", "[/THINK]")]
    tokenizer.add_tokens(marks)
    end = tokenizer.eos_token_id

    def tag(prompt: str, reply: str) -> str:
        written = [*tokenizer(reply).input_ids, end]
        return tag_thinking(tokenizer, tokenizer(prompt).input_ids, written, [end])

    whole = "<think>\nHm. [[A]]?\n</think>\n\nSo [[B]]"
    assert tag("Q", "[THINK]Hm. [[A]]?[/THINK]So [[B]]") == whole
    assert tag("Q[THINK]", "Hm. [[A]]?[/THINK]So [[B]]") == whole
    assert tag("Q<think>\n", "Hm. [[A]]?\n</think>\n\nSo [[B]]") == whole
    assert tag("Q", "So [[B]]") == "So [[B]]"
    # Cut while it thinks: acceptance refuses an open span.
    assert tag("Q[THINK]", "Hm. [[A]]") == "<think>\nHm. [[A]]"


def test_two_kinds_for_one_class_have_no_budget_to_match(open_small: Open) -> None:
    words = ("split=random", "split.match=calls")
    with pytest.raises(
        UserError, match=r"asks for rationale and short_rationale: set split\.match"
    ):
        open_small(*words, BOTH, "teacher=local_model", "teacher.id=a/b")
    one = "method.stages=[{targets:{hard:short_rationale}}]"
    dry = ("teacher=local_model", "teacher.id=a/b", "dry_run=true")
    budget = find_matched_budget(open_small(*words, one, *dry).config)
    assert budget is not None
    assert (budget.taught, budget.target) == ("hard", Target.short_rationale)


@pytest.mark.parametrize("missing", [range(0), range(0, 20, 3)])
def test_a_row_without_a_solution_costs_itself_alone(
    open_small: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: range
) -> None:
    rows = [
        {
            "question": f"Is {n} even?", "options": ["yes", "no"], "answer": "AB"[n % 2],
            "how": " " if n in missing else f"Look at {n}.",
        }
        for n in range(20)
    ]  # fmt: skip
    file = tmp_path / "numbers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ("dataset=local", f"dataset.train_path={file}", "method=distill")
    sizes = ("dataset.train=12", "dataset.prompt.shots=0", "teacher=worked")
    with caplog.at_level(logging.WARNING):
        workspace = open_small(*words, *sizes, "dataset.columns.rationale=how", "until=distill")
    solved = [bool((row.rationale or "").strip()) for row in workspace.questions.train]
    told = f"{solved.count(False)} of {len(solved)} training questions have no solution"
    assert (told in caplog.text) == (False in solved) == bool(missing)
    assert True in solved
    with pytest.raises(UserError, match="the dataset has none; name their column"):
        open_small(*words, *sizes, "until=distill")
