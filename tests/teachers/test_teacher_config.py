"""Endpoints, keys, prices and sampling that are refused before anything is sent."""

from dataclasses import fields, replace

import pytest

from caft.errors import UserError
from caft.score.config import JudgeConfig
from caft.teachers.address import is_loopback, same_place
from caft.teachers.api_key import ApiKey, check_address, read_key
from caft.teachers.client import Endpoint
from caft.teachers.config import MaxTokensField, OpenAITeacherConfig, PriceConfig
from caft.teachers.outcome import classify_status, read_retry_after
from caft.teachers.prices import check_paid, cost_usd, find_price, worst_usd
from caft.teachers.progress import AskProgress
from caft.teachers.replies import Request, prepare
from caft.teachers.secrets import refuse_secret_variables
from caft.teachers.served import ModelServer

FAR = "https://api.example.com/v1"


def make(**dials):
    return OpenAITeacherConfig(**({"name": "t", "base_url": FAR, "model": "m"} | dials))


@pytest.mark.parametrize(("dials", "words"), [
    ({"base_url": None}, "teacher.base_url is not set"),
    ({"model": None}, "teacher.model is not set"),
    ({"base_url": "api.example.com"}, "must start with http"),
    ({"base_url": "ftp://api.example.com"}, "must start with http"),
    ({"base_url": "http://:8000/v1"}, "must start with http"),
    ({"base_url": "http://api.example.com:99999/v1"}, "port that is not a number from 1 to 65535"),
    ({"base_url": "http://api.example.com:0/v1"}, "port that is not a number"),
    ({"base_url": "http://api.example.com:80a/v1"}, "port that is not a number"),
    ({"base_url": "http://[::1/v1"}, "names no host that could exist"),
    ({"base_url": "http://a..b/v1"}, "names no host that could exist"),
    ({"base_url": "http://api example.com/v1"}, "holds a space"),
    ({"base_url": "http://api.example.com/v1\n"}, "holds a space"),
    ({}, "OPENAI_API_KEY is empty"),
])  # fmt: skip
def test_endpoints_that_cannot_be_asked(monkeypatch, dials, words):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UserError, match=words):
        check_paid(make(**dials), pays=True)
    if dials:
        with pytest.raises(UserError, match=words):
            check_paid(make(**dials), pays=False)


BOTH = "teacher.usd_per_million_prompt_tokens and teacher.usd_per_million_completion_tokens"


@pytest.mark.parametrize(("dials", "start", "end"), [
    (
        {"base_url": None, "model": None},
        "teacher.base_url and teacher.model are not set; give the endpoint's address, such as ",
        f", and the model's name at the endpoint, and {BOTH}, unless it is on this machine",
    ),
    ({"model": None}, "teacher.model is not set; give the model's name ", f"endpoint, and {BOTH}"),
    (
        {"base_url": None, "usd_per_million_prompt_tokens": 1.0},
        "teacher.base_url is not set; ",
        "/v1, and teacher.usd_per_million_completion_tokens, unless it is on this machine",
    ),
    ({"model": None, "base_url": "http://localhost:1/v1"}, "teacher.model is", "at the endpoint"),
    (
        {"base_url": None, "prices": {"m": {"prompt": 1, "completion": 1}}},
        "teacher.base_url is not set; ",
        "http://127.0.0.1:8000/v1",
    ),
])  # fmt: skip
def test_all_that_an_endpoint_lacks_is_named_at_once(dials, start, end):
    with pytest.raises(UserError) as refused:
        check_paid(make(**dials), pays=False)
    assert str(refused.value).startswith(start)
    assert str(refused.value).endswith(end)


def test_a_judges_dials_are_named_where_they_stand():
    with pytest.raises(UserError, match=r"^score\.judge\.base_url is not set"):
        check_address(JudgeConfig(model="m"))
    with pytest.raises(UserError, match=r"give score\.judge\.usd_per_million_prompt_tokens and"):
        find_price(JudgeConfig(base_url=FAR, model="m"))
    with pytest.raises(UserError, match=r"^score\.judge\.concurrency is 0"):
        JudgeConfig(concurrency=0)


def test_a_judge_has_no_dial_that_does_nothing_for_it():
    dials = {field.name for field in fields(JudgeConfig)}
    assert not dials & {"attempts", "keep", "reask_temperature", "probe_replies", "kind"}
    assert dials < {field.name for field in fields(OpenAITeacherConfig)}


