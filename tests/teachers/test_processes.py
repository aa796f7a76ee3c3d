"""Askers that are killed, interrupted or many at once, measured by the server's own log."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time

import openai  # noqa: F401  (or every asker would import it)
import pytest
from fake_server import wait_until

from caft.errors import UserError
from caft.signals import watch_signals
from caft.teachers.ask import ask_all
from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.ledger import Ledger
from caft.teachers.replies import Request

AT_ONCE = 8
FORKED = multiprocessing.get_context("fork")


def ask(place, count, given, said):
    """What a program does that writes to the file `said`; a forked one has imported everything."""
    sys.stdout = sys.stderr = said.open("w", buffering=1)
    for number in (1, 2):
        os.dup2(sys.stdout.fileno(), number)
    # As in a new process, whatever pytest has set.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with watch_signals():
            print(len(ask_all(requests(count), OpenAITeacherConfig(**given), place)))
    except UserError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:  # which ends an interpreter by the signal itself
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def requests(count):
    return [Request((("system", "Think."), ("user", f"q{n}"))) for n in range(count)]


def dials(server, **more):
    return {
        "name": "fake", "base_url": server.base_url, "model": "fake", "concurrency": AT_ONCE,
        "api_key_env": "CAFT_TEST_KEY", "max_tokens": 100, "timeout_seconds": 30,
    } | more  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def place(request, make_place):
    return make_place(request.param)


@pytest.fixture
def start(server, place, tmp_path):
    """Starts an asker of `count` questions in a process of its own."""
    running = []

    def start_one(count, **more):
        said = tmp_path / f"said-{len(running)}"
        given = (place, count, dials(server, **more), said)
        process = FORKED.Process(target=ask, args=given)
        process.said = said
        process.start()
        running.append(process)
        return process

    yield start_one
    for process in running:
        process.kill()
        process.join()


def end(process, seconds=60):
    """The exit status, negative after a signal that nobody caught, and what was said."""
    process.join(seconds)
    return process.exitcode, process.said.read_text().strip()


@pytest.fixture
def asked(kept):
    """The questions whose replies are in the ledger."""

    def read():
        requests = map(json.loads, kept("SELECT request FROM replies"))
        return {request["messages"][1]["content"] for request in requests}

    return read


def finish(server, place, count, **more):
    replies = ask_all(requests(count), OpenAITeacherConfig(**dials(server, **more)), place)
    assert all(reply.text for reply in replies)
    assert len(server.bought()) == count


def test_what_arrived_is_kept_although_nothing_ever_happens_again(server, place, start, asked):
    server.limit = 37
    process = start(200)
    wait_until(lambda: len(asked()) == 37 and len(server.log) == 37 + AT_ONCE)
    kill(server, process)
    server.limit = None
    finish(server, place, 200)
    assert set(server.bought().values()) == {1}
    assert len(server.log) <= 200 + AT_ONCE  # those that it waited for when it died


def kill(server, process, others=0):
    """Kill it and wait until the server has noticed; `others` calls of the living stay."""
    process.kill()
    process.join()
    wait_until(lambda: server.under_way <= others)


def test_killed_at_random_moments_no_finished_call_is_repeated(server, place, start, asked):
    server.latency, dice = 0.02, random.Random(4)
    safe, before = set(), 0

    def reached(number):
        return lambda: server.bought().total() >= number

    for number in sorted(dice.sample(range(5, 290), 8)):
        process = start(300)
        wait_until(reached(number))
        time.sleep(dice.random() * 0.02)
        kill(server, process)
        # What was in the ledger at the last kill was not asked for since.
        assert not safe & {call.question for call in server.log[before:]}
        safe, before = asked(), len(server.log)
        assert safe <= set(server.bought())
    finish(server, place, 300)
    assert not safe & {call.question for call in server.log[before:]}
    # On the wire, or on the way to the disk, at each of the kills.
    assert server.bought().total() - 300 <= 8 * 2 * AT_ONCE


def test_three_processes_never_buy_the_same_reply(server, start):
    server.latency = 0.01
    processes = [start(150) for _ in range(3)]
    assert [end(process) for process in processes] == [(0, "150")] * 3
    assert len(server.bought()) == len(server.log) == 150


def test_one_of_two_is_killed_while_it_holds_claims(server, start, asked):
    server.limit = 20
    doomed = start(120)
    wait_until(lambda: len(asked()) == 20 and len(server.log) == 20 + AT_ONCE)
    other = start(120)
    wait_until(lambda: len(server.log) == 20 + 2 * AT_ONCE)
    kill(server, doomed, others=AT_ONCE)
    server.limit = None
    assert end(other) == (0, "120")
    assert len(server.bought()) == 120
    assert set(server.bought().values()) == {1}
    assert len(server.log) == 120 + AT_ONCE


def test_calls_in_flight_of_all_processes_count_against_the_cap(server, place, start):
    server.latency = 0.01
    processes = [start(150, max_calls=70) for _ in range(3)]
    ended = [end(process) for process in processes]
    assert [status for status, _ in ended] == [1] * 3
    assert all("teacher.max_calls is 70 and 70 calls were made" in said for _, said in ended)
    assert len(server.log) == len(server.bought()) == 70
    finish(server, place, 150, max_calls=150)
    assert len(server.log) == 150


def test_dollars_in_flight_of_all_processes_count_against_the_budget(server, place, start):
    # A reply costs 0.12 USD and could cost more than 1.1: near the cap only a few may be in flight.
    server.latency = 0.01
    money = {"usd_per_million_prompt_tokens": 1e3, "usd_per_million_completion_tokens": 1e4}
    processes = [start(150, budget_usd=6.0, **money) for _ in range(3)]
    ended = [end(process) for process in processes]
    assert all("teacher.budget_usd is 6 and" in said for _, said in ended)
    with Ledger(place, "fake") as ledger:
        spending = ledger.spending()
    assert spending.usd == pytest.approx(0.12 * len(server.log))
    assert 6.0 - 1.3 < spending.usd <= 6.0
    assert (spending.unsure_usd, spending.in_flight) == (0.0, 0)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_arrived_and_frees_the_claims(server, start, kept, number, status):
    # Some five seconds of work: the signal comes long before its end, on a busy machine too.
    server.latency = 0.1
    process = start(400)
    wait_until(lambda: server.bought().total() >= 50)
    os.kill(process.pid, number)
    assert end(process, 120)[0] == status
    assert len(kept("SELECT key FROM replies")) >= 50 - AT_ONCE
    assert not kept("SELECT key FROM claims")


@pytest.mark.parametrize("ended", [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
def test_after_a_signal_what_is_under_way_is_waited_for_and_never_asked_again(
    server, place, start, kept, ended
):
    number, status = ended
    server.latency = 1.0
    process = start(60)
    wait_until(lambda: server.under_way == AT_ONCE and len(server.log) > AT_ONCE)
    os.kill(process.pid, number)
    ended, said = end(process, 120)
    assert ended == status
    assert "waiting for the calls in flight" in said
    assert len(kept("SELECT key FROM replies")) == len(server.log) == server.bought().total()
    assert not kept("SELECT key FROM claims")
    assert not kept("SELECT key FROM failures")
    server.latency = 0.0
    finish(server, place, 60)
    assert len(server.log) == 60


def test_after_a_second_signal_nothing_is_waited_for(server, start, kept):
    server.limit = 0
    process = start(60, grace_seconds=600)
    wait_until(lambda: server.under_way == AT_ONCE)
    process.terminate()
    wait_until(lambda: "waiting for" in process.said.read_text())
    # Two that come together are one: timeout(1) sends it to the process and to its group.
    process.terminate()
    time.sleep(1.0)
    assert process.is_alive()
    process.terminate()
    assert end(process, 30)[0] == 143  # a call takes 60
    assert not kept("SELECT key FROM claims")


def test_the_grace_ends_and_what_it_waited_for_counts_as_charged(server, start, kept):
    server.limit = 0
    money = {"usd_per_million_prompt_tokens": 0.0, "usd_per_million_completion_tokens": 1e4}
    process = start(60, grace_seconds=0.2, **money)
    wait_until(lambda: server.under_way == AT_ONCE)
    process.terminate()
    assert end(process, 30)[0] == 143  # a call takes 60
    assert kept("SELECT reason FROM failures") == {"stopped while it was in flight"}
    (unsure,) = kept("SELECT unsure_usd FROM spending")
    assert unsure == pytest.approx(AT_ONCE * 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["postgresql"], indirect=True)
def test_eight_processes_outlive_kills_of_one_and_a_restart_of_the_database(
    server, start, asked, postgres
):
    server.latency = 0.05
    processes = [start(400) for _ in range(8)]
    wait_until(lambda: len(asked()) >= 40)
    doomed = processes.pop()
    doomed.kill()
    doomed.join()
    wait_until(lambda: len(asked()) >= 120)
    postgres.stop()
    time.sleep(1.5)
    postgres.start()
    assert [end(process, 240)[1] for process in processes] == ["400"] * 7
    # What the killed one had in flight is all that was asked twice.
    assert len(asked()) == len(server.bought()) == 400
    assert len(server.log) <= 400 + AT_ONCE
    spent = open_and_count(postgres)
    assert spent.in_flight == 0
    assert spent.calls <= len(server.log)


def open_and_count(postgres):
    with Ledger(postgres.address(), "fake") as ledger:
        return ledger.spending()
