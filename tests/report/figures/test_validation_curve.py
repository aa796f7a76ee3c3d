"""Best and final accuracy, and over-fitting, as the report describes the curve."""

from __future__ import annotations

import pytest

from caft.report.figures.curves import describe_validation, draw_curves
from caft.report.schema import TuningPart


def stage(*measured: float, selected: int = 0) -> TuningPart:
    best = max(measured, default=None)
    return {
        "epochs": len(measured),
        "by_epoch": [*measured],
        "best_epoch": measured.index(best) + 1 if best is not None else None,
        "best": best,
        "final": measured[-1] if measured else None,
        "questions": 100,
        "selected": selected or len(measured),
    }


def test_every_stage_says_its_best_and_its_final_epoch() -> None:
    # The second measured nothing: the third keeps its number.
    assert describe_validation([stage(0.25, 0.5), stage(), stage(0.4, 0.4)]) == [
        "Stage 1: best 50.0% after epoch 2, final 50.0% (100 validation questions).",
        "Stage 3: best 40.0% after epoch 1, final 40.0% (100 validation questions).",
    ]


# A standard error of 0.5 over 100 questions is 0.05.
@pytest.mark.parametrize(("final", "over_fits"), [(0.44, True), (0.46, False), (0.5, False)])
def test_over_fitting_is_reported_beyond_a_standard_error(final: float, over_fits: bool) -> None:
    found = " ".join(describe_validation([stage(0.3, 0.5, final)]))
    assert ("over-fits after epoch 2" in found) is over_fits


def test_weights_that_were_kept_need_no_advice() -> None:
    *_, told = describe_validation([stage(0.5, 0.5), stage(0.3, 0.5, 0.2, selected=2)])
    assert told == "It over-fits after epoch 2, whose weights were kept."
    *_, told = describe_validation([stage(0.3, 0.5, 0.2)])
    assert "tuning.select=best" in told


def test_the_figure_carries_it() -> None:
    curves = [
        {"stage": 1, "epoch": 1, "step": 10, "loss": 2.0},
        {"stage": 1, "epoch": 1, "validation_accuracy": 0.5},
        {"stage": 1, "epoch": 2, "validation_accuracy": 0.3},
    ]
    figure = draw_curves(curves, [stage(0.5, 0.3)])
    assert figure is not None
    assert "over-fits after epoch 1" in figure.note
    assert figure.rows == (("1", "1", "2.0000", "50.0%"), ("1", "2", "", "30.0%"))
