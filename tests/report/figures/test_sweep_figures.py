"""Marks of a sweep's figures stand where their numbers say."""

from __future__ import annotations

from typing import Any

from caft.report.figures import CutArm, PricedArm, draw_cut_points, draw_pareto

WAYS = (("tokens", "teacher tokens"), ("usd", "USD"))


def share(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.04, "high": value + 0.04, "n": 300}


def priced(*arms: tuple[float, float, float]) -> list[PricedArm]:
    return [
        PricedArm(number=k, name=f"arm {k}", accuracy=share(value),
                  prices={"tokens": tokens, "usd": usd})
        for k, (value, tokens, usd) in enumerate(arms, start=1)
    ]  # fmt: skip


def test_who_is_on_the_front_is_filled_and_named() -> None:
    figure = draw_pareto(priced((0.5, 0, 1), (0.7, 100, 1), (0.6, 200, 1)), WAYS)
    assert figure is not None
    (panel,) = figure.panels  # USD does not differ and says nothing
    assert panel.count('class="arm front"') == 2
    assert panel.count('class="arm behind"') == 1
    assert "by rising price: arm 1, arm 2." in panel
    assert figure.columns == ("setting", "accuracy", "teacher tokens")
    assert figure.rows[2] == ("3. arm 3", "60.0% (56.0 to 64.0)", "200")


def test_arms_that_cost_the_same_have_no_figure() -> None:
    assert draw_pareto(priced((0.5, 10, 1), (0.6, 10, 1)), WAYS) is None


def cut(number: int, value: float, *cuts: float) -> CutArm:
    return CutArm(number=number, name=f"arm {number}", method="m", accuracy=share(value),
                  cuts=cuts)  # fmt: skip


def test_cut_points_that_vary_have_a_panel_each() -> None:
    arms = [cut(1, 0.5, 0.4, 1.5), cut(2, 0.55, 0.8, 1.5), cut(3, 0.6, 0.6, 1.5)]
    figure = draw_cut_points(arms, "nats")
    assert figure is not None
    (panel,) = figure.panels
    assert "arm 2, cut at 0.8: 55.0% (51.0 to 59.0)" in panel
    assert figure.rows[0] == ("1. arm 1", "50.0% (46.0 to 54.0)", "0.4", "1.5")
    assert draw_cut_points([cut(1, 0.5, 0.4), cut(2, 0.6, 0.4)], "nats") is None
    assert draw_cut_points([], "nats") is None
