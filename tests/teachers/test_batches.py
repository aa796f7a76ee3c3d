"""Batches: sent once whatever happens, every row that was paid for is kept, caps hold."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from fake_batches import CUT, chat
from fake_server import wait_until

from caft.errors import UserError
from caft.signals import watch_signals
from caft.teachers import batches
from caft.teachers.ask import ask_all
from caft.teachers.client import Endpoint
from caft.teachers.config import OpenAITeacherConfig, Unanswered
from caft.teachers.ledger import BatchLedger, Ledger
from caft.teachers.ledger.__main__ import main
from caft.teachers.ledger.batches import forget_batch
from caft.teachers.ledger.copying import copy_ledger
from caft.teachers.ledger.opening import open_database
from caft.teachers.prices import Caps, Spending
from caft.teachers.replies import Request, prepare

PRICES = {"usd_per_million_prompt_tokens": 1e3, "usd_per_million_completion_tokens": 1e4}
PAID = (20 * 1e3 + 10 * 1e4) / 1e6 / 2
"""USD of the fake server's reply, at half the live price."""


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    for name in ("FIRST_POLL", "LONGEST_POLL"):
        monkeypatch.setattr(batches, name, 0.002)


def make_config(server, **dials):
    defaults = {
        "name": "fake", "base_url": server.base_url, "model": "fake", "max_tokens": 100,
        "api_key_env": "CAFT_TEST_KEY", "batch": True, "batch_price_factor": 0.5, **PRICES,
    }  # fmt: skip
    return OpenAITeacherConfig(**(defaults | dials))


def ask_for(count):
    return [Request((("system", "Think."), ("user", f"q{n}"))) for n in range(count)]


def spending(place):
    with Ledger(place, "fake", reads_only=True) as ledger:
        return ledger.spending()


def has_all(server, place, count, calls=0):
    """Every request was executed once, and its reply is kept at its price."""
    assert server.batches.bought == {f"q{n}": 1 for n in range(count)}
    found = spending(place)
    assert (found.usd, found.calls) == (pytest.approx(count * PAID), calls or count)
    return (found.unsure_usd, found.reserved_usd, found.in_flight) == (0, 0, 0)


def test_a_batch_is_bought_at_its_price_and_never_again(server, place):
    server.batches.statuses = ("validating",) * 6 + ("in_progress", "finalizing")
    server.batches.outcome = lambda question, times: "twice" if question == "q2" else "ok"
    seen = []
    replies = ask_all(ask_for(5), make_config(server), place, seen.append)
    assert [reply.text for reply in replies] == [
        f"I read 'q{n}' and think. [[A]]" for n in range(5)
    ]  # in order, though the batch's output is not
    assert has_all(server, place, 5)
    assert (seen[-1].done, seen[-1].calls, seen[-1].usd) == (5, 5, pytest.approx(5 * PAID))
    assert any("batches out: 0 done, 0 failed" in each.note for each in seen)
    (batch,) = server.batches.batches.values()
    assert (batch["endpoint"], batch["completion_window"]) == ("/v1/chat/completions", "24h")
    asked = len(server.batches.steps)
    again = ask_all(ask_for(5), make_config(server, batch=False), place)
    assert all(reply.from_ledger for reply in again)
    assert len(server.batches.steps) == asked
    assert not server.log


def test_a_row_is_the_body_that_a_live_call_would_send(server, tmp_path):
    ask_all(ask_for(1), make_config(server), tmp_path / "batch")
    ask_all(ask_for(1), make_config(server, batch=False), tmp_path / "live")
    row = json.loads(server.batches.files["file-0"])
    assert row["body"] == server.log[0].body
    assert (row["method"], row["url"]) == ("POST", "/v1/chat/completions")


@pytest.mark.parametrize("sign", ["\u2028", "\x85", "\r", "\x0b"])
def test_a_reply_with_signs_that_end_lines_elsewhere(server, tmp_path, sign):
    def reply(question):
        body = batches_chat(question)
        body["choices"][0]["message"]["content"] = f"a{sign}b"
        return body

    batches_chat, server.batches.reply = server.batches.reply, reply
    (answer,) = ask_all(ask_for(1), make_config(server), tmp_path / "l")
    assert answer.text == f"a{sign}b"
    assert server.batches.bought == {"q0": 1}


