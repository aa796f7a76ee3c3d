"""Figures are read back: the marks must say what the numbers say."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any
from xml.etree import ElementTree

import pytest
from drawn import Drawn, read_marks, read_texts

from caft.report.figures import (
    draw_accuracy,
    draw_calibration,
    draw_curves,
    draw_histogram,
    draw_roc,
    draw_token_costs,
)
from caft.report.figures.curves import CurvePoint, average_neighbours, run_on
from caft.report.figures.estimates import count_bins, thin
from caft.report.sweep.figures import draw_pareto
from caft.statistics import roc_points


def titles(panel: str) -> list[str]:
    return [mark.text for mark in read_marks(panel)]


def named(panel: str, text: str) -> Drawn:
    (found,) = [mark for mark in [*read_marks(panel), *read_texts(panel)] if mark.text == text]
    return found


def test_every_row_is_in_one_bin_and_the_largest_in_the_last() -> None:
    bins = count_bins([0.0, 0.5, 1.0, 2.0], [True, False, False, True], bins=4)
    assert [(b["right"], b["wrong"]) for b in bins] == [(1, 0), (0, 1), (0, 1), (1, 0)]
    assert (bins[0]["low"], bins[-1]["high"]) == (0.0, 2.0)


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
    easy, middle, hard = (named(panel, name).x for name in ("easy", "middle", "hard"))
    assert easy < named(panel, "cut point 0.5").x < middle < named(panel, "cut point 1.5").x < hard
    described = ElementTree.fromstring(panel).find("desc")
    assert described is not None
    assert "60 correct" in (described.text or "")
    # A strip over the range of each class, from cut to cut.
    strip = named(panel, "hard: 1.5 to 1.98")
    assert strip.x == pytest.approx(named(panel, "cut point 1.5").x, abs=1.5)
    assert strip.x + strip.dx == pytest.approx(330, abs=1.5)


def test_bars_are_as_high_as_their_counts_and_stand_on_the_line() -> None:
    values, correct = [0.01, 0.01, 0.01, 1.0, 1.0, 2.4], [True, True, False, True, False, False]
    (panel,) = draw_histogram(values, correct, [], [], "entropy").panels
    bars = [(mark.fill, mark.y, mark.dy) for mark in read_marks(panel)]
    up, down = ("var(--right)", "var(--wrong)")
    # 2 right and 1 wrong at most share the 186 pixels of the plot: the line is at 124.
    assert [fill for fill, _, _ in bars] == [up, down, up, down, down]
    assert [place for _, *place in bars] == [
        pytest.approx(place) for place in ([0, 124], [124, 62], [62, 62], [124, 62], [124, 62])
    ]


@pytest.mark.parametrize("cuts", [[1.0, 1.01], [1.98, 1.99], [0.01, 0.02], [0.1, 1.9], [2, 2]])
@pytest.mark.parametrize("falls", [False, True])
def test_every_class_has_its_name_however_narrow_it_is(cuts: list[float], falls: bool) -> None:
    names = ["easy", "middle", "hard"]
    cuts = cuts[::-1] if falls else cuts
    figure = draw_histogram([0.0, 2.0], [True, False], cuts, names, "entropy",
                            lower_is_harder=falls)  # fmt: skip
    shown = read_texts(figure.panels[0])
    assert sorted(text.text for text in shown) == sorted(names)
    width = {text.text: 7.1 * len(text.text) for text in shown}
    assert all(width[t.text] / 2 <= t.x <= 330 - width[t.text] / 2 for t in shown)
    for one, other in combinations(shown, 2):
        apart = (width[one.text] + width[other.text]) / 2
        assert one.y != other.y or abs(one.x - other.x) >= apart


def test_operating_points_say_what_a_cut_catches() -> None:
    values, wrong = [0.1, 0.2, 0.3, 0.4], [False, True, False, True]
    area = {"value": 0.75, "low": 0.3, "high": 1.0}
    figure = draw_roc(values, wrong, [0.35, 9.0], "entropy", area)
    shown = titles(figure.panels[0])
    point = named(
        figure.panels[0], "At or above 0.35: true positive rate 50.0%, false positive rate 0.0%"
    )
    # 0 and half of the way between the plot's paddings
    assert (point.x, point.y) == pytest.approx((6, 126))
    assert "At or above 9: true positive rate 0.0%, false positive rate 0.0%" in shown
    assert figure.rows[0] == ("inf", "0.0%", "0.0%")


def test_an_estimate_that_falls_as_questions_get_harder_is_drawn_that_way() -> None:
    margins, wrong = [0.9, 0.8, 0.7, 0.6], [False, True, False, True]
    mirrored = {"value": 0.75, "low": 0.3, "high": 1.0}
    roc = draw_roc(margins, wrong, [0.65], "margin", mirrored, lower_is_harder=True)
    assert "At or below 0.65: true positive rate 50.0%, false positive rate 0.0%" in titles(
        roc.panels[0]
    )
    assert roc.rows[:2] == (("-inf", "0.0%", "0.0%"), ("0.6", "0.0%", "50.0%"))
    shown = draw_histogram(margins, [not each for each in wrong], [0.75, 0.3],
                           ["easy", "middle", "hard"], "margin", lower_is_harder=True)  # fmt: skip
    places = [named(shown.panels[0], name).x for name in ("hard", "middle", "easy")]
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


def scale_of(panel: str) -> tuple[float, float]:
    """Where 0% and 100% stand; a label's baseline lies 4 pixels below its place."""
    at = {text.text: text.y - 4 for text in read_texts(panel, "role-axis-label")}
    return at["0%"], at["100%"]


