"""Figures are read back: the marks must say what the numbers say."""

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from caft.report.figures import draw_accuracy, draw_curves, draw_histogram, draw_ledger, draw_roc
from caft.report.figures.curves import CurvePoint, average_neighbours, run_on
from caft.report.figures.histogram import count_bins
from caft.report.figures.roc_curve import thin
from caft.statistics import roc_points


def titles(panel: str) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(panel).iter("title")]


def test_every_row_is_in_one_bin_and_the_largest_in_the_last() -> None:
    bins = count_bins([0.0, 0.5, 1.0, 2.0], [True, False, False, True], bins=4)
    assert [(b.right, b.wrong) for b in bins] == [(1, 0), (0, 1), (0, 1), (1, 0)]
    assert (bins[0].low, bins[-1].high) == (0.0, 2.0)


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.5, 1.5], [-1.0, -2.0]])
def test_odd_ranges_still_draw(values: list[float]) -> None:
    figure = draw_histogram(values, [True, False], [], [], "answer entropy in nats")
    assert sum(int(row[2]) + int(row[3]) for row in figure.rows) == 2
    assert "nan" not in figure.panels[0].lower()


def test_histogram_marks_cuts_and_classes() -> None:
    values = [k / 50 for k in range(100)]
    figure = draw_histogram(values, [k < 60 for k in range(100)], [0.5, 1.5],
                            ["easy", "middle", "hard"], "answer entropy in nats")  # fmt: skip
    (panel,) = figure.panels
    assert {"cut point 0.5", "cut point 1.5"} <= set(titles(panel))
    assert all(f">{name}</text>" in panel for name in ("easy", "middle", "hard"))
    described = ElementTree.fromstring(panel).find("desc")
    assert described is not None
    assert "60 answered right" in (described.text or "")


def test_a_class_too_narrow_for_its_name_is_not_labelled() -> None:
    figure = draw_histogram([0.0, 2.0], [True, False], [1.0, 1.01],
                            ["easy", "middle", "hard"], "entropy")  # fmt: skip
    assert ">middle</text>" not in figure.panels[0]
    assert ">easy</text>" in figure.panels[0]


def test_operating_points_say_what_a_cut_catches() -> None:
    values, wrong = [0.1, 0.2, 0.3, 0.4], [False, True, False, True]
    area = {"value": 0.75, "low": 0.3, "high": 1.0}
    figure = draw_roc(values, wrong, [0.35, 9.0], "entropy", area)
    said = titles(figure.panels[0])
    assert "At or above 0.35: 50.0% of the mistakes, 0.0% of the right answers" in said
    assert "At or above 9: 0.0% of the mistakes, 0.0% of the right answers" in said
    assert figure.rows[0] == ("inf", "0.0%", "0.0%")


def test_an_estimate_that_falls_as_questions_get_harder_is_drawn_that_way() -> None:
    margins, wrong = [0.9, 0.8, 0.7, 0.6], [False, True, False, True]
    mirrored = {"value": 0.75, "low": 0.3, "high": 1.0}
    roc = draw_roc(margins, wrong, [0.65], "margin", mirrored, lower_is_harder=True)
    assert "At or below 0.65: 50.0% of the mistakes, 0.0% of the right answers" in titles(
        roc.panels[0]
    )
    assert roc.rows[:2] == (("-inf", "0.0%", "0.0%"), ("0.6", "0.0%", "50.0%"))
    shown = draw_histogram(margins, [not each for each in wrong], [0.75, 0.3],
                           ["easy", "middle", "hard"], "margin", lower_is_harder=True)  # fmt: skip
    places = [shown.panels[0].index(f">{name}</text>") for name in ("hard", "middle", "easy")]
    assert places == sorted(places)


def test_thinning_keeps_both_ends() -> None:
    points = roc_points([float(k) for k in range(5000)], [k % 3 == 0 for k in range(5000)])
    kept = thin(points)
    assert len(kept) <= 202
    assert (kept[0], kept[-1]) == (points[0], points[-1])


def test_accuracy_draws_one_panel_a_mode_and_skips_what_is_missing(sample: Any) -> None:
    accuracy = sample.summary["accuracy"]
    classes = ["easy", "middle", "hard"]
    figure = draw_accuracy(accuracy, classes)
    assert len(figure.panels) == 3
    assert len(figure.rows) == 3 * 2 * 4
    accuracy["tuned"], accuracy["base"]["rationale"] = None, None
    figure = draw_accuracy(accuracy, classes)
    assert [row[:2] for row in figure.rows] == [("answer", "base")] * 4 + [("routed", "base")] * 4


def test_whiskers_stand_where_the_interval_is(sample: Any) -> None:
    (panel, *_) = draw_accuracy(sample.summary["accuracy"], []).panels
    whisker = re.search(r'y1="([\d.]+)"[^>]*y2="([\d.]+)" class="whisker base"', panel)
    assert whisker is not None
    low = sample.summary["accuracy"]["base"]["answer"]["low"]
    # The area runs from 40 (all right) to 236 (none right).
    assert float(whisker[1]) == pytest.approx(236 - low * 196, abs=0.01)


def test_stages_that_count_from_their_own_start_run_on() -> None:
    rows = [
        {"stage": 1, "step": 1, "loss": 2.0},
        {"stage": 1, "step": 2, "loss": 1.0},
        {"stage": 2, "step": 1, "loss": 0.5},
        {"stage": 2, "step": 1, "validation_accuracy": 0.5},
        {"stage": 2, "step": 2, "loss": float("nan")},
    ]
    assert [point.x for point in run_on(rows, "loss")] == [1, 2, 3]
    going_on = [{**row, "step": place} for place, row in enumerate(rows[:3])]
    assert [point.x for point in run_on(going_on, "loss")] == [0, 1, 2]


def test_long_curves_are_averaged_within_their_stage() -> None:
    points = [CurvePoint("1", k, 1.0) for k in range(1000)] + [CurvePoint("2", 1000, 9.0)]
    merged = average_neighbours(points)
    assert len(merged) <= 201
    assert [point.value for point in merged] == [1.0] * (len(merged) - 1) + [9.0]


def test_curves_by_epoch_or_without_any_measure() -> None:
    assert draw_curves([]) is None
    assert draw_curves([{"stage": 1, "step": 3}]) is None
    figure = draw_curves([{"stage": "easy", "epoch": 1, "loss": 0.0}])
    assert figure is not None
    assert figure.columns[2] == "epochs"


def test_ledger_bars_share_one_scale(sample: Any) -> None:
    figure = draw_ledger(sample.summary["cost"])
    widths = [float(w) for w in re.findall(r'width="([\d.]+)"[^>]*class="bar"', figure.panels[0])]
    assert widths[4] == 400
    assert widths[3] == pytest.approx(400 * 49_000 / 98_412, abs=0.01)
    assert dict(figure.rows)["Teacher: tokens read"] == "15,416"
