"""Best and final accuracy, and over-fitting, as the report describes the curve."""

from __future__ import annotations

from typing import Any

import pytest

from caft.report.figures.curves import describe_validation, draw_curves


def rows(stage: int, *measured: float, questions: int = 100) -> list[dict[str, Any]]:
    return [
        {
            "stage": stage,
            "step": 10 * epoch,
            "epoch": epoch,
            "validation_accuracy": value,
            "validation_questions": questions,
        }
        for epoch, value in enumerate(measured, start=1)
    ]


def test_every_stage_says_its_best_and_its_final_epoch() -> None:
    loss = [{"stage": 1, "epoch": 1, "step": 1, "loss": 2.0}]
    found = describe_validation([*loss, *rows(1, 0.25, 0.5), *rows(2, 0.4, 0.4)])
    assert found == [
        "Stage 1: best 50.0% after epoch 2, final 50.0% (100 validation questions).",
        "Stage 2: best 40.0% after epoch 1, final 40.0% (100 validation questions).",
    ]
    assert describe_validation(loss) == []


# A standard error of 0.5 over 100 questions is 0.05.
@pytest.mark.parametrize(("final", "over_fits"), [(0.44, True), (0.46, False), (0.5, False)])
def test_over_fitting_is_reported_beyond_a_standard_error(final: float, over_fits: bool) -> None:
    (found,) = describe_validation(rows(1, 0.3, 0.5, final))
    assert ("over-fits after epoch 2" in found) is over_fits


def test_weights_that_were_kept_need_no_advice() -> None:
    curves = [*rows(1, 0.5, 0.5), *rows(2, 0.3, 0.5, 0.2)]
    _, second = describe_validation(curves, [2, 2])
    assert second.endswith("It over-fits after epoch 2, whose weights were kept.")
    _, second = describe_validation(curves, [2, 3])
    assert "tuning.select=best" in second


def test_the_figure_carries_it() -> None:
    figure = draw_curves([{"stage": 1, "epoch": 1, "step": 10, "loss": 2.0}, *rows(1, 0.5, 0.3)])
    assert figure is not None
    assert "over-fits after epoch 1" in figure.note
    assert figure.rows == (("1", "1", "2.0000", "50.0%"), ("1", "2", "", "30.0%"))