@pytest.mark.parametrize("limit", ["rows", "bytes"])
def test_several_files_where_one_would_be_too_large(server, tmp_path, monkeypatch, limit):
    if limit == "rows":
        monkeypatch.setattr(batches, "MOST_ROWS", 3)
    else:
        monkeypatch.setattr(batches, "MOST_BYTES", 1000)
    ask_all(ask_for(7), make_config(server), tmp_path / "l")
    assert has_all(server, tmp_path / "l", 7)
    sizes = [len(server.batches.files[each["input_file_id"]].splitlines())
             for each in server.batches.batches.values()]  # fmt: skip
    assert sizes == [3, 3, 1]


# A kill at every step


class KilledError(BaseException):
    pass


def steps():
    for name in ("claim", "hand_over", "take_over", "note_created", "commit_from", "end",
                 "release"):  # fmt: skip
        yield BatchLedger, name
    yield Endpoint, "call"


def wrap(work, reach):
    def before_and_after(*args, **kwargs):
        reach()
        result = work(*args, **kwargs)
        reach()
        return result

    async def asynchronous(*args, **kwargs):
        reach()
        result = await work(*args, **kwargs)
        reach()
        return result

    return asynchronous if work.__qualname__ == "Endpoint.call" else before_and_after


def run_killed(server, place, monkeypatch, at):
    """Ends at step number `at`, as kill -9 would, with no clean-up. False if it got through."""
    reached = [0]

    def reach():
        reached[0] += 1
        if reached[0] >= at:
            raise KilledError

    with monkeypatch.context() as patched:
        for cls, name in steps():
            patched.setattr(cls, name, wrap(getattr(cls, name), reach))
        patched.setattr(Ledger, "_end_claims", lambda ledger: None)
        try:
            ask_all(ask_for(3), make_config(server), place)
        except BaseExceptionGroup as group:
            if not group.subgroup(KilledError):
                raise
        except KilledError:
            pass
        else:
            return False
    with Ledger(place, "fake") as ledger:
        # Its process is that of the test. What it was creating has been waited for.
        ledger.database.transact(lambda: ledger.claims.change(
            each._replace(pid=dead_pid()) if each.pid else each._replace(expires=each.expires - 1e3)
            for each in ledger.claims.read()
        ))  # fmt: skip
    return True


def dead_pid():
    if not hasattr(dead_pid, "number"):
        process = subprocess.Popen(["true"])
        process.wait()
        dead_pid.number = process.pid
    return dead_pid.number


def clear(place):
    database = open_database(place, reads_only=False)
    for table in ("replies", "claims", "spending", "failures"):
        database.transact(lambda t=table: database.execute(f"DELETE FROM {t}"))
    database.close()
    Path(f"{place}.count").unlink(missing_ok=True)


@pytest.mark.slow
def test_a_kill_at_any_step_buys_nothing_twice(server, place, monkeypatch):
    server.batches.statuses = ("in_progress",)
    server.batches.outcome = lambda q, times: "expired" if (q, times) == ("q1", 1) else "ok"
    at = 1
    while run_killed(server, place, monkeypatch, at):
        ask_all(ask_for(3), make_config(server), place)
        assert has_all(server, place, 3, calls=4), at  # one expired, and was a call
        assert len(server.batches.batches) == 2, at  # one, and one for the row that expired
        clear(place)
        fresh = type(server.batches)(statuses=("in_progress",), outcome=server.batches.outcome)
        server.batches = fresh
        at += 1
    assert at > 20


SCRIPT = """
    import json, sys
    from caft.teachers import batches
    from caft.teachers.ask import ask_all
    from caft.teachers.config import OpenAITeacherConfig
    from caft.teachers.replies import Request
    batches.FIRST_POLL = batches.LONGEST_POLL = 0.05
    requests = [Request((("system", "Think."), ("user", f"q{n}"))) for n in range(int(sys.argv[2]))]
    print(len(ask_all(requests, OpenAITeacherConfig(**json.loads(sys.argv[3])), sys.argv[1])))
"""


