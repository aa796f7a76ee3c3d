"""Asking an endpoint that fails in every way: nothing lost, nothing bought twice."""

import json
import os
import re
import socket
import sqlite3
import ssl
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from fake_server import FAULTS, FakeServer

from caft.errors import UserError
from caft.teachers import rate_limit
from caft.teachers.ask import ask_all
from caft.teachers.client import explain_connection
from caft.teachers.config import MaxTokensField, OpenAITeacherConfig, Unanswered
from caft.teachers.ledger import Ledger
from caft.teachers.prices import Caps
from caft.teachers.replies import LedgerEntry, Request, TeacherReply, prepare


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(rate_limit, "PAUSE_SECONDS", 0.05)


def make_config(server, **dials):
    defaults = {
        "name": "fake", "base_url": server.base_url, "model": "fake",
        "api_key_env": "CAFT_TEST_KEY", "timeout_seconds": 60.0, "concurrency": 16,
        "backoff_seconds": 0.01, "max_tokens": 100,
    }  # fmt: skip
    return OpenAITeacherConfig(**(defaults | dials))


def ask_for(count, attempt=0):
    return [Request((("system", "Think."), ("user", f"q{n}")), attempt) for n in range(count)]


def rows(ledger_path, columns="key"):
    with sqlite3.connect(ledger_path) as db:
        return db.execute(f"SELECT {columns} FROM replies").fetchall()


# Faults


@pytest.mark.slow
def test_a_thousand_questions_at_thirty_percent_faults(server, tmp_path):
    server.seed, server.fault_rate, server.slow_rate = 7, 0.3, 0.05
    server.faults = (*FAULTS, *[fault for fault in FAULTS if fault != "hang"] * 4)
    # Long beside a busy machine's pauses: a reply that comes after its timeout is bought again.
    config = make_config(server, concurrency=64, timeout_seconds=15.0, retries=12)
    seen = []
    replies = ask_all(ask_for(1000), config, tmp_path / "ledger.sqlite", seen.append)

    assert [reply.text for reply in replies] == [
        f"I read 'q{n}' and think. [[A]]" for n in range(1000)
    ]
    bought = server.bought()
    assert len(bought) == 1000
    assert set(bought.values()) == {1}
    assert len(rows(tmp_path / "ledger.sqlite")) == 1000
    faults = {call.fault for call in server.log}
    assert faults == {"", "slow", "429", "500", "503", "hang", "drop", "half", "malformed"}
    assert len(server.log) > 1300
    assert seen[-1].done == seen[-1].total == 1000
    assert seen[-1].calls == len(server.log)

    calls = len(server.log)
    again = ask_all(ask_for(1000), config, tmp_path / "ledger.sqlite")
    assert len(server.log) == calls
    assert all(reply.from_ledger for reply in again)


def test_a_question_that_always_fails_stops_the_run_and_keeps_the_rest(server, tmp_path):
    server.write = lambda call: 1 / 0 if call.question == "q3" else "[[A]]"
    config = make_config(server, retries=2)
    with pytest.raises(UserError, match=r"no reply to 1 request .*\(1x connection dropped\)"):
        ask_all(ask_for(9), config, tmp_path / "l")
    assert len(rows(tmp_path / "l")) == 8
    dropped = ask_all(
        ask_for(9), make_config(server, retries=2, unanswered=Unanswered.drop), tmp_path / "l"
    )
    assert [bool(reply.failure) for reply in dropped] == [n == 3 for n in range(9)]
    assert len(server.bought()) == 8


def test_a_slow_disk_at_the_end_makes_no_ask_forgotten(server, tmp_path, monkeypatch):
    claim = Ledger.claim

    def claim_slowly(ledger, wanted, caps):
        time.sleep(0.1 if len(wanted) < 2 else 0)
        return claim(ledger, wanted, caps)

    monkeypatch.setattr(Ledger, "claim", claim_slowly)
    server.latency = 0.01
    for count in range(21, 31):
        config = make_config(server, concurrency=8, model=f"m{count}")
        assert all(reply.text for reply in ask_all(ask_for(count), config, tmp_path / "l"))


def test_identical_requests_are_bought_once(server, tmp_path):
    replies = ask_all(ask_for(1) * 5, make_config(server), tmp_path / "l")
    assert len({reply.key for reply in replies}) == 1
    assert len(server.log) == 1


