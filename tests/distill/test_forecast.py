"""Costs worked out by hand."""

import pytest

from caft.distill.forecast import Asked, CostForecast, Range, forecast_cost
from caft.teachers.config import PriceConfig

PRICE = PriceConfig(prompt=1.0, completion=10.0)
DIALS = {"price": PRICE, "max_tokens": 1000}


def ask(*sizes):
    """New questions, each of which may be asked three times."""
    return [Asked(each, 1, 3) for each in sizes]


def test_without_history_four_bytes_make_a_token():
    forecast = forecast_cost(ask(600, 1800), **DIALS)
    assert (forecast.questions, forecast.from_ledger) == (2, 0)
    assert forecast.calls == Range(2, 2, 6)
    assert forecast.prompt_tokens == Range(2 * 240, 2 * 300, 6 * 400)
    assert forecast.completion_tokens == Range(2 * 731 / 4, 2 * 731, 6 * 1000)
    assert forecast.usd.likely == pytest.approx(600e-6 + 1462e-5)
    assert forecast.usd.high == pytest.approx(2400e-6 + 6000e-5)
    assert forecast.line() == (
        "2 questions, 0 replies in the ledger; about 2 (2 to 6) calls, about 600 (480 to 2,400) "
        "tokens in, about 1,462 (366 to 6,000) tokens out, about 0.0152 (0.0041 to 0.0624) USD"
    )


def test_replies_of_the_same_model_are_the_better_guess():
    seen = [(100, 50, tokens) for tokens in range(100, 121)]  # half a token a byte
    forecast = forecast_cost(ask(200), **DIALS, seen=seen)
    assert forecast.prompt_tokens == Range(100, 100, 300)
    assert forecast.completion_tokens == Range(102, 110, 3 * 118)


def test_a_few_replies_are_no_history():
    few = [(400, 1, 1)] * 19
    assert forecast_cost(ask(400), **DIALS, seen=few).prompt_tokens.likely == 100


def test_what_may_be_asked_again_is_in_the_high_end_alone():
    once, again = forecast_cost(ask(600), **DIALS), Asked(1200, 0, 2)
    both = forecast_cost([*ask(600), again], **DIALS)
    assert both.calls == Range(1, 1, 5)
    assert both.usd[:2] == once.usd[:2]
    assert both.prompt_tokens.high == (3 * 600 + 2 * 1200) / 3
    assert both.completion_tokens.high == 5 * 1000


def test_nothing_missing_costs_nothing():
    assert forecast_cost([], **DIALS).usd == Range(0, 0, 0)
    assert CostForecast(questions=9, asked=False).line() == "9 questions"
    written = CostForecast(questions=1, asked=False, note="written here")
    assert written.line() == "1 question; written here"
    assert CostForecast(questions=9).calls == Range(0, 0, 0)