@pytest.mark.slow
def test_after_kill_9_the_same_command_takes_the_results(server, place):
    server.batches.statuses = ("in_progress",) * 100_000
    dials = {name: getattr(make_config(server), name) for name in (
        "name", "base_url", "model", "max_tokens", "api_key_env", "batch", "batch_price_factor",
        *PRICES,
    )}  # fmt: skip
    words = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(place), "9", json.dumps(dials)]
    process = subprocess.Popen(words)
    wait_until(lambda: server.batches.steps.count("look") > 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    server.batches.statuses = ()
    told = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    assert told.strip() == "9"
    assert len(server.batches.batches) == 1
    assert has_all(server, place, 9)


# Faults of calls


@pytest.mark.parametrize("faults", [
    {"upload": [500, 429, CUT]}, {"create": [429]}, {"create": [500, 500]},
    {"look": [500, CUT, 429]}, {"content": [500, CUT]}, {"list": [500], "create": [CUT]},
], ids=str)  # fmt: skip
def test_calls_that_fail_are_repeated_and_nothing_is_sent_twice(server, place, monkeypatch, faults):
    take_over = BatchLedger.take_over
    monkeypatch.setattr(BatchLedger, "take_over", lambda *given: take_over(*given[:2], -1.0))
    server.retry_after, server.batches.faults = None, faults
    ask_all(ask_for(4), make_config(server), place)
    assert has_all(server, place, 4)
    assert len(server.batches.batches) == 1
    assert not any(faults.values())


def test_a_batch_that_may_still_arrive_is_not_created_again(server, place):
    server.batches.faults = {"create": [500]}
    ledger_seen = []

    def look(progress):
        # The first create was lost; the batch appears at the provider some looks later.
        ledger_seen.append(progress)
        if len(ledger_seen) == 5:
            name = next(iter(server.batches.files))
            server.batches._create({"input_file_id": name, "metadata": None})

    ask_all(ask_for(2), make_config(server), place, look)
    assert server.batches.steps.count("create") == 1
    assert has_all(server, place, 2)


def test_an_endpoint_that_stays_down_and_the_results_that_wait_there(server, place, monkeypatch):
    server.batches.faults = {"look": [500] * 50}
    monkeypatch.setattr(batches, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(UserError, match=r"looking at batch batch_0.*HTTP 500.*0 of 3 replies are"):
        ask_all(ask_for(3), make_config(server), place)
    assert spending(place).reserved_usd > 0
    server.batches.faults = {}
    ask_all(ask_for(3), make_config(server), place)
    assert has_all(server, place, 3)


@pytest.mark.parametrize("probe", [0, 1])
def test_an_endpoint_without_batches(server, tmp_path, probe):
    server.batches.absent = True
    with pytest.raises(UserError, match=r"has no batch interface \(HTTP 404 .*teacher.batch=false"):
        ask_all(ask_for(3), make_config(server), tmp_path / "l", probe=probe)
    assert not server.log
    assert spending(tmp_path / "l") == Spending()


def test_a_live_run_does_not_buy_what_is_in_a_batch(server, place, tmp_path, monkeypatch):
    interrupt(server, place, monkeypatch)
    with pytest.raises(UserError, match=r"has 3 of 4 requests, .*teacher.batch=true"):
        ask_all(ask_for(4), make_config(server, batch=False), place)
    assert not server.log
    with pytest.raises(UserError, match="have taken the results of their batches"):
        copy_ledger(str(place), str(tmp_path / "copy"))
    ask_all(ask_for(4), make_config(server), place)
    assert has_all(server, place, 4)


def interrupt(server, place, monkeypatch):
    """A run of three questions that stops while its batch is out."""
    server.batches.faults = {"look": [500]}
    with monkeypatch.context() as patched:
        patched.setattr(batches, "PATIENCE_SECONDS", 0.0)
        with pytest.raises(UserError):
            ask_all(ask_for(3), make_config(server), place)


def test_of_two_clients_of_one_batch_one_pays(server, place, monkeypatch):
    interrupt(server, place, monkeypatch)
    with BatchLedger(place, "fake") as late:
        (sent,) = late.find_batches([row["custom_id"] for row in map(
            json.loads, server.batches.files["file-0"].splitlines()
        )])  # fmt: skip
        ask_all(ask_for(3), make_config(server), place)
        late.end(sent, [(key, "lost", 1.0) for key in sent.keys])
        late.undo(sent)
    assert has_all(server, place, 3)


@pytest.mark.parametrize("step", ["look", "content"])
def test_a_lost_batch_is_given_up_with_the_command_that_is_told(
    server, place, monkeypatch, capsys, step
):
    interrupt(server, place, monkeypatch)
    server.batches.faults = {step: [404] * 2}
    for _ in range(2):  # nothing is bought anew until the user says so: it may be the wrong key
        with pytest.raises(UserError, match=r"batch batch_0.*HTTP 404.*use the key") as refused:
            ask_all(ask_for(3), make_config(server), place)
    words = shlex.split(re.search(r"`python -m caft.teachers.ledger (.*?)`", str(refused.value))[1])
    reserved = spending(place).reserved_usd
    assert main(words) == 0
    told = capsys.readouterr().out
    assert told.startswith(
        f"batch batch_0 is given up: 3 requests can be bought again, and up to {reserved:.4f} USD"
    )
    assert main(words) == 2
    assert "knows of no batch 'batch_0'; none is out" in capsys.readouterr().err
    ask_all(ask_for(3), make_config(server), place)
    found = spending(place)
    assert (found.usd, found.calls) == (pytest.approx(3 * PAID), 6)
    assert (found.unsure_usd, found.reserved_usd) == (pytest.approx(reserved), 0)
    assert len(server.batches.batches) == 2


def test_a_batch_that_perhaps_exists_is_given_up_by_the_name_of_its_file(server, place):
    server.batches.faults = {"create": [500], "list": [404]}
    with pytest.raises(UserError, match=r"listing batches: HTTP 404.*forget \S* file-0`"):
        ask_all(ask_for(3), make_config(server), place)
    with pytest.raises(UserError, match=r"knows of no batch 'x'; out are file-0"):
        forget_batch(place, "x")
    assert "3 requests" in forget_batch(place, "file-0")
    ask_all(ask_for(3), make_config(server), place)
    assert server.batches.bought == {"q0": 1, "q1": 1, "q2": 1}


def test_a_batch_that_may_exist_is_not_bought_anew_with_another_key(server, tmp_path, monkeypatch):
    take_over = BatchLedger.take_over
    monkeypatch.setattr(BatchLedger, "take_over", lambda *given: take_over(*given[:2], -1.0))
    server.batches.faults = {"create": [500, 400]}  # 400: another project does not have its file
    with pytest.raises(UserError, match=r"creating a batch: HTTP 400.*use the key and project"):
        ask_all(ask_for(3), make_config(server), tmp_path / "l")
    assert spending(tmp_path / "l").reserved_usd > 0


def test_a_live_run_says_that_it_waits_for_a_batch_of_another(server, tmp_path, caplog):
    place, config = tmp_path / "l", make_config(server, batch=False, concurrency=1)
    (last,) = (prepare(each, config) for each in ask_for(6)[5:])
    notes, sent = [], []

    def send(call):
        sent.append(call)
        with BatchLedger(place, "fake", sends=True) as other:
            if len(sent) == 1 and other.claim([(last.key, last.worst_usd)], Caps()).taken:
                other.hand_over("file", 1, "batch-1")
        return "I think. [[A]]"

    def look(progress):
        notes.append(progress.note)
        if progress.note == "waiting for 1 request in another run's batch":
            assert forget_batch(place, "file")

    server.write = send
    replies = ask_all(ask_for(6), config, place, look)
    assert all(reply.text for reply in replies)
    assert notes[-1] == ""
    assert [each.getMessage() for each in caplog.records].count(
        "another run has 1 request of this one in a batch, which may take 24 hours, and this one "
        "waits for the replies; Ctrl-C loses none, and with teacher.batch=true it takes them itself"
    ) == 1


def test_ctrl_c_leaves_the_batch_there(server, place, capfd):
    server.batches.statuses = ("in_progress",) * 100_000
    pressed = []

    def press(progress):
        if "batches out" in progress.note and not pressed:
            pressed.append(progress)
            os.kill(os.getpid(), signal.SIGINT)

    with watch_signals(), pytest.raises(KeyboardInterrupt):
        ask_all(ask_for(3), make_config(server), place, press)
    assert (
        "go on at the provider, and the same command takes their results" in capfd.readouterr().err
    )
    server.batches.statuses = ()
    ask_all(ask_for(3), make_config(server), place)
    assert len(server.batches.batches) == 1
    assert has_all(server, place, 3)


def test_results_that_are_not_written_yet_are_waited_for(server, place):
    look, done = server.batches._look, []

    def look_early(name):
        batch = json.loads(look(name))
        done.extend([name] * (batch["status"] == "completed"))
        early = {"output_file_id": None, "completed_at": time.time()}
        return json.dumps(batch | early if len(done) < 4 else batch).encode()

    server.batches._look = look_early
    ask_all(ask_for(3), make_config(server), place)
    assert len(done) == 4
    assert has_all(server, place, 3)


@pytest.mark.parametrize("body", [b"<html>", b'"text"', b"{}", b"[]", b"null"])
def test_a_server_that_sends_something_else(server, tmp_path, body):
    server.batches.answer = lambda *given: (200, body)
    with pytest.raises(UserError, match=r"uploading a batch's file: .*0 of 3 replies are kept"):
        ask_all(ask_for(3), make_config(server, retries=0), tmp_path / "l")
    assert spending(tmp_path / "l") == Spending()


def alter(server, monkeypatch, **fields):
    """A provider that tells something else of a batch."""
    look = server.batches._look
    change = lambda name: json.dumps(json.loads(look(name)) | fields).encode()  # noqa: E731
    monkeypatch.setattr(server.batches, "_look", change)


@pytest.mark.parametrize("fields", [
    {"request_counts": {"total": 3}}, {"request_counts": {"completed": None, "failed": None}},
    {"request_counts": {"completed": "3", "failed": [0]}}, {"request_counts": [3]},
    {"completed_at": "today", "expired_at": {}}, {"request_counts": None, "completed_at": None},
])  # fmt: skip
def test_what_a_provider_does_not_count_costs_no_result(server, tmp_path, monkeypatch, fields):
    alter(server, monkeypatch, **fields)
    ask_all(ask_for(3), make_config(server), tmp_path / "l", lambda progress: None)
    assert has_all(server, tmp_path / "l", 3)


@pytest.mark.parametrize(("errors", "words"), [
    ({"object": "list"}, "no reason is given"), (None, "no reason is given"),
    ({"data": None}, "no reason is given"), ([None, 5], "5"),
    ([{"code": "x", "message": "y"}], "x: y"), ({"data": ["bad", {"code": "x"}]}, "bad; x"),
    ("bad file", "bad file"), ({"message": "bad file", "code": 7}, "7: bad file"),
])  # fmt: skip
def test_why_a_batch_failed_is_told_in_whatever_form_it_comes(
    server, tmp_path, monkeypatch, errors, words
):
    server.batches.ends = ["failed"]
    alter(server, monkeypatch, errors=errors)
    with pytest.raises(UserError, match=rf"batch_0 failed \({words}\)"):
        ask_all(ask_for(3), make_config(server), tmp_path / "l")
    assert spending(tmp_path / "l") == Spending()


# Rows and ends


def test_rows_that_expired_are_sent_again_as_often_as_a_live_call(server, place):
    server.batches.ends = ["expired"]
    server.batches.outcome = lambda q, times: "expired" if q in ("q1", "q3") else "ok"
    with pytest.raises(UserError, match=r"no reply to 2 requests .*2x batch_expired.*3 of 5"):
        ask_all(ask_for(5), make_config(server, retries=2), place)
    assert server.batches.sent["q1"] == 3
    server.batches.outcome = lambda q, times: "ok"
    ask_all(ask_for(5), make_config(server), place)
    assert has_all(server, place, 5, calls=3 + 2 * 4)


def test_rows_that_are_refused_are_left_out_and_others_repeated(server, tmp_path):
    faults = {"q1": 400, "q2": 500, "q3": 429}
    server.batches.outcome = lambda q, times: faults.get(q, "ok") if times == 1 else "ok"
    replies = ask_all(ask_for(5), make_config(server), tmp_path / "l")
    assert [each.failure for each in replies] == ["", "HTTP 400: no such luck", "", "", ""]
    assert server.batches.bought == {"q0": 1, "q2": 1, "q3": 1, "q4": 1}


def test_when_every_row_is_refused_the_run_stops(server, tmp_path):
    server.batches.outcome = lambda question, times: 400
    with pytest.raises(UserError, match=r"10 calls in a row failed \(10x HTTP 400: no such luck"):
        ask_all(ask_for(12), make_config(server), tmp_path / "l")
    assert spending(tmp_path / "l").reserved_usd == 0


@pytest.mark.parametrize("outcome", ["missing", "malformed"])
def test_a_row_without_a_readable_result_counts_as_charged(server, place, outcome):
    server.batches.outcome = lambda q, times: outcome if (q, times) == ("q1", 1) else "ok"
    replies = ask_all(ask_for(3), make_config(server), place)
    assert all(reply.text for reply in replies)
    assert server.batches.bought == {"q0": 1, "q1": 2, "q2": 1}
    found = spending(place)
    assert found.usd == pytest.approx(3 * PAID)
    assert found.unsure_usd > PAID
    assert found.reserved_usd == 0


def test_a_row_that_is_never_answered_is_sent_as_often_as_retries_allow_over_all_runs(
    server, place
):
    """Each time may be paid for, so no new run, nor another host, begins to count anew."""
    server.batches.outcome = lambda q, times: "missing" if q == "q1" else "ok"
    lost = (
        r"no reply to 1 request .*1x sent 2 times without a result, which may have cost (\S+) "
        r"USD\); 2 of 3 replies are kept: set teacher.retries=2 or more to send"
    )
    for _ in range(2):
        with pytest.raises(UserError, match=lost) as refused:
            ask_all(ask_for(3), make_config(server, retries=1), place)
        assert server.batches.bought == {"q0": 1, "q1": 2, "q2": 1}
    unsure = spending(place).unsure_usd
    assert unsure == pytest.approx(float(re.search(lost, str(refused.value))[1]), abs=1e-4)
    config = make_config(server, retries=1, unanswered=Unanswered.drop)
    left = ask_all(ask_for(3), config, place)[1]
    assert (left.failure[:12], left.usd) == ("sent 2 times", unsure)
    with pytest.raises(UserError, match="1x sent 3 times"):  # as it advised
        ask_all(ask_for(3), make_config(server, retries=2), place)
    server.batches.outcome = lambda q, times: "ok"
    ask_all(ask_for(3), make_config(server, retries=3), place)
    assert server.batches.bought["q1"] == 4
    assert spending(place).unsure_usd == pytest.approx(1.5 * unsure)


def test_a_row_that_broke_off_costs_what_the_provider_counted(server, place):
    def break_off(question):
        row = chat(question)
        row["choices"][0]["finish_reason"] = "error"
        return row

    server.batches.reply = break_off
    config = make_config(server, retries=1, unanswered=Unanswered.drop)
    (left,) = ask_all(ask_for(1), config, place)
    assert (left.failure[:12], left.usd) == ("sent 2 times", pytest.approx(2 * PAID))
    assert spending(place).unsure_usd == pytest.approx(2 * PAID)


def test_a_lost_row_is_not_sent_while_another_run_settles_it(server, place, monkeypatch):
    """Between the look at the ledger and the claim, another host counts the last time."""
    server.batches.outcome = lambda q, times: "missing"
    look = BatchLedger.find_batches

    def look_late(ledger, keys):
        found = look(ledger, keys)
        monkeypatch.setattr(BatchLedger, "find_batches", look)
        with pytest.raises(UserError, match="sent 1 time "):
            ask_all(ask_for(1), make_config(server, retries=0), place)
        return found

    monkeypatch.setattr(BatchLedger, "find_batches", look_late)
    with pytest.raises(UserError, match="sent 1 time "):
        ask_all(ask_for(1), make_config(server, retries=0), place)
    assert server.batches.bought == {"q0": 1}


def test_a_batch_that_was_cancelled_gives_what_it_has_and_ends_the_run(server, place):
    server.batches.ends = ["cancelled"]
    server.batches.outcome = lambda q, times: "ok" if q == "q0" else "expired"
    with pytest.raises(UserError, match=r"was cancelled there; 1 of 3 .*: run the same command"):
        ask_all(ask_for(3), make_config(server), place)
    server.batches.outcome = lambda q, times: "ok"
    ask_all(ask_for(3), make_config(server), place)
    assert has_all(server, place, 3, calls=5)


def test_a_batch_that_failed_was_no_call(server, place):
    server.batches.ends = ["failed"]
    server.batches.errors = [{"code": "model_not_found", "message": "no batches of it\x1b[31m"}]
    with pytest.raises(UserError, match=r"batch_0 failed \(model_not_found: no batches of it\)"):
        ask_all(ask_for(3), make_config(server), place)
    assert spending(place) == Spending()
    ask_all(ask_for(3), make_config(server), place)
    assert has_all(server, place, 3)


def test_a_full_queue_is_waited_for_with_smaller_batches(server, place):
    server.batches.ends = ["failed"] * 2
    server.batches.errors = [{"code": "token_limit_exceeded", "message": "Enqueued token limit"}]
    ask_all(ask_for(8), make_config(server), place)
    assert has_all(server, place, 8)
    sizes = [len(server.batches.files[each["input_file_id"]].splitlines())
             for each in server.batches.batches.values()]  # fmt: skip
    assert sizes[:2] == [8, 4]
    assert sum(sizes[2:]) >= 8


def test_unanswered_drop_leaves_rows_out(server, tmp_path):
    server.batches.outcome = lambda q, times: "expired" if q == "q1" else "ok"
    config = make_config(server, retries=1, unanswered=Unanswered.drop)
    replies = ask_all(ask_for(3), config, tmp_path / "l")
    assert [each.failure for each in replies] == ["", "batch_expired: too late", ""]


# Caps


def test_a_cap_counts_the_highest_cost_of_a_batch_and_what_it_saved_buys_more(server, place):
    config = make_config(server)
    worst = float(ask_worst(config))
    capped = make_config(server, budget_usd=4.5 * worst)
    with pytest.raises(UserError, match=r"teacher.budget_usd is .* replies are kept"):
        ask_all(ask_for(40), capped, place)
    rows = [len(server.batches.files[each["input_file_id"]].splitlines())
            for each in server.batches.batches.values()]  # fmt: skip
    assert rows[:2] == [4, 4]  # 0.06 a reply: there was room again
    assert spending(place).usd <= 4.5 * worst
    assert server.batches.bought.total() == sum(rows) < 40
    ask_all(ask_for(40), config, place)
    assert has_all(server, place, 40)


def ask_worst(config):
    from caft.teachers.replies import prepare

    return prepare(ask_for(1)[0], config).worst_usd


def test_the_cap_of_calls_holds_over_batches(server, place):
    with pytest.raises(UserError, match=r"teacher.max_calls is 5 and 5 calls were made.*5 of 9"):
        ask_all(ask_for(9), make_config(server, max_calls=5), place)
    assert server.batches.bought.total() == 5


def test_a_batch_of_others_that_fills_the_budget_is_told_and_not_waited_for(
    server, place, monkeypatch
):
    interrupt(server, place, monkeypatch)
    budget = spending(place).reserved_usd
    other = [Request((("user", "another"),))]
    for batch in (True, False):
        with pytest.raises(UserError, match=r"up to \d\.\d+ are for calls under way"):
            ask_all(other, make_config(server, budget_usd=budget, batch=batch), place)


# The first replies


def test_the_first_replies_are_asked_live_and_may_end_it(server, tmp_path):
    config, place = make_config(server), tmp_path / "l"
    with pytest.raises(UserError, match="too dull; 2 of 6 replies are kept"):
        ask_all(ask_for(6), config, place, probe=2, object_to=lambda replies: "too dull")
    assert len(server.log) == 2
    assert not server.batches.steps.count("create")
    ask_all(ask_for(6), config, place, probe=2, object_to=lambda replies: "")
    assert len(server.log) == 2
    assert spending(place).usd == pytest.approx(2 * 2 * PAID + 4 * PAID)
    replies = ask_all(ask_for(6), config, place)
    assert [reply.seconds > 0 for reply in replies] == [True] * 2 + [False] * 4


def test_no_price_of_a_batch_is_guessed(server, tmp_path):
    with pytest.raises(UserError, match=r"127.0.0.1 is not known; give teacher.batch_price_factor"):
        ask_all(ask_for(1), make_config(server, batch_price_factor=None), tmp_path / "l")
    assert not server.batches.steps