@pytest.mark.parametrize(("dials", "words"), [
    ({"base_url": "https://me:hunter2@api.example.com"}, "holds a user"),
    ({"base_url": "https://hunter2@api.example.com"}, "holds a user"),
    ({"base_url": "https://api.example.com/v1?key=hunter2"}, "holds a user"),
    ({"api_key_env": "sk-hunter2"}, "give the NAME"), ({"api_key_env": "hf_hunter2"}, "the NAME"),
    ({"base_url": "https://api.example.com/v1?sig=hunter2"}, "holds a user"),
    ({"base_url": "https://api.example.com/v1?api-version=1&code=hunter2"}, "holds a user"),
    ({"base_url": "https://api.example.com/v1/sk-hunter2hunter2"}, "base_url holds a key"),
    ({"base_url": "https://api.example.com/v1?v=sk-hunter2hunter2"}, "base_url holds a key"),
    ({"model": "sk-proj-hunter2hunter2"}, "model holds a key"),
    ({"model": "hf_hunter2hunter2hunter2"}, "model holds a key"),
    ({"extra": {"user": "Bearer hunter2hunter2"}}, "extra.user holds a key"),
    *(({"extra": {"a": {name: "hunter2"}}}, f"extra sets {name}") for name in (
        "token", "X-Auth", "x_auth", "Authentication", "auth", "apiKey", "APIKEY", "api-key",
        "key", "x-api-key", "access_token", "accessToken", "authToken", "Ocp-Subscription-Key",
        "credentials", "Cookie", "X-Amz-Signature", "passwd", "client_secret", "bearer_token",
    )),
    ({"extra": {"api_key": "hunter2"}}, "extra sets api_key"),
    ({"extra": {"more": [{"Authorization": "Bearer hunter2"}]}}, "extra sets Authorization"),
])  # fmt: skip
def test_secrets_in_a_config_are_refused_without_being_repeated(dials, words):
    with pytest.raises(UserError, match=words) as caught:
        make(**dials)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("name", [
    "max_tokens", "max_completion_tokens", "min_tokens", "stop_token_ids", "eos_token", "bos_token",
    "skip_special_tokens", "prompt_cache_key", "tokenizer", "author", "keyboard", "monkey",
    "safety_identifier", "authority", "session_id", "signal", "passage", "add_bos_token",
])  # fmt: skip
def test_names_that_only_resemble_a_secrets_are_let_through(name):
    assert prepare(Request((("user", "q"),)), make(extra={name: 7})).body[name] == 7


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("limit", [None, 8000.0, "8000", True, 0, -1, [8000]])
def test_a_limit_that_no_cap_could_count_is_not_sent(name, limit):
    with pytest.raises(UserError, match=rf"^teacher\.extra\.{name} is .* a whole number from 1;"):
        make(extra={name: limit})
    with pytest.raises(UserError, match=rf"^score\.judge\.extra\.{name} is "):
        JudgeConfig(extra={name: limit})
    assert make(extra={name: 8000}).extra == {name: 8000}


