"""A run that trains the student's own chains of thought, from questions to report."""

from __future__ import annotations

from typing import Any

import pytest

from caft.hydra_bridge import compose
from caft.pipeline.own_rationales import own_sampling
from caft.pipeline.preflight import open_workspace
from caft.run_config import RunContext
from scripted_chains import write_tries

OWN = ("method=self_taught", "method.epochs.alone=1", "score.samples.count=2")
NAME = "own rationales"


@pytest.mark.slow
def test_own_rationales_are_trained_shown_and_shared(
    workshop: Any, small: Any, promised: dict[str, set[str]]
) -> None:
    words = (*small.words, *OWN)
    split = workshop.run(*words, "until=split")
    middle = {
        row["question_id"]
        for row in split.rows("scores")
        if row["split"] == "train" and row["complexity"] == "middle"
    }
    # A tiny model has no right chain of its own.
    refused = workshop.run(*words)
    assert refused.status == 2
    assert "the class middle on own_rationale, but none of the student's 2 tries" in refused.err
    assert len([made for made in workshop.made() if made.startswith("sample/")]) == 1

    # From here on with another seed, whose chains are written by hand.
    words = (*words, "seed=7")
    workspace = open_workspace(
        compose([*words, f"store.path={workshop.store}"]), RunContext(folder=workshop.folder)
    )
    asked = [item for item in workspace.questions.train if item.id in middle]
    # Both tries: one of two digits is right by chance too often.
    right = {item.id: 0 for item in asked[:-3]}
    write_tries(workspace, own_sampling(workspace, asked), right)

    taught = workshop.run(*words, "until=distill")
    assert taught.stages == ["score", NAME, "distill"]
    assert not (taught.folder / "adapter").exists()
    run = workshop.run(*words)
    assert (run.status, run.fingerprint(NAME)) == (0, taught.fingerprint(NAME))
    assert NAME in run.cached
    cost, kept = run.summary["cost"], len(asked) - 3
    # Tries of 10 and of 11 tokens.
    assert (cost["own_rationale_tries"], cost["own_rationale_tokens"]) == (
        2 * len(asked),
        21 * len(asked),
    )
    assert cost["teacher_calls"] == 0
    hard = run.summary["split"]["counts"]["hard"]
    assert len(run.rows("rationales")) == hard
    assert run.columns()["own_rationales.parquet"] == promised["own_rationales.parquet"]
    rows = run.rows("own_rationales")
    assert [(row["question_id"], row["refusal"]) for row in rows] == [
        (item.id, "" if item.id in right else "wrong") for item in asked
    ]
    easy = run.summary["split"]["counts"]["easy"]
    assert run.summary["method"]["stages"][0]["examples"] == easy + kept + hard
    # Teacher tokens are those of the hard class alone: sweeps match budgets on them.
    assert cost["unique_rationale_tokens"] < cost["trained_response_tokens"]
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "The student&#39;s own rationales" in page
    assert f"{kept} of {len(asked)} were accepted for training" in page
    assert f"{2 * len(asked)} sampled chains, " in page
    own = cost["own_rationales"]
    assert (own["questions"], own["kept"], own["needed"]) == (len(asked), kept, 2)
    assert own["right_tries"] == 2 * kept > own["right_tries_by_chance"] > 0
    assert f"{kept} of {len(asked)} are, and chance alone would keep about" in page
    again = workshop.run(*words)
    assert set(again.cached) == set(again.stages)
