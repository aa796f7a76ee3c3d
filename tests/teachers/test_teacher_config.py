"""Endpoints, keys, prices and sampling that are refused before anything is sent."""

import pytest

from caft.errors import UserError
from caft.score.config import JudgeConfig
from caft.teachers.api_key import ApiKey, check_endpoint, is_loopback, read_key
from caft.teachers.client import classify_status, read_retry_after
from caft.teachers.config import MaxTokensField, OpenAITeacherConfig, PriceConfig
from caft.teachers.prices import cost_usd, find_price, worst_usd
from caft.teachers.progress import AskProgress
from caft.teachers.replies import Request, write_body

FAR = "https://api.example.com/v1"


def make(**dials):
    return OpenAITeacherConfig(**({"name": "t", "base_url": FAR, "model": "m"} | dials))


@pytest.mark.parametrize(("dials", "words"), [
    ({"base_url": None}, "teacher.base_url is not set"),
    ({"model": None}, "teacher.model is not set"),
    ({"base_url": "api.example.com"}, "must start with http"),
    ({"base_url": "ftp://api.example.com"}, "must start with http"),
    ({}, "OPENAI_API_KEY is empty"),
])  # fmt: skip
def test_endpoints_that_cannot_be_asked(monkeypatch, dials, words):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=words):
        check_endpoint(make(**dials))


def test_a_judges_dials_are_named_where_they_stand():
    with pytest.raises(UserError, match=r"^score\.judge\.base_url is not set"):
        check_endpoint(JudgeConfig(model="m"))
    with pytest.raises(UserError, match=r"give score\.judge\.usd_per_million_prompt_tokens and"):
        find_price(JudgeConfig(base_url=FAR, model="m"))
    with pytest.raises(UserError, match=r"^score\.judge\.concurrency is 0"):
        JudgeConfig(concurrency=0)


@pytest.mark.parametrize(("dials", "words"), [
    ({"base_url": "https://me:hunter2@api.example.com"}, "holds a user"),
    ({"base_url": "https://hunter2@api.example.com"}, "holds a user"),
    ({"base_url": "https://api.example.com/v1?key=hunter2"}, "holds a user"),
    ({"api_key_env": "sk-hunter2"}, "give the NAME"), ({"api_key_env": "hf_hunter2"}, "the NAME"),
    ({"extra": {"api_key": "hunter2"}}, "extra sets api_key"),
    ({"extra": {"more": [{"Authorization": "Bearer hunter2"}]}}, "extra sets Authorization"),
])  # fmt: skip
def test_secrets_in_a_config_are_refused_without_being_repeated(dials, words):
    with pytest.raises(UserError, match=words) as caught:
        make(**dials)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("url", "here"), [
    ("http://127.0.0.1:8000/v1", True), ("http://127.9.9.9/", True), ("http://[::1]:1/v1", True),
    ("http://localhost:8000", True), ("http://LOCALHOST", True),
    ("http://192.168.0.7/v1", False), ("https://localhost.example.com", False), ("", False),
])  # fmt: skip
def test_which_addresses_are_this_machine(url, here):
    assert is_loopback(url) is here


@pytest.mark.parametrize("word", ["k\x00ey-abc", "two words", "schlüssel", "abc"])
def test_words_that_are_no_keys_are_refused_without_being_shown(word):
    with pytest.raises(UserError) as caught:
        read_key(make(), {"OPENAI_API_KEY": word})
    assert word not in str(caught.value)


def test_a_key_does_not_show_itself():
    key = read_key(make(), {"OPENAI_API_KEY": " sk-secret\n"})
    assert key.reveal() == "sk-secret"
    assert "secret" not in f"{key!r} {key} {[key]}"
    assert key.scrub("sk-secret!") == "[key]!"
    assert ApiKey("abcd").scrub("x") == "x"


def test_prices_in_order_of_precedence():
    table = {"m": PriceConfig(prompt=1, completion=2)}
    assert find_price(make(prices=table)) == PriceConfig(prompt=1, completion=2)
    assert find_price(make(prices=table, usd_per_million_prompt_tokens=5)) == PriceConfig(prompt=5)
    assert find_price(make(base_url="http://localhost")) == PriceConfig()
    with pytest.raises(UserError, match=r"no price is known for m at https://api\.example"):
        find_price(make(prices={"other": PriceConfig()}))
    with pytest.raises(UserError, match=r"budget_usd is 5 but m has the price 0"):
        find_price(make(base_url="http://localhost", budget_usd=5))


def test_costs_by_hand():
    price = PriceConfig(prompt=2.0, completion=8.0)
    assert cost_usd(price, 1_000_000, 500_000) == 6.0
    body = {"messages": [{"role": "user", "content": "héllo"}]}
    # 39 characters of ASCII JSON around it and 6 bytes of text, 32 for the turn, 100 tokens out
    worst = worst_usd(price, body, 100)
    assert worst == pytest.approx((len('[{"role": "user", "content": ""}]') + 6 + 32) * 2e-6 + 8e-4)


@pytest.mark.parametrize("dials", [
    {"attempts": 2, "reask_temperature": 0.0}, {"attempts": 0}, {"concurrency": 0},
    {"max_tokens": 0}, {"temperature": -1.0}, {"timeout_seconds": 0.0}, {"retries": -1},
    {"requests_per_minute": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"budget_usd": -1.0},
    {"max_calls": -1}, {"extra": {"stream": True}}, {"usd_per_million_prompt_tokens": -1.0},
    {"circuit_failures": 0}, {"backoff_seconds": -1.0},
])  # fmt: skip
def test_dials_that_make_no_sense(dials):
    with pytest.raises(UserError, match=r"teacher\.\w+"):
        make(**dials)


def test_the_body_says_what_the_config_says():
    config = make(temperature=None, seed=None, top_p=0.9, extra={"provider": {"order": ["a"]}},
                  max_tokens_field=MaxTokensField.max_completion_tokens)  # fmt: skip
    assert write_body(Request((("user", "hi"),)), config) == {
        "model": "m", "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 2048, "top_p": 0.9, "provider": {"order": ["a"]},
    }  # fmt: skip


@pytest.mark.parametrize(("headers", "seconds"), [
    ({"retry-after": "7"}, 7.0), ({"retry-after": "0.5"}, 0.5), ({"retry-after-ms": "250"}, 0.25),
    ({"retry-after": "-3"}, 0.0), ({"retry-after": "inf"}, None), ({"retry-after": "soon"}, None),
    ({}, None), ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60.0),
])  # fmt: skip
def test_retry_after_in_all_its_forms(headers, seconds):
    assert read_retry_after(headers, now=40.0) == seconds


def test_a_used_up_quota_is_no_rate_limit():
    failed = classify_status(429, "insufficient_quota", "pay\nfirst", {})
    assert failed.reason == "HTTP 429: no credit left: pay first"


def test_progress_in_one_line():
    moment = AskProgress(done=60, total=100, from_ledger=20, usd=0.5, seconds=10.0, note="waiting")
    assert moment.line() == (
        "60/100 replies, 20 from the ledger, 4.0/s, 0.5000 USD, 10 s left (waiting)"
    )
