"""What an endpoint's answer decides about waiting and money, at the borders and by hand."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from caft.errors import UserError
from caft.records import Rationale
from caft.score.config import JudgeConfig
from caft.teachers.config import OpenAITeacherConfig, PriceConfig
from caft.teachers.outcome import (
    Answered,
    Failed,
    Remedy,
    Usage,
    classify_status,
    read_batch_row,
    read_body,
    read_retry_after,
)
from caft.teachers.prices import (
    Caps,
    Spending,
    explain_cap,
    find_batch_factor,
    look_up_price,
    sends_batches,
    worst_usd,
)
from caft.teachers.refusals import advise, count_reasons, list_reasons, name_reason

NOW = 1_445_412_400.0
DATE = "Wed, 21 Oct 2015 07:28:00 GMT"  # 1 445 412 480 seconds since 1970


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": DATE}, 80.0),
        ({"retry-after": "Wed, 21 Oct 2015 07:00:00 GMT"}, 0.0),
        ({"retry-after": "later"}, None),
        ({}, None),
    ],
)
def test_the_seconds_that_a_server_asks_to_wait(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert read_retry_after(headers, NOW) == seconds


@pytest.mark.parametrize("name", ["code", "status_code", "status", "http_status", "type"])
@pytest.mark.parametrize(
    ("told", "status"),
    [(400, 400), (599, 599), (399, 502), (600, 502), ("429", 429), (" Forbidden ", 403)],
)
def test_the_status_that_an_error_in_a_body_names(name: str, told: object, status: int) -> None:
    failed = read_body(json.dumps({"error": {name: told}}).encode(), str, 0.0)
    assert isinstance(failed, Failed)
    assert failed.reason == f"HTTP {status}"


def test_a_used_up_quota_is_no_rate_limit_to_wait_for() -> None:
    body = {"error": {"code": "insufficient_quota", "message": "pay"}}
    failed = read_body(json.dumps(body).encode(), str, 0.0)
    assert isinstance(failed, Failed)
    assert (failed.reason, failed.remedy) == ("HTTP 402: no credit left: pay", Remedy.ask_user)
    # The word counts though the status says to wait.
    named = {"error": {"code": "insufficient_quota_today", "status": 429}}
    failed = read_body(json.dumps(named).encode(), str, 0.0)
    assert isinstance(failed, Failed)
    assert failed.remedy is Remedy.ask_user
    limited = classify_status(429, "insufficient_quota", "pay", {})
    assert limited.remedy is Remedy.ask_user


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (400, "", "Your credit balance is too low to access the API"),
        (403, "", "Key limit exceeded (total limit)"),
        (403, "", "Your team has used all available credits or reached its monthly spending limit"),
        (403, "30001", "Sorry, your account balance is insufficient"),
        (403, "insufficient_user_quota", ""),
        (400, "billing_hard_limit_reached", ""),
        (429, "billing_hard_limit_reached", ""),
        (429, "exceeded_current_quota_error", "Your account is suspended"),
        (429, "429 exceeded_current_quota_error", "Your account is suspended"),
    ],
)
def test_an_account_without_credit_ends_the_run_whatever_the_status(
    status: int, code: str, message: str
) -> None:
    failed = classify_status(status, code, message, {})
    assert failed.remedy is Remedy.ask_user
    assert failed.reason.startswith(f"HTTP {status}: no credit left")


@pytest.mark.parametrize(
    ("status", "message", "remedy"),
    [
        (400, "context length exceeded", Remedy.leave_out),
        (403, "your prompt was flagged", Remedy.leave_out),
        # Questions about money may stand in a refusal.
        (400, "Input was flagged: 'Tom's account balance is 5'", Remedy.leave_out),
        (400, "the value 'She had insufficient funds' is not valid", Remedy.leave_out),
        # Gemini says so of a limit of calls a minute, which passes.
        (429, "You exceeded your current quota, please check your plan", Remedy.wait),
        (429, "account balance", Remedy.wait),
        (400, "API key not valid. Please pass a valid API key.", Remedy.ask_user),
        (400, "API key expired. Please renew the API key.", Remedy.ask_user),
    ],
)
def test_what_a_refusal_says_of_one_request_or_of_the_key(
    status: int, message: str, remedy: Remedy
) -> None:
    failed = classify_status(status, "", message, {})
    assert failed.remedy is remedy
    assert ("the key was refused" in failed.reason) == ("API key" in message)


@pytest.mark.parametrize(
    ("status", "remedy", "charged", "busy"),
    [
        (404, Remedy.ask_user, False, False),
        (408, Remedy.wait, False, False),
        (429, Remedy.wait, False, True),
        (499, Remedy.leave_out, False, False),
        (500, Remedy.wait, False, False),
        (504, Remedy.wait, True, False),
        (524, Remedy.wait, True, False),
    ],
)
def test_what_a_status_means_for_the_call_and_its_money(
    status: int, remedy: Remedy, charged: bool, busy: bool
) -> None:
    failed = classify_status(status, "", "", {})
    assert (failed.remedy, failed.maybe_charged, failed.busy) == (remedy, charged, busy)


def test_a_call_that_just_fits_is_made_and_one_more_is_not() -> None:
    spent = Spending(calls=3, usd=1.0, unsure_usd=0.5, reserved_usd=0.25, in_flight=1)
    # 1 + 1/2 + 1/4 are gone of 2 USD.
    assert spent.fits(Caps(usd=2.0), 0.25)
    assert not spent.fits(Caps(usd=2.0), 0.2501)
    assert spent.fits(Caps(calls=4), math.inf)
    assert not spent.fits(Caps(calls=3), 0.0)
    # Tenths have no exact float: 3 x 0.1 is within 0.3.
    assert Spending(usd=0.1, reserved_usd=0.1).fits(Caps(usd=0.3), 0.1)


def endpoint(**dials: Any) -> OpenAITeacherConfig:
    given = {"name": "t", "base_url": "http://127.0.0.1/v1", "model": "m"} | dials
    return OpenAITeacherConfig(**given)


def test_a_server_that_asks_to_wait_is_obeyed_to_the_second_or_until_its_date() -> None:
    assert classify_status(429, "", "", {"retry-after": "7"}).retry_after == 7.0
    tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    wait = classify_status(503, "", "", {"retry-after": tomorrow}).retry_after
    assert wait is not None
    assert 80_000 < wait <= 86_400


def test_a_body_that_is_no_json_may_have_been_paid_for() -> None:
    assert read_body(b"<html> Oh  no", str.upper, 0.0) == Failed(
        reason="reply is not JSON", message="OH NO", maybe_charged=True
    )
    assert read_body(b'{"message": "Oh"}', str.upper, 0.0) == Failed(
        reason="reply is not a chat completion", message="OH", maybe_charged=True
    )


@pytest.mark.parametrize(
    ("told", "tokens", "usd"),
    [
        (7, 7, 7.0), (7.0, 7, 7.0), (0, 0, 0.0), (7.5, None, 7.5), (-1, None, None),
        (999_999, 999_999, 999_999.0), (10**6, 10**6, None), (10**9 - 1, 10**9 - 1, None),
        (10**9, None, None), (True, None, None), ("7", None, None),
    ],
)  # fmt: skip
def test_the_counts_and_costs_that_are_believed(
    told: object, tokens: int | None, usd: float | None
) -> None:
    usage = {"prompt_tokens": told, "completion_tokens": told, "cost": told}
    body = {"choices": [{"message": {"content": "a"}}], "usage": usage}
    read = read_body(json.dumps(body).encode(), str, 0.0)
    assert isinstance(read, Answered)
    assert (read.prompt_tokens, read.completion_tokens, read.usd) == (tokens, tokens, usd)


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({"response": {"status_code": 200, "body": {"choices": [{"text": "hi"}]}}},
         Answered(text="HI", finish_reason="")),
        ({"response": {"status_code": 429, "body": {"error": {"message": "slow"}}}},
         Failed(reason="HTTP 429", message="SLOW", busy=True)),
        ({"response": {"status_code": 400, "body": {"message": "no"}}},
         Failed(reason="HTTP 400: NO", remedy=Remedy.leave_out)),
        ({"response": {"status_code": 599, "body": None}}, Failed(reason="HTTP 599")),
        ({"response": {"status_code": 500, "body": {"usage": {"prompt_tokens": 7}}}},
         Failed(reason="HTTP 500", maybe_charged=True, usage=Usage(7, None, None))),
        ({"response": {"status_code": 403, "body": {"error": {"code": "insufficient_quota"}}}},
         Failed(reason="HTTP 403: no credit left", remedy=Remedy.ask_user)),
        # No status, or none that there is: what the error names counts.
        ({"response": {"status_code": 600}, "error": {"code": 404, "message": "gone"}},
         Failed(reason="HTTP 404: GONE", remedy=Remedy.ask_user)),
        ({"response": None, "error": {"code": "batch_expired", "message": "late"}},
         Failed(reason="BATCH_EXPIRED", message="LATE")),
        ({"error": {"message": "late"}}, Failed(reason="failed", message="LATE")),
        # Neither a response nor an error: it may have been executed.
        ({"response": {}}, Failed(reason="reply is not a chat completion", maybe_charged=True)),
    ],
)  # fmt: skip
def test_a_row_of_a_batch(row: dict[str, object], outcome: Answered | Failed) -> None:
    line = json.dumps(row | {"custom_id": "q7"}).encode()
    assert read_batch_row(line, str.upper) == ("q7", outcome)
    for nothing in (json.dumps(row).encode(), line[1:], b"[" * 100_000, b"7"):
        assert read_batch_row(nothing, str.upper) is None


def test_a_row_with_a_broken_byte_and_a_number_that_nobody_reads_is_a_reply() -> None:
    body = b'{"choices": [{"delta": {"content": "a\xff", "reasoning": "Hm."}}]}'
    line = b'\xef\xbb\xbf{"custom_id": "q7", "n": %s, "response": {"status_code": 200, "body": %s}}'
    told = read_batch_row(line % (b"9" * 5000, body), str)
    assert told == ("q7", Answered(text="a\ufffd", finish_reason="", reasoning="Hm."))


FREE, DEAR = PriceConfig(), PriceConfig(prompt=2.0, completion=8.0)
FAR, OPENAI = "https://far.example/v1", "https://api.openai.com/v1"


@pytest.mark.parametrize(
    ("dials", "price"),
    [
        ({"base_url": FAR}, None),
        ({}, FREE),
        ({"base_url": FAR, "prices": {"m": DEAR, "n": FREE}}, DEAR),
        ({"prices": {"m": DEAR}, "usd_per_million_completion_tokens": 1.0},
         PriceConfig(prompt=2.0, completion=1.0)),
        ({"base_url": FAR, "usd_per_million_completion_tokens": 1.0}, None),
        # Behind a proxy on loopback a model may be paid for: half a price is none.
        ({"usd_per_million_prompt_tokens": 0.5}, None),
        ({"usd_per_million_completion_tokens": 0.5, "budget_usd": 1.0}, None),
        # A budget has something to count where either kind of token costs, be it below a dollar.
        ({"usd_per_million_prompt_tokens": 0.5, "usd_per_million_completion_tokens": 0,
          "budget_usd": 1.0}, PriceConfig(prompt=0.5)),
        ({"usd_per_million_prompt_tokens": 0, "usd_per_million_completion_tokens": 0.5,
          "budget_usd": 1.0}, PriceConfig(completion=0.5)),
        ({"prices": {"m": PriceConfig(prompt=0.5, completion=0.5)}, "budget_usd": 1.0},
         PriceConfig(prompt=0.5, completion=0.5)),
        ({"batch": True, "base_url": OPENAI, "prices": {"m": PriceConfig(prompt=1, completion=1)}},
         PriceConfig(prompt=0.5, completion=0.5)),
        # A batch costs the setting's part, else what the provider documents; nothing is nothing.
        ({"batch": True}, FREE),
        ({"batch": True, "base_url": OPENAI, "prices": {"m": DEAR}},
         PriceConfig(prompt=1.0, completion=4.0)),
        ({"batch": True, "prices": {"m": DEAR}, "batch_price_factor": 0.25},
         PriceConfig(prompt=0.5, completion=2.0)),
        ({"batch_price_factor": 0.25, "prices": {"m": DEAR}}, DEAR),
    ],
)  # fmt: skip
def test_the_price_of_a_call(dials: dict[str, Any], price: PriceConfig | None) -> None:
    assert look_up_price(endpoint(**dials)) == price


def test_the_highest_cost_counts_every_turn_and_a_judge_has_no_batches() -> None:
    turn = {"role": "user", "content": ""}
    turns = len('[{"role": "user", "content": ""}, {"role": "user", "content": ""}]') + 2 * 32
    assert worst_usd(PriceConfig(prompt=1e6, completion=1e6), [turn, turn], 5) == turns + 5
    assert find_batch_factor(JudgeConfig(base_url=OPENAI, model="m")) is None
    assert not sends_batches(JudgeConfig(base_url=OPENAI, model="m"))


def test_a_batch_whose_price_nobody_knows_is_not_bought() -> None:
    for price in (PriceConfig(prompt=0.5), PriceConfig(completion=0.5)):
        unknown = endpoint(batch=True, base_url=FAR, prices={"m": price})
        with pytest.raises(UserError, match=r"what a batch costs at far\.example is not known"):
            look_up_price(unknown)


def test_a_reached_cap_says_by_how_much_to_raise_it() -> None:
    spent = Spending(calls=7, usd=1.0, unsure_usd=0.25)
    told = explain_cap(endpoint(max_calls=7), spent, [0.5, 0.75])
    assert told == (
        "teacher.max_calls is 7 and 7 calls were made; 2 more replies would cost about 0.2857 USD, "
        "at most 1.2500: set teacher.max_calls=9 or more, and run again"
    )
    one = explain_cap(endpoint(max_calls=1), Spending(calls=1), [0.5])
    assert one.startswith("teacher.max_calls is 1 and 1 call was made; 1 more reply would cost ")
    told = explain_cap(endpoint(budget_usd=1.5), spent, [0.5, 0.75])
    assert told == (
        "teacher.budget_usd is 1.5 and 1.2500 USD are spent, 0.2500 of it for calls without a "
        "response, so a call of up to 0.7500 USD does not fit; 2 more replies would cost about "
        "0.2857 USD, at most 1.2500: set teacher.budget_usd=2.50 or more, and run again"
    )
    spent = Spending(usd=1.0, reserved_usd=0.25)
    told = explain_cap(endpoint(budget_usd=1.5), spent, [0.5])
    assert "1.0000 USD are spent and up to 0.2500 are for calls under way, so a call" in told
    assert "set teacher.budget_usd=1.75 or more" in told
    told = explain_cap(endpoint(budget_usd=1.0), Spending(usd=1.0), [0.5])
    assert "1.0000 USD are spent, so a call" in told


@pytest.mark.parametrize(
    ("worst", "enough"),
    [(0.1, "0.10"), (0.1001, "0.11"), (0.0999, "0.099900"), (1.23e-5, "0.000013")],
)
def test_a_budget_that_is_named_is_enough_and_not_much_more(worst: float, enough: str) -> None:
    told = explain_cap(endpoint(budget_usd=1e-9), Spending(), [worst])
    assert f"set teacher.budget_usd={enough} or more" in told


def refused(kind: str, finish: str = "stop") -> Rationale:
    return Rationale(
        question_id="q", text="", answer=None, agrees=False, refusal=kind, finish_reason=finish
    )


def test_refusals_are_counted_by_their_reasons_and_each_has_advice() -> None:
    rows = [
        refused("wrong: 7"), refused("not_finished: SAFETY", "SAFETY"), refused("wrong: 8"),
        refused(""),
    ]  # fmt: skip
    assert [name_reason(row) for row in rows] == ["wrong", "not_finished: SAFETY", "wrong", ""]
    counts = count_reasons(rows)
    assert list(counts.items()) == [("wrong", 2), ("not_finished: SAFETY", 1)]
    assert list_reasons(counts) == "2 wrong, 1 not_finished: SAFETY"
    assert advise("wrong").startswith("teacher.attempts=2")
    assert advise("not_finished: SAFETY").startswith("a filter or the model declines")
    assert advise("not_finished: tool_calls").startswith("the model calls a tool")
    assert advise("not_finished: weird").startswith("where that is how this server says")
    assert advise("of_another_kind").startswith("read one in rationales.parquet; teacher.keep")
