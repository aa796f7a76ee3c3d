"""Cut points, class sizes, and classes that are empty."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


def test_cut_points_come_from_training_rows_and_place_all_others(whole_run: Any) -> None:
    rows = whole_run.rows("scores")
    train = [row["answer_entropy"] for row in rows if row["split"] == "train"]
    everybody = [row["answer_entropy"] for row in rows]
    cuts = whole_run.summary["split"]["thresholds"]
    assert cuts == pytest.approx(list(np.quantile(train, [0.25, 0.75])), rel=1e-12)
    assert cuts != pytest.approx(list(np.quantile(everybody, [0.25, 0.75])), rel=1e-6)
    names = ("easy", "middle", "hard")
    expected = [names[sum(row["answer_entropy"] >= cut for cut in cuts)] for row in rows]
    assert [row["complexity"] for row in rows] == expected
    assert len({row["complexity"] for row in rows if row["split"] == "test"}) > 1


def test_random_classes_have_the_same_sizes_and_other_members(
    shared: Any, whole_run: Any, small: Any
) -> None:
    run = shared.run(*small.words, "split=random", "until=split")
    assert run.summary["split"]["counts"] == whole_run.summary["split"]["counts"]
    assert run.summary["split"]["thresholds"] == []
    drawn = {row["question_id"]: row["complexity"] for row in run.rows("scores")}
    cut = {row["question_id"]: row["complexity"] for row in whole_run.rows("scores")}
    assert drawn != cut


@pytest.mark.parametrize("empty", ["easy", "hard"])
def test_a_class_without_rows_is_refused_before_anything_is_tuned(
    workshop: Any, whole_run: Any, small: Any, empty: str
) -> None:
    cut = whole_run.summary["split"]["thresholds"][0]
    cuts = {"easy": f"[-1,{cut}]", "hard": f"[{cut},100]"}[empty]
    run = workshop.run(
        *small.words, small.two_stages, "split=entropy_threshold", f"split.thresholds={cuts}"
    )
    assert run.status == 2
    line = run.err.splitlines()[-1]
    assert f"trains the class {empty}, but no training question is in it" in line
    assert [made.split("/")[0] for made in workshop.made()] == ["score"]
    assert not (run.folder / "summary.json").exists()


def test_an_empty_class_is_no_fault_while_scores_are_looked_at(
    shared: Any, whole_run: Any, small: Any
) -> None:
    run = shared.run(
        *small.words, "split=entropy_threshold", "split.thresholds=[50,100]", "until=split"
    )
    assert run.status == 0
    assert run.summary["split"]["counts"] == {"easy": 40, "middle": 0, "hard": 0}
