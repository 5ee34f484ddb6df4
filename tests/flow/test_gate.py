"""Laws of the gate: everything that holds a request back holds it back together."""

import math
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.errors import (
    CapacityError,
    ConnectionFailedError,
    GatewayUnavailableError,
    QuotaExhaustedError,
    RateLimitError,
)
from kling_async.flow.gate import LOOKS_IN_VAIN, Gate
from kling_async.settings import RateLimit, RetryPolicy

POLICY = RetryPolicy()
ERRORS = [RateLimitError, CapacityError, ConnectionFailedError, GatewayUnavailableError]
histories = st.lists(
    st.tuples(
        st.floats(0, 400) | st.just(0.0),
        st.sampled_from(["submit", "submit", "look", "end", "quota"]),
        st.none() | st.sampled_from(ERRORS),
        st.none() | st.floats(0, 1e6),
        st.floats(0, 1),
    ),
    max_size=60,
)


def gate(*rates, learns_pace=False, **policy):
    return Gate(RetryPolicy(**policy), rates, 0.0, learns_pace=learns_pace)


def lived(gate, history):
    """Let a gate live through a history, one request at a time; yields the time and how many jobs run."""
    now, running = 0.0, 0
    for wait, what, error, asked, jitter in history:
        now += wait
        if what == "end":
            running = max(0, running - 1)
            gate.ended(now, 60.0)
        elif what == "quota":
            gate.account.exhausted(now, QuotaExhaustedError(retry_after=asked))
        elif what == "submit":
            gate.take("submit", now)
            if error is None:
                running += 1
                gate.accepted(now, now, running, None)
            else:
                gate.refused(now, now, error(retry_after=asked), running=running, jitter=jitter)
        else:
            gate.take("look", now)
            if error in (None, CapacityError):
                gate.looked(now)
            else:
                gate.look_failed(now, now, error(retry_after=asked), jitter)
        yield now, running


@given(histories, st.booleans(), st.integers(0, 5))
def test_what_may_go_next_is_never_nan_and_never_before_now(history, learns, in_flight):
    gated = gate(learns_pace=learns)
    for now, running in lived(gated, history):
        assert gated.next_submit(now, in_flight, running) >= now
        assert gated.next_look(now, in_flight) >= now
        assert gated.next_control(now) >= now


@given(histories, st.booleans())
def test_while_nothing_is_under_way_something_may_go_at_a_known_time(history, learns):
    gated = gate(learns_pace=learns)
    for now, running in lived(gated, history):
        assert math.isfinite(gated.next_submit(now, 0, running))
        assert math.isfinite(gated.next_look(now, 0))
        assert now <= gated.next_control(now) <= now + POLICY.retry_after_cap


@given(histories)
def test_looks_and_other_requests_never_wait_longer_than_the_policy_allows(history):
    gated = gate()
    longest = max(POLICY.retry_after_cap, POLICY.maximum)
    before = 0.0
    for now, _ in lived(gated, history):
        if not gated.admission.shared:
            assert gated.next_look(now, 0) <= now + longest
        assert gated.next_control(now) <= now + longest
        before = now
    assert gated.next_control(before + 1e6) == before + 1e6


# What holds a submit back.


def test_a_submit_waits_for_the_last_of_all_that_hold_it_back():
    gated = gate()
    gated.refused(0.0, 0.0, GatewayUnavailableError(retry_after=10.0), running=0, jitter=1.0)
    assert gated.next_submit(0.0, 0, 0) == 10.0
    gated.admission.paused_until = 20.0
    assert gated.next_submit(0.0, 0, 0) == 20.0
    gated.account.exhausted(0.0, QuotaExhaustedError(retry_after=30.0))
    assert gated.next_submit(0.0, 0, 0) == 30.0


def test_a_pause_that_the_gateway_asks_for_holds_everything_back():
    gated = gate()
    gated.refused(0.0, 0.0, RateLimitError(retry_after=7.0), running=0, jitter=0.0)
    assert gated.next_submit(0.0, 0, 0) >= 7.0
    assert gated.next_look(0.0, 0) == 7.0
    assert gated.next_control(0.0) == 7.0


def test_a_refusal_says_that_the_gateway_is_there_and_an_outage_is_over():
    gated = gate()
    for at in (0.0, 100.0):
        gated.refused(at, at, ConnectionFailedError(), running=0, jitter=1.0)
    assert gated.next_submit(100.0, 1, 0) == math.inf
    gated.refused(200.0, 200.0, CapacityError(), running=3, jitter=1.0)
    assert gated.next_submit(200.0, 1, 1) == 200.0


def test_refusals_and_failures_of_one_epoch_count_once_for_the_account():
    for kind in ERRORS:
        gated = gate()
        for _ in range(64):
            gated.refused(10.0, 9.0, kind(), running=0, jitter=1.0)
        assert gated.account.failures == 1


@given(st.integers(1, 40), st.sampled_from(ERRORS))
def test_an_accepted_job_clears_the_failures_of_the_account(failures, kind):
    gated = gate()
    for number in range(failures):
        gated.refused(float(number), float(number), kind(), running=0, jitter=0.0)
    assert gated.account.failures == failures
    gated.accepted(100.0, 100.0, 1, None)
    assert gated.account.failures == 0


# Looks.


def test_looks_go_one_at_a_time_after_some_in_vain_and_submits_are_not_held_back_by_that():
    gated = gate()
    for number in range(LOOKS_IN_VAIN + 1):
        assert gated.next_look(100.0 * number, 63) == 100.0 * number
        gated.look_failed(100.0 * number, 100.0 * number, GatewayUnavailableError(), 1.0)
    assert gated.next_look(1000.0, 1) == math.inf
    assert gated.next_look(1000.0, 0) == 1000.0
    assert gated.next_submit(1000.0, 5, 5) == 1000.0
    gated.looked(1000.0)
    assert gated.next_look(1000.0, 63) == 1000.0