@pytest.mark.parametrize("dials", [
    {"model": "{}"}, {"base_url": "https://api.example.com/{}/v1"}, {"name": "my {}"},
    {"base_url": "https://api.example.com/v1?api-version={}"}, {"extra": {"user": "{}"}},
    {"extra": {"metadata": ["{}x"]}}, {"extra": {"{}": 1}},
])  # fmt: skip
@pytest.mark.parametrize("variable", ["OPENAI_API_KEY", "SOME_TOKEN", "DB_PASSWORD", "MY_LLM"])
def test_values_that_the_environment_keeps_secret_are_refused_whatever_their_name(
    monkeypatch, dials, variable
):
    secret = "correct-horse-7"
    monkeypatch.setenv(variable, f" {secret}\n")

    def fill(value):
        if isinstance(value, dict):
            return {fill(key): fill(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [fill(inner) for inner in value]
        return value.replace("{}", secret) if isinstance(value, str) else value

    words = f"holds what the environment variable {variable} holds"
    with pytest.raises(UserError, match=words) as caught:
        make(**fill(dials), api_key_env="MY_LLM")
    assert secret not in str(caught.value)


def test_what_only_resembles_a_key_is_let_through():
    for dials in (
        {"model": "/data/sk-learn-models/one"}, {"model": "org/rk-chat-large"},
        {"base_url": "https://sk-2-translator.example.com/v1"}, {"model": "deepseek/deepseek-chat"},
    ):  # fmt: skip
        make(**dials)


@pytest.mark.parametrize(("variable", "value"), [
    ("DB_PASSWORD", "postgres"), ("SSH_AUTH_SOCK", "/tmp/agent.sock1"), ("MONKEY", "banana12345"),
    ("SOME_KEY", "m"), ("PWD", "/home/m/project1"),
])  # fmt: skip
def test_what_is_no_secret_refuses_nothing(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert make(model=f"m {value}").model == f"m {value}"


@pytest.mark.parametrize(("value", "words"), [
    ("garbage garbage", "holds a space"), ("http://", "name a host"),
    ("http://proxy:99999", "has a port"), ("http://[::1", "names no host"),
    ("foo://proxy:1", "is none of http, https, socks5"), ("http://a..b:1", "names no host"),
])  # fmt: skip
def test_garbage_in_proxy_variables_is_named_before_anything_is_sent(monkeypatch, value, words):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something")
    for variable in ("HTTP_PROXY", "https_proxy", "ALL_PROXY"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with pytest.raises(UserError, match=f"variable {variable} .*{words}") as caught:
                check_address(make())
            assert value not in str(caught.value) or len(value) < 8
            check_address(make(base_url="http://127.0.0.1:1/v1"))  # no proxy is asked for that
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.com:3128")
    monkeypatch.setenv("ALL_PROXY", "http://me:hunter2@proxy:3128/")
    check_address(make())


def test_whatever_else_the_client_cannot_be_set_up_with_ends_in_one_line(monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere.pem")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-something")
    for connect in (lambda: Endpoint(make(), ApiKey("sk-something")), lambda: ModelServer(make())):
        with pytest.raises(UserError, match=r"can be set up .*SSL_CERT_FILE"):
            connect()


@pytest.mark.parametrize(("left", "right"), [
    ("https://API.example.com/v1/", "https://api.example.com/v1"),
    ("https://a.com/v1?api-version=1", "https://a.com/v1?api-version=2"),
])  # fmt: skip
def test_one_place_in_two_spellings(left, right):
    assert same_place(left) == same_place(right)
    assert same_place(left) != same_place(right.replace(".com", ".com:8443"))


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
    half = find_price(make(prices=table, usd_per_million_prompt_tokens=5))
    assert half == PriceConfig(prompt=5, completion=2)
    half = find_price(make(prices=table, usd_per_million_completion_tokens=5))
    assert half == PriceConfig(prompt=1, completion=5)
    with pytest.raises(UserError, match=r"give teacher\.usd_per_million_completion_tokens \(0 wh"):
        find_price(make(base_url="http://localhost", usd_per_million_prompt_tokens=5))
    assert find_price(make(base_url="http://localhost")) == PriceConfig()
    with pytest.raises(UserError, match=r"no price is known for m at https://api\.example"):
        find_price(make(prices={"other": PriceConfig()}))
    with pytest.raises(UserError, match=r"give teacher\.usd_per_million_completion_tokens \(0 wh"):
        find_price(make(usd_per_million_prompt_tokens=5))
    with pytest.raises(UserError, match=r"give teacher\.usd_per_million_prompt_tokens \(0 where"):
        find_price(make(usd_per_million_completion_tokens=5))
    with pytest.raises(UserError, match=r"budget_usd is 5 but m has the price 0"):
        find_price(make(base_url="http://localhost", budget_usd=5))


def test_costs_by_hand():
    price = PriceConfig(prompt=2.0, completion=8.0)
    assert cost_usd(price, 1_000_000, 500_000) == 6.0
    turns = [{"role": "user", "content": "héllo"}]
    # 39 characters of ASCII JSON around it and 6 bytes of text, 32 for the turn, 100 tokens out
    worst = worst_usd(price, turns, 100)
    assert worst == pytest.approx((len('[{"role": "user", "content": ""}]') + 6 + 32) * 2e-6 + 8e-4)


@pytest.mark.parametrize("dials", [
    {"attempts": 2, "reask_temperature": 0.0}, {"attempts": 0}, {"concurrency": 0},
    {"max_tokens": 0}, {"temperature": -1.0}, {"timeout_seconds": 0.0}, {"retries": -1},
    {"requests_per_minute": 0.0}, {"top_p": 0.0}, {"top_p": 1.5}, {"budget_usd": -1.0},
    {"max_calls": -1}, {"extra": {"stream": True}}, {"usd_per_million_prompt_tokens": -1.0},
    {"backoff_seconds": -1.0}, {"grace_seconds": -1.0},
    {"probe_replies": -1},
])  # fmt: skip
def test_dials_that_make_no_sense(dials):
    with pytest.raises(UserError, match=r"teacher\.\w+"):
        make(**dials)


def test_the_body_says_what_the_config_says():
    config = make(temperature=None, seed=None, top_p=0.9, extra={"provider": {"order": ["a"]}},
                  max_tokens_field=MaxTokensField.max_completion_tokens)  # fmt: skip
    assert prepare(Request((("user", "hi"),)), config).body == {
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
    some_failed = replace(moment, failed=10, note="")
    assert some_failed.line() == (
        "50/100 replies, 10 without one, 20 from the ledger, 3.0/s, 0.5000 USD, 10 s left"
    )


@pytest.mark.parametrize("base_url", ["ftp://api.example.com", "http://h:99999/v1", "", "h"])
def test_an_address_that_nobody_has_is_refused_while_the_config_is_made(base_url):
    """Later means behind everything heavy, whose import takes seconds."""
    with pytest.raises(UserError, match=r"^teacher\.base_url "):
        make(base_url=base_url)


@pytest.mark.parametrize("word", [
    "+hydra.job.env_set.OPENAI_API_KEY=hunter2", "++hydra.job.env_set.HF_TOKEN=hunter2",
    "+hydra.job.env_set={A: 1, 'DB_PASSWORD': hunter2}",
])  # fmt: skip
def test_variables_of_a_job_hold_no_secret(word):
    with pytest.raises(UserError, match=r"env_set sets \w+, and what .* written down") as caught:
        refuse_secret_variables(["model=tiny", word])
    assert "hunter2" not in str(caught.value)
    refuse_secret_variables(["+hydra.job.env_set.OMP_NUM_THREADS=1", "teacher.api_key_env=A_KEY"])
