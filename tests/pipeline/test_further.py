"""Further sets in a run: the same prompts for both models, and keys that no method changes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest
from small_runs import TWO_STAGES

from caft.errors import UserError
from caft.evaluate.stage import ReplyInputs
from caft.hydra_bridge import compose
from caft.pipeline.dry_run import plan_run
from caft.pipeline.footprint import KNOWN, estimate_memory
from caft.pipeline.preflight import check_gold_room, further_stages
from caft.pipeline.stage_inputs import evaluation
from caft.pipeline.steps import asks_one_token, list_steps
from caft.pipeline.workspace import Workspace
from caft.records import Mode
from caft.run_config import Until
from caft.score.stage import ScoreInputs
from caft.store import digest
from caft.text.prompts import Wanted

Open = Callable[..., Workspace]
ALSO = "evaluation.also=[{dataset:arithmetic,seed:7,test:6,max_new_tokens:5,prompt:{shots:3}}]"
NAMES = [
    "evaluate base answer, arithmetic", "evaluate base rationale, arithmetic",
    "evaluate tuned answer, arithmetic", "evaluate tuned rationale, arithmetic",
]  # fmt: skip


def test_every_mode_but_routed_is_evaluated_before_and_after(open_small: Open) -> None:
    steps = [step for step in list_steps(open_small(TWO_STAGES, ALSO).config) if step.also]
    assert [step.name for step in steps] == NAMES
    untuned = list_steps(open_small("method=base", ALSO).config)
    assert [step.name for step in untuned if step.also] == NAMES[:2]
    early = list_steps(replace(open_small(TWO_STAGES, ALSO).config, until=Until.tune))
    assert not [step for step in early if step.also]


def test_an_engine_is_needed_by_one_model_after_the_other(open_small: Open) -> None:
    """And what we write ourselves is written when no engine holds the device's memory."""
    sets = ALSO.replace("]", ",{dataset:arithmetic,name:more,most_steps:4,test:6}]")
    config = open_small(TWO_STAGES, sets, "engine=vllm", "dry_run=true").config
    steps = [step for step in list_steps(config) if step.part is Until.evaluate]
    runs = [
        ("tuned" if step.tuned else "base", "ours" if asks_one_token(config, step) else "engine")
        for step in steps
    ]
    assert [key for key, _ in groupby(runs)] == [
        ("base", "ours"), ("base", "engine"), ("tuned", "ours"), ("tuned", "engine"),
    ]  # fmt: skip
    names = [step.name for step in steps if step.tuned and step.mode is Mode.rationale]
    assert names == [
        "gate tuned", "evaluate tuned rationale", NAMES[3], "evaluate tuned rationale, more",
    ]  # fmt: skip


def test_both_models_see_the_same_prompts_of_the_set(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES, ALSO)
    (found,) = workspace.further
    assert len(found.shots) == 3
    asked = [
        evaluation(workspace, step, workspace.student)
        for step in list_steps(workspace.config)
        if step.also
    ]
    for one in asked:
        assert isinstance(one, ScoreInputs | ReplyInputs)
        assert one.questions == found.questions
        assert one.shots == found.shots
        assert one.prompt == found.config.prompt
    # The student is the same here, so that whatever else differed would show in the key.
    assert [one.key for one in asked[:2]] == [one.key for one in asked[2:]]
    written = asked[1]
    assert isinstance(written, ReplyInputs)
    assert (written.max_new_tokens, written.wanted) == (5, Wanted.rationale)


def keys_of_base(workspace: Workspace) -> list[str]:
    return [digest(stage.key) for _, stage in further_stages(workspace)]


def test_the_base_models_results_are_shared_by_methods_splits_and_seeds(open_small: Open) -> None:
    own = keys_of_base(open_small(TWO_STAGES, ALSO))
    assert len(set(own)) == 2
    for words in (("method=sft",), ("seed=3",), ("split=random",), ("tuning.learning_rate=1e-5",)):
        assert keys_of_base(open_small(ALSO, *words)) == own
    other = open_small(TWO_STAGES, ALSO.replace("test:6", "test:5"))
    assert not set(keys_of_base(other)) & set(own)


