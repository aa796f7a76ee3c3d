"""Waiting, worked out by hand: the clock is passed in."""

import pytest

from caft.teachers.config import OpenAITeacherConfig
from caft.teachers.outcome import Failed, Remedy
from caft.teachers.rate_limit import Pace, Throttle, back_off


def test_calls_are_spread_evenly():
    pace = Pace(60)
    assert [pace.book(now, 1) for now in (0.0, 0.0, 0.5, 10.0)] == [0.0, 1.0, 1.5, 0.0]


def test_tokens_are_booked_by_their_number_and_corrected():
    pace = Pace(600)
    assert pace.book(0.0, 100) == 0.0
    pace.correct(-50)
    assert pace.book(0.0, 1) == 5.0


def test_clients_share_a_limit_in_equal_parts():
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


@pytest.fixture
def throttle():
    return Throttle(OpenAITeacherConfig(name="t"), answered=False)


def fail(throttle, now, reason="HTTP 503", times=1, **more):
    return [throttle.fail(now, Failed(reason=reason, **more)) for _ in range(times)][-1]


def test_calls_pause_after_ten_failures_and_one_tries_again(throttle):
    assert not fail(throttle, 0.0, "HTTP 500", times=9)
    assert throttle.pause(0.0) == 0.0
    fail(throttle, 1.0, "timeout")
    assert throttle.note == "10 calls in a row failed (9x HTTP 500, 1x timeout); next try in 30 s"
    assert throttle.pause(11.0) == 20.0
    fail(throttle, 12.0, "sent before the pause")
    assert throttle.pause(31.0) == 0.0
    assert throttle.pause(31.0) > 0.0  # one call only
    fail(throttle, 32.0, "HTTP 500")
    assert throttle.pause(32.0) == 60.0
    throttle.succeed(10)
    assert (throttle.pause(33.0), throttle.note) == (0.0, "")


def test_a_reply_between_failures_prevents_a_pause(throttle):
    for now in range(10):
        fail(throttle, now, times=9)
        throttle.succeed(10)
    assert throttle.pause(10.0) == 0.0


def test_it_gives_up_after_five_pauses(throttle):
    assert not fail(throttle, 0.0, times=10)
    now = 0.0
    for _ in range(3):
        now += throttle.pause(now)
        assert throttle.pause(now) == 0.0
        assert not fail(throttle, now)
    now += throttle.pause(now)
    throttle.pause(now)
    assert now == 30 + 60 + 120 + 240
    assert fail(throttle, now) == "14 calls in a row failed (14x HTTP 503)"


@pytest.mark.parametrize("failed", [{"remedy": Remedy.leave_out}, {"unreachable": True}])
def test_failures_that_waiting_cannot_fix_end_it_at_once(throttle, failed):
    assert not fail(throttle, 0.0, times=9, **failed)
    assert fail(throttle, 0.0, **failed)


def test_a_try_that_is_turned_away_is_followed_by_another(throttle):
    fail(throttle, 0.0, times=10)
    assert throttle.pause(30.0) == 0.0
    fail(throttle, 31.0, "HTTP 429", busy=True)
    assert throttle.pause(31.0) == 30.0
    assert throttle.pause(61.0) == 0.0
