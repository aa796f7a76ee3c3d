"""Waiting, worked out by hand: the clock is handed in."""

import pytest

from caft.teachers.rate_limit import Circuit, Pace, back_off


def test_calls_are_spread_evenly():
    pace = Pace(60)
    assert [pace.book(now, 1) for now in (0.0, 0.0, 0.5, 10.0)] == [0.0, 1.0, 1.5, 0.0]


def test_tokens_are_booked_by_their_number_and_corrected():
    pace = Pace(600)
    assert pace.book(0.0, 100) == 0.0
    pace.correct(-50)
    assert pace.book(0.0, 1) == 5.0


def test_askers_share_a_limit_in_equal_parts():
    pace = Pace(60)
    pace.share(3)
    assert [pace.book(0.0, 1) for _ in range(3)] == [0.0, 3.0, 6.0]
    pace.share(1)
    assert [pace.book(9.0, 1) for _ in range(3)] == [0.0, 1.0, 2.0]


def test_no_limit_never_waits_but_a_server_can_hold_it():
    pace = Pace(None)
    assert pace.book(0.0, 1e9) == pace.book(0.0, 1) == 0.0
    pace.hold(7.0)
    assert (pace.book(5.0, 1), pace.book(8.0, 1)) == (2.0, 0.0)


def test_back_off_doubles_with_jitter_up_to_a_minute():
    assert [back_off(retry, 0.5, None, 0.5) for retry in range(4)] == [0.5, 1.0, 2.0, 4.0]
    assert (back_off(0, 0.5, None, 0.0), back_off(0, 0.5, None, 1.0)) == (0.25, 0.75)
    assert back_off(1000, 0.5, None, 0.5) == 60.0


@pytest.mark.parametrize("draw", [0.0, 0.5, 1.0])
def test_a_retry_after_is_never_undercut(draw):
    assert 30.0 <= back_off(0, 0.5, 30.0, draw) <= 31.0


def test_the_circuit_opens_probes_and_closes():
    circuit = Circuit(failures=2, seconds=30, openings=3)
    circuit.fail(0.0, "HTTP 500")
    assert circuit.ask(0.0) == 0.0
    circuit.fail(1.0, "timeout")
    assert circuit.note == "2 calls in a row failed (1x HTTP 500, 1x timeout); next try in 30 s"
    assert circuit.ask(11.0) == 20.0
    circuit.fail(12.0, "a straggler")
    assert circuit.ask(31.0) == 0.0
    assert circuit.ask(31.0) > 0.0  # one probe only
    circuit.fail(32.0, "HTTP 500")
    assert circuit.ask(32.0) == 60.0
    circuit.succeed()
    assert (circuit.ask(33.0), circuit.note, circuit.broken) == (0.0, "", "")


def test_a_reply_between_failures_keeps_it_closed():
    circuit = Circuit(failures=2, seconds=30, openings=3)
    for now in range(10):
        circuit.fail(now, "HTTP 500")
        circuit.succeed()
    assert circuit.ask(10.0) == 0.0


def test_it_gives_up_after_its_openings():
    circuit = Circuit(failures=1, seconds=1, openings=2)
    circuit.fail(0.0, "HTTP 503")
    assert (circuit.ask(1.0), circuit.broken) == (0.0, "")
    circuit.fail(1.0, "HTTP 503")
    assert circuit.broken == "2 calls in a row failed (2x HTTP 503)"


def test_failures_that_waiting_cannot_mend_break_it_at_once():
    circuit = Circuit(failures=2, seconds=1, openings=5)
    circuit.fail(0.0, "HTTP 400", lasting=True)
    circuit.fail(0.0, "HTTP 400", lasting=True)
    assert circuit.broken


def test_a_probe_that_is_turned_away_is_followed_by_another():
    circuit = Circuit(failures=1, seconds=10, openings=5)
    circuit.fail(0.0, "HTTP 503")
    assert circuit.ask(10.0) == 0.0
    circuit.turn_away(11.0)
    assert circuit.ask(11.0) == 10.0
    assert circuit.ask(21.0) == 0.0
