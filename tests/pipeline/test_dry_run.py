"""What a run would do, stage by stage, from an empty store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from small_runs import TWO_STAGES

from caft.pipeline.dry_run import plan_run
from caft.pipeline.workspace import Workspace

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
    assert stages["tune 1"][1] == "{easy: answer, middle: answer}: about 6 rows x 1 epochs"
    assert stages["tune 2"][1] == "{hard: rationale}: about 2 rows x 2 epochs"


@pytest.mark.parametrize("until", ["score", "split", "distill", "tune", "evaluate"])
def test_the_plan_ends_where_the_run_does(open_small: Open, until: str) -> None:
    names = list(plan(open_small(TWO_STAGES, "dry_run=true", f"until={until}")))
    assert names[-1].startswith(until)


def test_a_base_method_plans_no_tuning(open_small: Open) -> None:
    stages = plan(open_small("method=base", "dry_run=true"))
    assert stages["distill"] == ("read anew", "the method asks for no rationale")
    assert not [name for name in stages if name.startswith(("tune", "evaluate tuned"))]


def test_what_estimators_need_is_planned_too(open_small: Open) -> None:
    words = ("score.estimators=[fallback_entropy,cot_mean_entropy]", "until=score", "dry_run=true")
    stages = plan(open_small(*words))
    assert list(stages) == ["model", "score", "score fallback", "score chains"]
    assert stages["score chains"][1].startswith("14 chains of thought of at most")