def test_a_look_that_is_answered_lets_a_submit_try_at_once_where_there_was_no_connection():
    gated = gate()
    for at in (0.0, 100.0, 200.0):
        gated.refused(at, at, ConnectionFailedError(), running=1, jitter=1.0)
    assert gated.next_submit(200.1, 0, 1) > 201.0
    gated.looked(200.1)
    assert gated.next_submit(200.1, 0, 1) == 200.1
    assert gated.next_submit(200.1, 1, 1) == math.inf


def test_looks_are_not_paced_until_one_of_them_is_refused():
    gated = gate()
    assert gated.looks_a_second() == math.inf
    for number in range(100):
        gated.take("look", 0.0)
        assert gated.next_look(0.0, number % 5) == 0.0
    gated.look_failed(1.0, 1.0, RateLimitError(), 0.0)
    assert gated.admission.shared


def test_the_users_rate_bounds_the_looks_a_second():
    assert gate(RateLimit(10), RateLimit(100, 60)).looks_a_second() == pytest.approx(100 / 60)
    assert gate(RateLimit(1000, 86_400)).looks_a_second() == math.inf


# What is left of a day.


days = st.lists(st.tuples(st.floats(0, 600), st.sampled_from(["submit", "look", "end"])), max_size=120)


@given(st.integers(2, 40), days)
def test_no_submit_takes_what_is_needed_for_one_look_at_each_job_that_is_paid(count, steps):
    gated = gate(RateLimit(count, 86_400))
    now, running = 0.0, 0
    for wait, what in steps:
        now += wait
        if what == "submit" and gated.free(now) and gated.next_submit(now, 0, running) <= now:
            gated.take("submit", now)
            assert gated.limiter.left(now) >= running
            running += 1
            gated.accepted(now, now, running, None)
        elif what == "look" and running and gated.free(now):
            gated.take("look", now)
        elif what == "end" and running:
            running -= 1


@pytest.mark.parametrize("running", [1, 5])
def test_a_submit_that_waits_for_more_of_the_day_knows_when_or_goes_after_an_end(running):
    gated = gate(RateLimit(10, 3600))
    for number in range(10 - running):
        gated.take("submit", float(number))
    assert gated.next_submit(20.0, 0, running) == 3600.0
    assert gated.next_submit(20.0, 0, max(0, running - 2)) == 20.0


def test_what_the_gateway_says_is_left_of_a_long_quota_is_kept_for_looks_too():
    gated = gate()
    for remaining in (6, 5):
        gated.limiter.told.heard(0.0, remaining, 7200.0, 0)
    until = gated.limiter.more_at(0.0)
    assert 0.0 < until <= 7200.0
    assert gated.next_submit(0.0, 0, 3) == 0.0
    assert gated.next_submit(0.0, 0, 4) == until
    assert gated.next_submit(until, 0, 5) == until


def test_submits_without_an_answer_will_need_a_look_each():
    gated = gate(RateLimit(10, 3600))
    for _ in range(4):
        gated.take("submit", 0.0)
    assert gated.next_submit(0.0, 2, 2) == 0.0
    assert gated.next_submit(0.0, 3, 2) == 3600.0


def test_a_day_is_not_spent_on_submits_before_the_first_is_answered():
    gated = gate(RateLimit(10, 86_400))
    sent = 0
    while gated.free(0.0) and gated.next_submit(0.0, sent, 0) <= 0.0:
        gated.take("submit", 0.0)
        sent += 1
    assert gated.limiter.left(0.0) >= sent - 1


# Limits on requests per time.


@given(st.lists(st.sampled_from(["control", "submit", "look"]), min_size=1, max_size=50))
def test_every_request_counts_in_the_users_limits_whatever_its_class(kinds):
    gated = gate(RateLimit(10, burst=5), RateLimit(1000, 3600))
    now = 0.0
    for number, kind in enumerate(kinds):
        now = max(now, gated.limiter.next_time(now))
        assert gated.free(now)
        gated.take(kind, now)
        assert gated.limiter.left(now) == 1000 - number - 1
    assert now >= (len(kinds) - 1) / 10 - 1e-6


def test_the_slots_that_were_learned_are_told():
    gated = gate()
    assert gated.slots is None
    gated.refused(0.0, 0.0, CapacityError(), running=7, jitter=1.0)
    assert gated.slots == 7


def test_without_limits_and_refusals_everything_goes_at_once():
    gated = gate()
    assert Counter([gated.next_submit(5.0, 63, 10_000), gated.next_look(5.0, 63), gated.next_control(5.0)]) == {5.0: 3}


def test_a_gateway_whose_pace_is_unknown_is_approached_with_one_submit():
    gated = gate(learns_pace=True)
    assert gated.next_submit(0.0, 0, 0) == 0.0
    assert gated.next_submit(0.0, 1, 0) == math.inf
    gated.accepted(0.1, 0.0, 1, None)
    assert gated.next_submit(0.1, 1, 1) == 0.1
    assert gated.next_submit(0.1, 2, 1) == math.inf


def test_a_pause_releases_no_herd():
    gated = gate(RateLimit(10, burst=5))
    gated.take("submit", 100.0)
    gated.refused(100.0, 100.0, RateLimitError(retry_after=10.0), running=0, jitter=0.0)
    assert gated.free(110.0)
    gated.take("look", 110.0)
    assert not gated.free(110.0)
