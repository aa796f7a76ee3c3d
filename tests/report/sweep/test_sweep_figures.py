"""Marks of a sweep's figures stand where their numbers say."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import pytest
from drawn import read_marks, read_texts

from caft.report.charts.labels import _box, _overlap, place_labels
from caft.report.sweep.figures import (
    draw_cut_points,
    draw_pareto,
    name_briefly,
)

LENGTH = "length of the teacher's rationale, tokens"
LONG = "a_method_whose_name_is_rather_long"
WAYS = (("tokens", "teacher tokens"), ("usd", "USD"))


def share(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.04, "high": value + 0.04, "n": 300}


def arm(number: int, value: float, **parts: Any) -> Any:
    """As much of an arm of the sweep's summary as a figure reads."""
    return {"name": f"arm {number}", "accuracy": share(value), "method": "m",
            "strategy": "entropy", "settings": {}, **parts}  # fmt: skip


def priced(*arms: tuple[float, float, float]) -> list[Any]:
    return [
        arm(k, value, cost={"tokens": tokens, "usd": usd})
        for k, (value, tokens, usd) in enumerate(arms, start=1)
    ]


def test_who_is_pareto_optimal_is_filled_and_every_point_is_named() -> None:
    figure = draw_pareto(priced((0.5, 0, 1), (0.7, 100, 1), (0.6, 200, 1)), WAYS)
    assert figure is not None
    (panel,) = figure.panels  # USD does not differ and says nothing
    circles = [mark for mark in read_marks(panel) if mark.fill]
    assert [mark.fill for mark in circles] == ["var(--curve)", "var(--curve)", "var(--paper)"]
    # 0, 100 and 200 tokens in a plot of 322 pixels: never on its frame, and the name beside it.
    assert [mark.x for mark in circles] == pytest.approx([18, 161, 304])
    names = {text.text: text.x for text in read_texts(panel)}
    assert names == pytest.approx({"arm 1": 28, "arm 2": 171, "arm 3": 294})
    assert "Pareto-optimal, by rising cost: arm 1, arm 2." in panel
    assert figure.columns == ("setting", "accuracy", "teacher tokens")
    assert figure.rows[2] == ("arm 3", "60.0% (56.0 to 64.0)", "200")


def test_random_arms_are_diamonds() -> None:
    routed, control = priced((0.7, 150, 1), (0.6, 200, 1))
    figure = draw_pareto([routed, {**control, "strategy": "random_calls"}], WAYS)
    assert figure is not None
    # A circle begins with an arc, a diamond with a line. No arm at random, no word of it.
    shapes = re.findall(r'd="M[-\d.,]+([AL])[^"]*"[^>]*class="mark"', figure.panels[0])
    assert shapes == ["A", "L"]
    assert dict(figure.legend)["random"] == "random routing, a diamond, its interval shaded"
    alone = draw_pareto(priced((0.7, 150, 1), (0.6, 200, 1)), WAYS)
    assert alone is not None
    assert "random" not in dict(alone.legend)
    assert "mark-area" not in alone.panels[0]