def test_whiskers_stand_where_the_interval_is(sample: Any) -> None:
    (panel, *_) = draw_accuracy(sample.summary["accuracy"], []).panels
    nothing, everything = scale_of(panel)
    share = sample.summary["accuracy"]["base"]["answer"]
    place = [nothing + share[key] * (everything - nothing) for key in ("value", "low", "high")]
    chance, whisker, _, dot, other = read_marks(panel)
    level = nothing + sample.summary["accuracy"]["chance"] * (everything - nothing)
    assert (chance.text, chance.y) == ("chance 10.0%", pytest.approx(level, abs=0.01))
    assert [dot.y, whisker.y, whisker.y + whisker.dy] == pytest.approx(place, abs=0.01)
    assert (dot.x, dot.fill, other.fill) == (whisker.x, "var(--base)", "var(--tuned)")
    # Not told apart by colour alone: a circle, and a square.
    assert (dot.dx, other.dx) == (0, pytest.approx(9.5, abs=0.1))


def test_steps_are_placed_in_epochs_that_run_on_over_the_stages() -> None:
    rows = [
        *({"stage": 1, "epoch": epoch, "step": step, "loss": 1.0 / step}
          for step, epoch in ((1, 1), (2, 1), (3, 2), (4, 2))),
        {"stage": 1, "epoch": 2, "step": 4, "validation_accuracy": 0.5},
        {"stage": 2, "epoch": 1, "step": 1, "loss": 0.5},
        {"stage": 2, "epoch": 2, "step": 2, "loss": float("nan")},
        {"stage": 3, "epoch": 1, "step": 1, "loss": 0.5},
    ]  # fmt: skip
    # Stage 2 has two epochs, of which the second has no finite loss.
    assert [point.x for point in run_on(rows, "loss")] == [0.5, 1, 1.5, 2, 3, 5]
    assert [point.x for point in run_on(rows, "validation_accuracy")] == [2]


def test_long_curves_are_averaged_within_their_stage() -> None:
    points = [CurvePoint("1", k, 1.0) for k in range(1000)] + [CurvePoint("2", 1000, 9.0)]
    merged = average_neighbours(points)
    assert len(merged) <= 201
    assert [point.value for point in merged] == [1.0] * (len(merged) - 1) + [9.0]