def test_written_answers_are_asked_of_both(open_small: Open) -> None:
    workspace = open_small(TWO_STAGES, ALSO, "tuning.answer_target=bracketed")
    base, tuned = (
        evaluation(workspace, step, workspace.student)
        for step in list_steps(workspace.config)
        if step.also and step.mode is Mode.answer
    )
    assert isinstance(base, ReplyInputs)
    assert base.wanted is Wanted.bracketed
    assert base.key == tuned.key


def test_what_a_set_says_of_long_prompts_helps(open_small: Open) -> None:
    def check(most: int, shots: int) -> None:
        entry = ALSO.replace("tokens:5", f"tokens:{most}").replace("shots:3", f"shots:{shots}")
        for _, stage in further_stages(open_small(TWO_STAGES, entry)):
            stage.check()

    with pytest.raises(
        UserError, match=r"set max_new_tokens=\d+ or less, use fewer prompt\."
    ) as no:
        check(100_000, 3)
    found = re.search(r"tokens=(\d+) or less", str(no.value))
    assert found
    check(int(found[1]), 3)
    with pytest.raises(UserError, match=r"more; use fewer prompt\.shots, "):
        check(5, 200)


def test_a_wrong_grader_is_that_of_the_set(open_small: Open) -> None:
    with pytest.raises(UserError, match=r"^evaluation\.also, arithmetic: dataset\.grader is 'f'"):
        open_small(TWO_STAGES, ALSO.replace("test:6", "test:6,grader:f"))


def test_gold_answers_that_no_reply_has_room_for_are_found(
    open_small: Open, tmp_path: Path
) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [{"question": f"Who is no. {n}?", "answer": f"{n} of many words"} for n in range(4)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    mine = f"{{dataset:text,name:mine,train_path:null,test_path:{path},max_new_tokens:2}}"
    workspace = open_small(TWO_STAGES, f"evaluation.also=[{mine}]")
    with pytest.raises(UserError, match=r"^evaluation\.also, mine: 4 of 4 .*the 2 that max_new"):
        check_gold_room(workspace)


def test_gold_answers_that_are_not_read_from_their_own_marker_are_told(
    open_small: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.jsonl"
    rows = [{"question": f"No. {n}?", "answer": gold} for n, gold in enumerate(("()", "(1,2]"))]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    mine = f"{{dataset:text,name:mine,train_path:null,test_path:{path},max_new_tokens:99}}"
    check_gold_room(open_small(TWO_STAGES, f"evaluation.also=[{mine}]"))
    (told,) = [line for line in caplog.messages if "its marker" in line]
    assert told.startswith("evaluation.also, mine: 1 of 2 gold answers: its marker, such as [[()]]")


def test_the_longest_replies_of_all_sets_need_the_memory() -> None:
    def writing(most: int) -> float:
        config = compose(["model=tiny", "method=base", ALSO.replace("tokens:5", f"tokens:{most}")])
        return estimate_memory(config, KNOWN["Qwen/Qwen2.5-3B-Instruct"], "cuda", "bfloat16").peak

    # 36 layers with keys and values of 256 numbers of 2 bytes, for 128 replies.
    assert writing(4_000) - writing(3_000) == 1_000 * 128 * 36 * 2 * 256 * 2


def test_the_dry_run_counts_rows_and_passes(open_small: Open) -> None:
    plan = {stage.name: stage for stage in plan_run(open_small(TWO_STAGES, ALSO, "dry_run=true"))}
    assert [name for name in plan if name in NAMES] == NAMES
    assert plan[NAMES[0]].work == "6 questions, 1 forward pass each"
    assert plan[NAMES[3]].work == "6 replies of at most 5 tokens"