def test_random_arms_of_one_method_are_a_band_through_their_budgets() -> None:
    def at_random(value: float, tokens: float, **settings: str) -> Any:
        (arm,) = priced((value, tokens, 1))
        return {**arm, "strategy": "random_tokens", "settings": settings}

    figure = draw_pareto(
        [*priced((0.7, 150, 1)), at_random(0.6, 200, **{"split.match": "tokens"}),
         at_random(0.5, 100, **{"split.match": "calls"}), at_random(0.5, 50, method="other")],
        WAYS,
    )  # fmt: skip
    assert figure is not None
    bands = re.findall(r'mark-area.*?<path d="([^"]*)"', figure.panels[0])
    corners = [
        {(round(float(x)), round(float(y))) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", band)}
        for band in bands
    ]
    # 0 to 200 tokens are 286 pixels from 18 on, and a band goes on for 8 tokens beside its budgets,
    # within the plot. 45 to 75% are 182 pixels up from 194: 46 and 54%, then 56 and 64%.
    assert corners == [
        {(150, 188), (150, 139), (161, 188), (161, 139), (304, 127), (304, 79)},
        {(78, 188), (78, 139), (90, 188), (90, 139), (101, 188), (101, 139)},
    ]


@pytest.mark.parametrize(
    ("names", "brief"),
    [
        (["m, entropy", "m, random, split.match=calls"], ["entropy", "random, match=calls"]),
        (["m, a", "m, b", "distill, a"], ["m, a", "m, b", "distill, a"]),
        ([f"{LONG}, a", f"{LONG}, b", "distill, a"], ["a", "b", "distill, a"]),
        ([f"{LONG}, a", f"{LONG}, b", "a"], [f"{LONG}, a", f"{LONG}, b", "a"]),
        (["sft"], ["sft"]),
        ([], []),
    ],
)
def test_names_in_a_plot_leave_out_what_most_share(names: list[str], brief: list[str]) -> None:
    assert name_briefly(names) == brief


def test_no_name_covers_another_one_or_a_point() -> None:
    points = [(50.0, 50.0), (52.0, 52.0), (54.0, 54.0), (51.0, 48.0), (300.0, 10.0)]
    names = ["the best of them", "the second one", "a third", "a fourth", "at the right end"]
    labels = place_labels(names, points, 320, 200)
    boxes = {each.text: _box(each) for each in labels}
    assert "the best of them" in boxes
    assert labels[-1].align == "right"  # to the left of its point, inside the plot
    for one, two in combinations(boxes.values(), 2):
        assert not _overlap(one, two)
    for x, y in points:
        assert not any(_overlap(box, (x - 5, y - 5, x + 5, y + 5)) for box in boxes.values())


def test_arms_that_cost_the_same_have_no_figure() -> None:
    assert draw_pareto(priced((0.5, 10, 1), (0.6, 10, 1)), WAYS) is None
    # Equal as budgets are: points on each other, of which one would be called dominated.
    assert draw_pareto(priced((0.5, 1000, 1), (0.6, 1019, 1)), WAYS) is None
    assert draw_pareto(priced((0.5, 1000, 1), (0.6, 1021, 1)), WAYS) is not None
    assert draw_pareto([], WAYS) is None


def test_budgets_that_are_nearly_equal_fill_the_plot() -> None:
    figure = draw_pareto(priced((0.5, 1000, 1), (0.6, 1100, 1)), WAYS)
    assert figure is not None
    # 980 tokens, a fifth of their distance before the first, to 1,100 are 286 pixels from 18 on.
    places = [mark.x for mark in read_marks(figure.panels[0]) if mark.fill]
    assert places == pytest.approx([18 + 286 / 6, 304], abs=0.01)


def cut(number: int, value: float, *cuts: float, estimator: str = "answer_entropy") -> Any:
    return arm(number, value, thresholds=list(cuts), estimator=estimator)


def test_cut_points_that_vary_have_a_panel_each() -> None:
    arms = [cut(1, 0.5, 0.4, 1.5), cut(2, 0.55, 0.8, 1.5), cut(3, 0.6, 0.6, 1.5)]
    figure = draw_cut_points(arms)
    assert figure is not None
    (panel,) = figure.panels
    assert "arm 2, cut at 0.8: 55.0% (51.0 to 59.0)" in panel
    assert figure.rows[0] == (
        "arm 1", "50.0% (46.0 to 54.0)", "answer entropy, nats", "0.4", "1.5"
    )  # fmt: skip
    assert draw_cut_points([cut(1, 0.5, 0.4), cut(2, 0.6, 0.4)]) is None
    assert draw_cut_points([]) is None


def test_nats_and_tokens_share_no_axis() -> None:
    arms = [
        cut(1, 0.5, 0.4, 1.5), cut(2, 0.55, 0.8, 1.5),
        cut(3, 0.6, 40, estimator="rationale_length"),
        cut(4, 0.6, 60, estimator="rationale_length"),
        cut(5, 0.6, 0.3, 0.4, estimator="top1_margin"),
    ]  # fmt: skip
    figure = draw_cut_points(arms)
    assert figure is not None
    in_nats, in_tokens = figure.panels
    assert [name in in_nats for name in ("arm 1,", "arm 2,", "arm 3,", "arm 4,")] == [
        True, True, False, False
    ]  # fmt: skip
    assert [name in in_tokens for name in ("arm 1,", "arm 2,", "arm 3,", "arm 4,")] == [
        False, False, True, True
    ]  # fmt: skip
    assert [read_texts(panel, "role-axis-title")[0].text for panel in (in_nats, in_tokens)] == [
        "cut point 1, answer entropy, nats", f"cut point 1, {LENGTH}"
    ]  # fmt: skip
    assert ("cuts-1" in in_nats, "cuts-1" in in_tokens) == (True, False)
    # One value alone is no curve.
    assert [row[0] for row in figure.rows] == ["arm 1", "arm 2", "arm 3", "arm 4"]
    assert figure.rows[2][2:] == (LENGTH, "40", "")