def test_another_attempt_seed_and_setting_is_another_reply(server, tmp_path):
    config = make_config(server, attempts=2)
    ask_all(ask_for(1), config, tmp_path / "l")
    ask_all(ask_for(1, attempt=1), config, tmp_path / "l")
    ask_all(ask_for(1), make_config(server, temperature=0.5), tmp_path / "l")
    ask_all(ask_for(1), make_config(server, model="other"), tmp_path / "l")
    sent = [
        (c.body["seed"], c.body["temperature"], c.body["max_tokens"], c.body["model"])
        for c in server.log
    ]
    assert sent == [
        (0, 0.0, 100, "fake"),
        (1, 0.7, 100, "fake"),
        (0, 0.5, 100, "fake"),
        (0, 0.0, 100, "other"),
    ]


def test_a_request_that_the_endpoint_refuses_is_left_out(server, tmp_path):
    ask_all(ask_for(3), make_config(server), tmp_path / "l")
    server.status, server.message = 400, "context length exceeded"
    replies = ask_all(ask_for(5), make_config(server, concurrency=1), tmp_path / "l")
    assert [reply.failure for reply in replies] == ["", "", ""] + [
        "HTTP 400: context length exceeded"
    ] * 2


def test_an_endpoint_that_refuses_everything_stops_the_run_even_with_nothing_left_to_ask(
    server, tmp_path
):
    server.status, server.together = 400, 12  # all are under way before the first refusal
    with pytest.raises(UserError, match=r"10 calls in a row failed .* 0 of 12 replies are kept"):
        ask_all(ask_for(12), make_config(server), tmp_path / "l")
    assert len(server.log) == 12


def test_questions_that_are_refused_for_good_stop_no_later_run(server, tmp_path):
    ask_all(ask_for(84), make_config(server), tmp_path / "l")
    server.status, server.message = 400, "content filter"
    for _ in range(2):  # the second run asks for nothing but what was refused
        replies = ask_all(ask_for(96), make_config(server), tmp_path / "l")
        refused = [reply.failure for reply in replies if reply.failure]
        assert refused == ["HTTP 400: content filter"] * 12


@pytest.mark.parametrize(("status", "refusal"), [
    (403, {"message": "Key limit exceeded (total limit)", "code": 403}),
    (429, {"message": "suspended", "code": None, "type": "exceeded_current_quota_error"}),
])  # fmt: skip
def test_an_account_that_runs_out_of_credit_loses_no_reply_and_leaves_no_question_out(
    server, tmp_path, status, refusal
):
    ask_all(ask_for(3), make_config(server), tmp_path / "l")
    server.status, server.refusal = status, json.dumps({"error": refusal}).encode()
    with pytest.raises(UserError, match=r"no credit left.* 3 of 20 replies are kept, 17 are"):
        ask_all(ask_for(20), make_config(server, concurrency=1), tmp_path / "l")
    server.status = None
    assert not any(r.failure for r in ask_all(ask_for(20), make_config(server), tmp_path / "l"))


@pytest.mark.parametrize(("status", "calls", "words"), [
    (401, 1, "key was refused"),
    (402, 1, "no credit left: refused"),
    (404, 1, "HTTP 404: refused"),
    (400, 10, "10 calls in a row failed"),
])  # fmt: skip
def test_what_waiting_cannot_fix_stops_the_run_at_once(server, tmp_path, status, calls, words):
    server.status = status
    with pytest.raises(UserError, match=words):
        ask_all(ask_for(50), make_config(server, concurrency=1), tmp_path / "l")
    assert len(server.log) == calls


def test_calls_pause_with_a_reason_and_asking_gives_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_limit, "MOST_PAUSES", 3)
    server.status, notes = 503, []
    config = make_config(server, concurrency=4)
    with pytest.raises(UserError, match=r"\d+ calls in a row failed \(\d+x HTTP 503\)"):
        ask_all(ask_for(50), config, tmp_path / "l", lambda moment: notes.append(moment.note))
    # ten failures and what was in flight with the last of them, then one call a pause
    assert len(server.log) <= 10 + 3 + 2


@pytest.mark.timeout(15)
def test_a_server_is_tried_again_though_the_one_that_was_to_try_lost_its_claim(
    server, tmp_path, monkeypatch
):
    probes = []

    def go(throttle, now):
        wait = let_go(throttle, now)
        probes.extend([1] * (throttle._probing and not wait))
        return wait

    def hold(ledger, key):
        server.status = None if len(probes) == 1 else server.status
        return len(probes) != 1 and held(ledger, key)  # another client has taken it meanwhile

    let_go, held = rate_limit.Throttle.pause, Ledger.hold
    monkeypatch.setattr(rate_limit.Throttle, "pause", go)
    monkeypatch.setattr(Ledger, "may_have_lapsed", lambda ledger: True)
    monkeypatch.setattr(Ledger, "hold", hold)
    server.status = 503
    config = make_config(server, concurrency=1, retries=50)
    replies = ask_all(ask_for(12), config, tmp_path / "l")
    assert not any(reply.failure for reply in replies)
    assert len(probes) > 1


