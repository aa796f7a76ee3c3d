"""Commands of the report as texts; tests/conf/test_next_step.py starts them."""

from __future__ import annotations

import json
import shlex
from typing import Any

from caft.report.run.next_step import compare_with_control, fold, rerun


def test_a_rerun_keeps_what_the_run_was_given_and_replaces_what_changes() -> None:
    overrides = ["model.path=/my models/a", "until=score", "split.within=subject", "+seed=3"]
    overrides.append("trainer.num_nodes=2")  # a sweep of such runs is refused without a launcher
    summary: Any = {"run": {"overrides": overrides}}
    command = rerun(summary, "-m", "split=random", "seed=1,2", without=("score",))
    assert shlex.split(command) == [
        "python", "train.py", "-m", "model.path=/my models/a", "split=random", "seed=1,2",
    ]  # fmt: skip


def test_the_control_has_an_equal_budget_where_one_class_is_bought(sample: Any) -> None:
    summary = sample.summary
    assert compare_with_control(summary) == (
        "python train.py -m method=complexity_aware teacher=openai "
        """'hydra.sweeper.cases=[["split=entropy"],["split=random","split.match=calls"]]' """
        "seed=1,2,3"
    )
    summary["split"]["strategy"], summary["split"]["estimator"] = "sampled_0.3", "top1_margin"
    assert (
        """["split=random","split.match=calls","split.temperature=0.3","split.reference=top1_margin"]"""
        in compare_with_control(summary)
    )
    # Of a class's two targets one is bought.
    summary["method"]["stages"] = [{"targets": {"hard": "rationale 0.7 + answer 0.3"}}]
    assert '["split=random","split.match=calls",' in compare_with_control(summary)
    # Rationales for two classes have no budget that a control could share: equal sizes.
    summary["method"]["stages"] = [{"targets": {"middle": "rationale", "hard": "rationale"}}]
    assert compare_with_control(summary).endswith(',["split=random"]]\' seed=1,2,3')


def test_beside_a_control_stands_the_rule_whose_budget_it_has(sample: Any) -> None:
    summary = sample.summary
    summary["split"]["strategy"] = "random"
    words = summary["run"]["overrides"]
    for given, routed in (
        (["match=tokens"], ["split=entropy"]),
        (["match=tokens", "temperature=0.3"], ["split=sampled", "split.temperature=0.3"]),
        (
            ["match=calls", "temperature=null", "within=subject", "reference=top1_margin"],
            ["split=entropy", "split.within=subject", "split.estimator=top1_margin"],
        ),
    ):
        dials = [f"split.{each}" for each in given]
        summary["run"]["overrides"] = [*words, "split=random", *dials]
        cases = [routed, ["split=random", *dials]]
        assert f"hydra.sweeper.cases={json.dumps(cases, separators=(',', ':'))}" in " ".join(
            shlex.split(compare_with_control(summary))
        )


def test_the_first_control_beside_a_method_that_rescores_does_not(sample: Any) -> None:
    summary = sample.summary
    summary["run"]["overrides"].append("method.stages.1.rescore=true")
    summary["method"]["stages"][1]["rescored"] = {"counts": {}, "moved": 1}
    assert compare_with_control(summary) == (
        "python train.py -m method=complexity_aware teacher=openai "
        """'hydra.sweeper.cases=[["split=entropy","method.stages.1.rescore=true"],"""
        """["split=entropy","method.stages.1.rescore=false"],"""
        """["split=random","split.match=calls","method.stages.1.rescore=false"]]' """
        "seed=1,2,3"
    )
    # An epoch is a stage of the summary, and names the setting of the config.
    summary["method"]["stages"][1]["rescored"]["dial"] = "method.stages.0.rescore=epoch"
    assert '["split=entropy","method.stages.0.rescore=epoch"],' in compare_with_control(summary)
    # A run that is that control itself stands beside what it controls.
    words = summary["run"]["overrides"]
    summary["run"]["overrides"] = [*words, "split=random", "split.pool=47"]
    summary["split"]["strategy"] = "random"
    assert (
        """[["split=entropy","method.stages.0.rescore=epoch"],"""
        """["split=random","split.pool=47","method.stages.0.rescore=epoch"]]"""
    ) in compare_with_control(summary)


def test_lines_of_any_width_are_one_command() -> None:
    words = ["python", "a b", "it's " * 30, "x" * 200, '"quoted\\"']
    for width in (20, 40, 79):
        lines = fold(shlex.join(words), width)
        assert max(map(len, lines)) <= width
        # A shell joins lines that end with a backslash.
        assert shlex.split("\n".join(lines).replace("\\\n", "")) == words