def test_the_table_of_the_curves_has_a_row_an_epoch() -> None:
    assert draw_curves([]) is None
    assert draw_curves([{"stage": 1, "epoch": 1, "step": 3}]) is None
    rows = [{"stage": 1, "epoch": 1, "step": step, "loss": loss}
            for step, loss in ((1, 2.0), (2, 1.0))]  # fmt: skip
    measured = {"stage": 1, "epoch": 1, "step": 2, "validation_accuracy": 0.25}
    figure = draw_curves([*rows, measured, {"stage": 2, "epoch": 1, "loss": 0.0}])
    assert figure is not None
    assert figure.columns[1] == "epoch"
    assert figure.rows == (("1", "1", "1.5000", "25.0%"), ("2", "1", "0.0000", ""))


def widths_of(panel: str) -> list[float]:
    return [mark.dx for mark in read_marks(panel) if mark.fill == "var(--curve)"]


def test_token_bars_share_one_scale(sample: Any) -> None:
    figure = draw_token_costs(sample.summary["cost"])
    widths = widths_of(figure.panels[0])
    assert widths[4] == 400
    assert widths[3] == pytest.approx(400 * 49_000 / 98_412, abs=0.01)
    assert dict(figure.rows)["Teacher: tokens read"] == "15,416"


def test_a_few_tokens_among_millions_are_seen_and_none_are_not(sample: Any) -> None:
    cost = {**sample.summary["cost"], "trained_total_tokens": 10**7, "teacher_prompt_tokens": 3,
            "teacher_completion_tokens": 0}  # fmt: skip
    few, none, *_ = widths_of(draw_token_costs(cost).panels[0])
    assert (few, none) == (pytest.approx(1.6), 0)
    assert "nan" not in draw_token_costs(dict.fromkeys(cost, 0)).panels[0].lower()


def test_stages_that_are_short_have_their_names_in_two_rows() -> None:
    rows = [{"stage": k, "epoch": e, "loss": 1.0} for k, e in ((1, 1), (2, 1), (2, 500))]
    figure = draw_curves(rows)
    assert figure is not None
    names = read_texts(figure.panels[0])
    assert [name.text for name in names] == ["stage 1", "stage 2"]
    assert abs(names[0].y - names[1].y) > 12


def test_a_curve_breaks_between_its_stages_and_each_is_named() -> None:
    rows = [{"stage": name, "epoch": epoch, "loss": 1.0 / epoch}
            for name, epochs in (("1", (1, 2, 3)), ("2", (4, 5))) for epoch in epochs]  # fmt: skip
    figure = draw_curves(rows)
    assert figure is not None
    (panel,) = figure.panels
    assert titles(panel)[1:4:2] == [
        "stage 1, epoch 2: 0.5000 nats per token",
        "stage 2, epoch 4: 0.2500 nats per token",
    ]
    places = [mark.x for mark in read_marks(panel)]
    assert named(panel, "stage 1").x < places[0] < places[2] < named(panel, "stage 2").x < places[3]
    curves = [node.get("d", "") for node in ElementTree.fromstring(panel).iter("path")
              if node.get("stroke") == "var(--curve)"]  # fmt: skip
    assert [curve.count("L") for curve in curves] == [2, 1]


def off_the_frame(marks: Sequence[Drawn], width: float, height: float, room: float) -> bool:
    return all(room <= mark.x <= width - room and room <= mark.y <= height - room for mark in marks)


def test_points_do_not_sit_on_the_frame(sample: Any) -> None:
    points = [{"stage": 1, "epoch": epoch, "validation_accuracy": epoch - 1} for epoch in (1, 2)]
    figure = draw_curves(points)
    assert figure is not None
    assert off_the_frame(read_marks(figure.panels[0]), 330, 186, room=5)
    ends = draw_calibration([0.0, 1.0], [False, True])
    dots = [mark for mark in read_marks(ends.panels[0]) if mark.fill]
    assert len(dots) == 2
    assert off_the_frame(dots, 270, 252, room=6)
    arms: Any = [
        {
            "name": "",
            "accuracy": {"value": k, "low": k, "high": k},
            "cost": {"usd": k},
            "strategy": "entropy",
        }
        for k in (0, 1)
    ]
    pareto = draw_pareto(arms, [("usd", "USD")])
    assert pareto is not None
    circles = [mark for mark in read_marks(pareto.panels[0]) if mark.fill]
    assert len(circles) == 2
    assert off_the_frame(circles, 322, 206, room=10)