@pytest.mark.timeout(60)
def test_an_address_where_nobody_listens_is_not_waited_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_limit, "PAUSE_SECONDS", 600.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
        config = make_config(server, base_url=url)
        with pytest.raises(UserError, match=r"calls in a row failed \(\d+x cannot connect\)"):
            ask_all(ask_for(30), config, tmp_path / "l")


@contextmanager
def talking(reply):
    """The port of a server on loopback that says the same to whoever connects."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk():
            with suppress(OSError):
                while True:
                    caller, _ = listening.accept()
                    with caller:
                        caller.recv(4096)
                        caller.sendall(reply)

        threading.Thread(target=talk, daemon=True).start()
        yield listening.getsockname()[1]


@pytest.mark.timeout(60)
def test_a_connection_that_fails_says_why_and_charges_nothing(server, tmp_path, monkeypatch):
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 1.0}
    monkeypatch.setenv("CAFT_TEST_KEY", "a-key-0123456789")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)

    def why(name, url):
        config = make_config(server, base_url=url, **prices)
        with pytest.raises(UserError) as caught:
            ask_all(ask_for(30), config, tmp_path / name)
        with Ledger(tmp_path / name, "fake") as ledger:
            assert ledger.spending().unsure_usd == 0
        return str(caught.value)

    with talking(b"HTTP/1.1 400 No\r\n\r\n") as port:
        assert "cannot connect (TLS fails" in why("tls", f"https://127.0.0.1:{port}/v1")
    with talking(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        told = why("proxy", "https://teacher.invalid/v1")
        assert "cannot connect (the proxy says: 407 Proxy Authentication Required)" in told


def test_names_and_certificates_are_told_apart():
    unknown = OSError("all attempts failed")
    unknown.__cause__ = socket.gaierror(-2, "whatever libc says")
    assert explain_connection(unknown) == "its host name is unknown"
    refused = ssl.SSLCertVerificationError()
    refused.verify_message = "self-signed certificate"
    assert explain_connection(refused) == "its certificate is refused: self-signed certificate"
    assert not explain_connection(ConnectionRefusedError())


def test_a_pause_ends_when_the_endpoint_is_back(server, tmp_path, monkeypatch):
    monkeypatch.setattr(rate_limit, "PAUSE_SECONDS", 0.5)
    server.faults, server.fault_rate, server.retry_after = ("503",), 1.0, None

    def repair(moment):
        if moment.note:
            server.fault_rate = 0.0

    config = make_config(server, retries=20)
    replies = ask_all(ask_for(20), config, tmp_path / "l", repair)
    assert all(reply.text for reply in replies)


def test_a_server_that_asks_for_hours_is_left_for_the_next_run(server, tmp_path):
    server.status, server.retry_after = 429, "7200"
    with pytest.raises(UserError, match="asks to wait 7200 s"):
        ask_all(ask_for(3), make_config(server, concurrency=1), tmp_path / "l")


def test_no_call_comes_back_before_its_retry_after(server, tmp_path):
    server.retry_after = "0.3"
    server._draw = lambda question: "" if len(server.log) > 1 else "429"
    ask_all(ask_for(1), make_config(server), tmp_path / "l")
    first, second, third = (call.at for call in server.log)
    assert second - first >= 0.3
    assert third - second >= 0.3


def test_requests_and_tokens_a_minute_are_never_exceeded(server, tmp_path):
    started = time.monotonic()
    ask_all(ask_for(6), make_config(server, requests_per_minute=1200), tmp_path / "l")
    assert all(call.at - started >= 0.05 * n for n, call in enumerate(server.log))
    # A quarter of what a reply may take is booked with the prompt, and set right afterwards.
    started, server.log = time.monotonic(), []
    config = make_config(server, tokens_per_minute=30_000, model="other", concurrency=2)
    ask_all(ask_for(6), config, tmp_path / "l")
    tokens = 25 + 10  # the prompt's letters over four, and the reply
    assert server.log[-1].at - started >= 4 * tokens * 60 / 30_000


def test_concurrency_is_the_most_at_once(server, tmp_path):
    server.together = 5
    ask_all(ask_for(40), make_config(server, concurrency=5), tmp_path / "l")
    assert server.most_at_once == 5


@pytest.mark.parametrize("raw", [
    b"[" * 100_000, b"{}", b"null", b'{"choices": []}',
    b'{"choices": [{"message": {"content": 5}}]}',
    b'{"choices": [{}]}', b'{"error": {"message": "upstream", "code": 502}}', b"\xff\xfe", b"",
])  # fmt: skip
def test_bodies_that_are_no_completion_end_in_one_line(server, tmp_path, raw):
    server.raw = raw
    with pytest.raises(UserError, match="gave no reply to"):
        ask_all(ask_for(1), make_config(server, retries=1), tmp_path / "l")
    assert len(server.log) == 2


@pytest.mark.parametrize(("text", "kept"), [("\ud800x", "\ufffdx"), ("a\x00b", "a\x00b")])
def test_text_that_nothing_could_store_does_no_harm(server, tmp_path, text, kept):
    server.write = lambda call: text
    assert ask_all(ask_for(1), make_config(server), tmp_path / "l")[0].text == kept


def test_a_body_without_end_is_not_read_to_its_end(server, tmp_path):
    server.write = lambda call: "x" * 5_000_000
    (reply,) = ask_all(ask_for(1), make_config(server), tmp_path / "l")
    assert (reply.text, reply.finish_reason, reply.completion_tokens) == ("", "too_large", 100)


# A server's verdicts and words


def test_a_filters_verdict_is_final_and_books_nothing_as_unsure(server, tmp_path):
    server.raw = b'{"choices": [{"message": null, "finish_reason": "content_filter"}]}'
    for _ in range(2):
        (reply,) = ask_all(ask_for(1), make_config(server, **PRICED), tmp_path / "l")
        assert (reply.text, reply.finish_reason) == ("", "content_filter")
    assert len(server.log) == 1
    with Ledger(tmp_path / "l", "fake") as ledger:
        assert (ledger.spending().calls, ledger.spending().unsure_usd) == (1, 0.0)


def test_an_error_inside_a_choice_is_asked_again(server, tmp_path):
    healthy = server._completion
    broken = {"choices": [{"finish_reason": "error", "error": {"code": 502}, "message": {}}]}
    server._completion = lambda call: broken if len(server.log) < 3 else healthy(call)
    assert ask_all(ask_for(1), make_config(server), tmp_path / "l")[0].text
    assert len(server.log) == 3


def test_one_broken_verdict_takes_no_other_question_with_it(server, tmp_path):
    healthy = server._completion
    null = {"choices": [{"message": None}], "usage": "free"}
    server._completion = lambda call: null if call.question == "q3" else healthy(call)
    with pytest.raises(UserError, match=r"no reply to 1 request .*not a chat completion\)"):
        ask_all(ask_for(25), make_config(server, retries=1), tmp_path / "l")
    assert len(rows(tmp_path / "l")) == 24


@pytest.mark.parametrize(("status", "body", "words"), [
    (503, b'{"error": "model is loading"}', r"1x HTTP 503\); the server says: model is loading;"),
    (500, b"<html><title>500 Oops</title>", r"1x HTTP 500\); the server says: 500 Oops;"),
    (429, b"slow \x1b[31mdown", r"1x HTTP 429\); the server says: slow down;"),
    (502, b'{"why": "x"}', r'the server says: {"why": "x"};'),
    (401, b'{"detail": "expired"}', "key was refused; the server says: expired;"),
    (404, b"no such model\n", "HTTP 404: no such model;"),
])  # fmt: skip
def test_the_servers_own_words_reach_the_user(server, tmp_path, status, body, words):
    server.status, server.refusal = status, body
    with pytest.raises(UserError, match=words):
        ask_all(ask_for(1), make_config(server, retries=0), tmp_path / "l")


@pytest.mark.parametrize(("raw", "words"), [
    (b'{"error": "queue is full"}', "HTTP 502.; the server says: queue is full"),
    (b"ok", "reply is not JSON.; the server says: ok"),
])  # fmt: skip
def test_so_do_those_that_come_with_status_200(server, tmp_path, raw, words):
    server.raw = raw
    with pytest.raises(UserError, match=words):
        ask_all(ask_for(1), make_config(server, retries=0), tmp_path / "l")


def test_words_on_a_question_that_is_left_out_are_its_failure(server, tmp_path):
    ask_all(ask_for(1), make_config(server), tmp_path / "l")
    server.status = 422
    server.refusal = b'{"detail": [{"loc": ["body", "seed"], "msg": "no integer"}]}'
    seen = []
    config = make_config(server, concurrency=1)
    replies = ask_all(ask_for(3), config, tmp_path / "l", seen.append)
    assert [reply.failure for reply in replies[1:]] == ["HTTP 422: body.seed: no integer"] * 2
    # Refusals are no replies.
    assert seen[-1].line().startswith("1/3 replies, 2 without one, 1 from the ledger")


def test_a_query_in_the_address_goes_with_every_call(server, tmp_path, monkeypatch):
    monkeypatch.setenv("CAFT_TEST_KEY", KEY)
    azure = make_config(server, base_url=f"{server.base_url}/x/?api-version=2024-06-01")
    ask_all(ask_for(2), azure, tmp_path / "l")
    assert {c.target for c in server.log} == {"/v1/x/chat/completions?api-version=2024-06-01"}
    assert {c.headers["api-key"] for c in server.log} == {KEY}
    # A newer version of the interface is the same place, and its replies are bought already.
    azure.base_url = f"{server.base_url}/x?api-version=2025-01-01"
    ask_all(ask_for(2), azure, tmp_path / "l")
    assert len(server.log) == 2


# Whose reply it is


def test_a_mock_servers_replies_serve_no_other_server(server, tmp_path):
    with FakeServer(write=lambda call: "mocked") as mock:
        ask_all(ask_for(3), make_config(mock), tmp_path / "l")
    replies = ask_all(ask_for(3), make_config(server), tmp_path / "l")
    assert [reply.text for reply in replies] == [
        f"I read 'q{n}' and think. [[A]]" for n in range(3)
    ]
    same = make_config(server, base_url=f"HTTP://127.0.0.1:{server.port}/v1/")
    assert ask_all(ask_for(3), same, tmp_path / "l") == [
        replace(reply, from_ledger=True) for reply in replies
    ]
    assert len(server.log) == 3


def open_old_ledger(folder):
    """As the version wrote it that did not look at who was asked."""
    with sqlite3.connect(folder / "l") as db:
        db.executescript((Path(__file__).parent / "ledger_version_1.sql").read_text())
    return folder / "l"


@pytest.mark.parametrize(("model", "url", "count"), [
    ("paid", "https://api.example.com/v1", 3),
    ("paid", "https://API.example.com/v1/", 3),
    # Paid for: wherever its maker moved to.
    ("paid", "https://elsewhere.example.com/v1", 3),
    ("mock", "http://127.0.0.1:8000/v1", 2),
    # For nothing, and for nothing.
    ("mock", "http://127.0.0.1:9/v1", 2),
])  # fmt: skip
def test_replies_of_an_old_ledger_are_found(tmp_path, monkeypatch, model, url, count):
    monkeypatch.setenv("CAFT_TEST_KEY", KEY)
    config = OpenAITeacherConfig(
        name="t", base_url=url, model=model, max_tokens=100, api_key_env="CAFT_TEST_KEY",
        usd_per_million_prompt_tokens=0.0, usd_per_million_completion_tokens=0.0, max_calls=0,
    )  # fmt: skip
    replies = ask_all(ask_for(count), config, open_old_ledger(tmp_path))
    assert [reply.text for reply in replies] == [
        f"I read 'q{n}' and think. [[A]]" for n in range(count)
    ]


def test_an_old_ledger_gets_its_column_when_it_is_written_to_and_not_before(server, tmp_path):
    path = open_old_ledger(tmp_path)
    before = path.read_bytes()
    keys = ["033ab4d2ddf8e0ffb47d5415a88450ea2063b671565486db043dd606caf8e003"]
    with Ledger(path, "paid", reads_only=True) as ledger:
        (old,) = ledger.replies(keys).values()
    assert (old.usd, old.reasoning) == (4e-05, None)
    assert path.read_bytes() == before

    server.think = lambda call: {"reasoning_content": f"Hm, {call.question}."}
    (new,) = ask_all(ask_for(1), make_config(server), path)
    assert new.reasoning == "Hm, q0."
    with Ledger(path, "paid") as ledger, Ledger(path, "paid"):
        assert ledger.replies(keys)[old.key] == old
        assert ledger.replies([new.key])[new.key].reasoning == "Hm, q0."
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (4,)
        assert db.execute("SELECT COUNT(*), COUNT(reasoning) FROM replies").fetchone() == (7, 1)


@pytest.mark.parametrize(("text", "fields", "reasoning"), [
    ("So. [[A]]", {"reasoning": "Hm."}, "Hm."),
    ("<think>Hm.</think>So. [[A]]", {}, "Hm."),
    ("So. [[A]]", {}, None),
])  # fmt: skip
def test_reasoning_is_in_the_ledger_and_is_paid_for_wherever_it_stands(
    server, tmp_path, text, fields, reasoning
):
    server.write, server.think, server.usage = lambda call: text, lambda call: fields, None
    config = make_config(server, **PRICED)
    (bought,) = ask_all(ask_for(1), config, tmp_path / "l")
    (found,) = ask_all(ask_for(1), config, tmp_path / "l")
    assert found == replace(bought, from_ledger=True)
    assert (found.text, found.reasoning) == (text, reasoning)
    # What the server did not count is estimated from all that the model wrote.
    written = len(text) + sum(map(len, fields.values()))
    assert found.completion_tokens == written // 4 + 1
    assert len(server.log) == 1


def test_of_an_old_ledger_no_mock_serves_a_paid_run_and_no_fault_is_a_reply(server, tmp_path):
    ledger = open_old_ledger(tmp_path)
    server.write = lambda call: "again"
    for model in ("mock", "broken"):
        config = make_config(server, model=model, **PRICED)
        assert ask_all(ask_for(1), config, ledger)[0].text == "again"
        assert ask_all(ask_for(1), config, ledger)[0].text == "again"
    assert len(server.log) == 2


def test_a_claim_that_was_lost_in_sleep_is_waited_for(server, tmp_path, monkeypatch):
    give_up, taken = Ledger.give_up, []

    def lose_and_give_up(ledger, key, *rest):
        if not taken:  # another process frees it, and asks for a while
            taken.append(key)
            theirs = {"owner": "other", "machine": "other", "expires": time.time() + 0.3}
            ledger.database.transact(lambda: ledger.claims.change(
                claim._replace(**theirs) for claim in ledger.claims.read()
            ))  # fmt: skip
        give_up(ledger, key, *rest)

    monkeypatch.setattr(Ledger, "give_up", lose_and_give_up)
    server._draw = lambda question: "" if len(server.log) else "500"
    assert ask_all(ask_for(1), make_config(server), tmp_path / "l")[0].text
    assert len(server.log) == 2


def test_what_was_claimed_before_a_sleep_is_not_sent_where_another_has_it(
    server, tmp_path, monkeypatch
):
    monkeypatch.setattr(Ledger, "may_have_lapsed", lambda ledger: True)
    hold, asked = Ledger.hold, []
    with Ledger(tmp_path / "l", "fake") as other:
        config = make_config(server, concurrency=1)
        key = prepare(ask_for(1)[0], config).key

        def answer_meanwhile(ledger, name):
            if not asked:
                asked.append(name)
                reply = TeacherReply(key=key, text="by another", finish_reason="stop")
                ledger._delete_claim(key)
                other.commit([LedgerEntry(reply=reply, attempt=0, request="{}", endpoint="e",
                                          usage_estimated=False)])  # fmt: skip
                return False
            return hold(ledger, name)

        monkeypatch.setattr(Ledger, "hold", answer_meanwhile)
        replies = ask_all(ask_for(2), config, tmp_path / "l")
    assert replies[0].text == "by another"
    assert [call.question for call in server.log] == ["q1"]


# Money


PRICED = {"usd_per_million_prompt_tokens": 1e3, "usd_per_million_completion_tokens": 1e4}
# A reply of 20 + 10 tokens costs 0.02 + 0.1 = 0.12 USD; at worst 100 tokens come: above 1 USD.


def test_the_budget_holds_at_any_concurrency_and_a_higher_one_goes_on(server, tmp_path):
    server.latency = 0.01
    with pytest.raises(UserError, match=r"teacher\.budget_usd is 5 and") as caught:
        ask_all(ask_for(40), make_config(server, budget_usd=5.0, **PRICED), tmp_path / "l")
    first = server.bought()
    with Ledger(tmp_path / "l", "fake") as ledger:
        spending = ledger.spending()
    assert spending.usd == pytest.approx(0.12 * len(first))
    assert spending.usd <= 5.0 < spending.usd + 1.3
    assert (spending.reserved_usd, spending.unsure_usd, spending.calls) == (0, 0, len(first))
    missing = 40 - len(first)
    assert f"{missing} more replies would cost about {missing * 0.12:.4f} USD" in str(caught.value)
    assert f"{len(first)} of 40 replies are kept" in str(caught.value)
    # What it tells to set is enough even if every call costs its worst.
    enough = float(re.search(r"set teacher.budget_usd=([\d.]+)", str(caught.value))[1])
    worst = float(re.search(r"at most ([\d.]+): set", str(caught.value))[1])
    assert enough >= spending.usd + worst - 1e-4

    replies = ask_all(ask_for(40), make_config(server, budget_usd=9.0, **PRICED), tmp_path / "l")
    assert len(replies) == 40
    assert set(server.bought().values()) == {1}


def test_calls_are_capped_exactly_retries_included(server, tmp_path):
    server.seed, server.fault_rate, server.faults = 3, 0.3, ("500", "429", "malformed")
    with pytest.raises(UserError, match=r"teacher.max_calls is 30 and 30 calls were made"):
        ask_all(ask_for(60), make_config(server, max_calls=30), tmp_path / "l")
    assert len(server.log) == 30
    assert len(rows(tmp_path / "l")) == len(server.bought())
    ask_all(ask_for(60), make_config(server, max_calls=300), tmp_path / "l")
    assert len(server.bought()) == 60
    assert set(server.bought().values()) == {1}


def test_a_cap_is_explained_though_another_run_gives_its_calls_back(server, tmp_path, monkeypatch):
    other = Ledger(tmp_path / "l", "fake")
    other.claim([("x", 0.0), ("y", 0.0)], Caps())
    claim = Ledger.claim

    def claim_early(ledger, wanted, caps):
        claims = claim(ledger, wanted, caps)
        other.release(["x", "y"])
        return claims

    monkeypatch.setattr(Ledger, "claim", claim_early)
    with pytest.raises(UserError, match=r"max_calls is 2 and 2 calls were made.*max_calls=3"):
        ask_all(ask_for(1), make_config(server, max_calls=2), tmp_path / "l")
    other.close()


def test_what_is_in_the_ledger_needs_no_budget(server, tmp_path):
    ask_all(ask_for(5), make_config(server), tmp_path / "l")
    assert len(ask_all(ask_for(5), make_config(server, max_calls=0), tmp_path / "l")) == 5
    with pytest.raises(UserError, match="max_calls"):
        ask_all(ask_for(6), make_config(server, max_calls=0), tmp_path / "l")


def test_a_call_that_never_came_back_counts_as_charged(server, tmp_path):
    server.fault_rate, server.faults = 1.0, ("drop",)
    with pytest.raises(UserError, match="for calls without a response"):
        ask_all(ask_for(1), make_config(server, budget_usd=4.0, **PRICED), tmp_path / "l")
    assert len(server.log) == 3  # each may have cost 1.1 to 1.3 USD: a fourth could pass 4


def test_failures_that_the_server_charges_for_stay_under_the_cap(server, tmp_path):
    server.finish_reason = "error"
    server.usage = {"prompt_tokens": 20, "completion_tokens": 100}
    with pytest.raises(
        UserError, match=r"teacher\.budget_usd is 5 .* for calls without a response"
    ):
        ask_all(ask_for(1), make_config(server, budget_usd=5.0, **PRICED), tmp_path / "l")
    with Ledger(tmp_path / "l", "fake") as ledger:
        spending = ledger.spending()
    # 1.02 USD each, up to where another one, of 1.2 at most, would not fit.
    assert (spending.calls, spending.unsure_usd) == (4, pytest.approx(4 * 1.02))


def test_a_cost_of_0_does_not_open_the_cap(server, tmp_path):
    server.usage = {"prompt_tokens": 20, "completion_tokens": 10, "cost": 0, "is_byok": True}
    with pytest.raises(UserError, match=r"teacher\.budget_usd is 2 and"):
        ask_all(ask_for(40), make_config(server, budget_usd=2.0, **PRICED), tmp_path / "l")
    assert 0 < len(server.log) <= 2 / 0.12


def test_the_servers_own_charge_is_taken_over_ours(server, tmp_path):
    server.usage = {"prompt_tokens": 20, "completion_tokens": 10, "cost": 0.5}
    (reply,) = ask_all(ask_for(1), make_config(server, **PRICED), tmp_path / "l")
    assert reply.usd == 0.5


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": "many"}, {"prompt_tokens": -1}])
def test_tokens_that_nobody_counted_are_estimated(server, tmp_path, usage):
    server.usage = usage
    (reply,) = ask_all(ask_for(1), make_config(server), tmp_path / "l")
    assert reply.prompt_tokens > 5
    assert reply.completion_tokens > 5
    assert rows(tmp_path / "l", "usage_estimated") == [(1,)]


# Another limit of length


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_a_longer_limit_buys_what_was_cut_and_nothing_else(server, place, field):
    field = MaxTokensField(field)
    complete = server._completion

    def write(call):  # q1 needs 150 tokens
        made, limit = complete(call), call.body[field.value]
        long = call.question == "q1"
        if long and limit <= 150:
            made["choices"][0]["finish_reason"] = "length"
        tokens = min(limit, 150) if long else 10
        return made | {"usage": {"prompt_tokens": 20, "completion_tokens": tokens}}

    server._completion = write

    def ask(limit, count=3):
        config = make_config(server, max_tokens=limit, max_tokens_field=field)
        return ask_all(ask_for(count), config, place)

    first = ask(100)
    assert [reply.finish_reason for reply in first] == ["stop", "length", "stop"]
    longer = ask(400)
    assert server.bought() == {"q0": 1, "q1": 2, "q2": 1}
    assert [reply.finish_reason for reply in longer] == ["stop"] * 3
    assert longer[0] == replace(first[0], from_ledger=True)  # under the key that it has
    # Of a shorter limit, too, where the reply is shorter still.
    ask(120)
    assert server.bought() == {"q0": 1, "q1": 3, "q2": 1}
    ask(160)
    ask(150)
    assert server.bought() == {"q0": 1, "q1": 4, "q2": 1}
    # What changes more than the limit is another request.
    other = make_config(server, max_tokens=400, max_tokens_field=field, temperature=0.5)
    ask_all(ask_for(1), other, place)
    assert server.bought()["q0"] == 2


@pytest.mark.parametrize(("finish", "tokens", "limit", "bought"), [
    ("stop", None, 400, 1),
    # How long it is nobody counted, so that a shorter limit may have cut it.
    ("stop", None, 50, 2),
    (None, None, 400, 2),
    ("weird", None, 400, 2),
    ("content_filter", None, 400, 2),
    (None, 10, 400, 1),
    ("stop", 100, 400, 2),
])  # fmt: skip
def test_which_replies_serve_under_another_limit(  # noqa: PLR0917
    server, tmp_path, finish, tokens, limit, bought
):
    server.finish_reason, server.usage = finish, {"prompt_tokens": 20, "completion_tokens": tokens}
    for most in (100, limit):
        ask_all(ask_for(1), make_config(server, max_tokens=most), tmp_path / "l")
    assert server.bought() == {"q0": bought}


# Secrets


KEY = "sk-caft-0123456789-very-secret"


def test_the_key_is_in_no_file_and_in_no_exception(server, tmp_path, monkeypatch, caplog, capfd):
    monkeypatch.setattr(rate_limit, "MOST_PAUSES", 1)
    monkeypatch.setenv("CAFT_TEST_KEY", KEY)
    caplog.set_level("DEBUG")
    server.write = lambda call: f"your header says {call.headers['authorization']} [[A]]"
    (reply,) = ask_all(ask_for(1), make_config(server), tmp_path / "l")
    assert server.log[0].headers["authorization"].endswith(KEY)
    assert reply.text == "your header says bearer [key] [[A]]"

    told = []
    for status in (400, 401, 402, 404, 500):
        server.status, server.message = status, f"bad key {KEY}!"
        config = make_config(server, retries=0)
        with pytest.raises(UserError) as caught:
            ask_all(ask_for(20, attempt=1), config, tmp_path / "l")
        ours = caught.value.__traceback__.tb_next  # this test's own frame knows the key
        frames = traceback.TracebackException(UserError, caught.value, ours, capture_locals=True)
        told += list(frames.format())
    files = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [data for data in files if KEY.encode() in data]
    assert KEY not in "".join(told) + caplog.text + "".join(capfd.readouterr())
    assert "[key]" in "".join(told)


@pytest.mark.parametrize("echo", [
    KEY, KEY[:10], KEY[:6] + "***" + KEY[-4:], KEY[:5] + "...", KEY[:12] + "\u2026",
    "**" + KEY[-4:], KEY[5:20], KEY + KEY[:9],
])  # fmt: skip
def test_no_part_of_the_key_comes_back(server, tmp_path, monkeypatch, echo):
    monkeypatch.setenv("CAFT_TEST_KEY", KEY)
    server.status, server.message = 401, f"Incorrect key {echo}. Look it up, so to say... ok"
    with pytest.raises(UserError) as caught:
        ask_all(ask_for(1), make_config(server), tmp_path / "l")
    assert "Look it up, so to say... ok" in str(caught.value)
    pieces = {KEY[start : start + 5] for start in range(len(KEY) - 4)}
    assert not [piece for piece in pieces if piece in str(caught.value)]


def test_no_key_is_needed_on_loopback(server, tmp_path, monkeypatch):
    monkeypatch.delenv("CAFT_TEST_KEY", raising=False)
    ask_all(ask_for(1), make_config(server), tmp_path / "l")
    assert re.fullmatch(r"bearer [a-z-]+", server.log[0].headers["authorization"])


def test_a_proxy_of_the_environment_does_not_see_loopback_calls(server, tmp_path, monkeypatch):
    monkeypatch.setitem(os.environ, "HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setitem(os.environ, "ALL_PROXY", "http://127.0.0.1:1")
    assert ask_all(ask_for(1), make_config(server), tmp_path / "l")[0].text
