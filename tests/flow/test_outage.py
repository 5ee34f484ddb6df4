"""Laws of outages: what waits, how long, and what ends it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_async.flow.outage import Outage
from kling_async.settings import RetryPolicy

POLICY = RetryPolicy()
asks = st.none() | st.floats(0, 1e9)
histories = st.lists(st.tuples(st.floats(0, 300), st.floats(0, 1), asks, st.booleans()), max_size=60)


def failing(outage, times, now=0.0):
    """Let requests fail one after another, each sent as soon as it may be; return the time."""
    for _ in range(times):
        now = outage.next_try(now, 0)
        outage.failed(now, now, 1.0)
    return now


@given(st.integers(1, 5), histories)
def test_no_wait_is_longer_than_the_policy_allows(patience, history):
    outage = Outage(POLICY, patience)
    now = 0.0
    longest = max(POLICY.maximum, POLICY.retry_after_cap)
    for wait, jitter, asked, unreachable in history:
        now += wait
        outage.failed(now, now, jitter, asked or 0.0, unreachable=unreachable)
        assert now <= outage.next_try(now, 0) <= now + longest


@given(st.integers(1, 5), histories)
def test_something_may_always_be_tried_while_nothing_is_under_way(patience, history):
    outage = Outage(POLICY, patience)
    now = 0.0
    for wait, jitter, asked, unreachable in history:
        now += wait
        outage.failed(now, now, jitter, asked or 0.0, unreachable=unreachable)
        assert math.isfinite(outage.next_try(now, 0))


@given(st.integers(1, 5), st.integers(1, 64))
def test_requests_wait_from_the_last_failure_that_is_borne_on_and_one_more_lets_them_go_one_at_a_time(patience, others):
    outage = Outage(POLICY, patience)
    assert failing(outage, patience - 1) == 0.0
    assert outage.next_try(0.0, others) == 0.0
    outage.failed(0.0, 0.0, 1.0)
    assert 0.0 < outage.next_try(0.0, others) < math.inf
    now = outage.next_try(0.0, others)
    outage.failed(now, now, 1.0)
    assert outage.next_try(now, others) == math.inf
    assert outage.next_try(now + 1000, 0) == now + 1000


@given(st.integers(1, 5), st.integers(1, 20), st.booleans())
def test_an_answer_ends_it(patience, failures, unreachable):
    outage = Outage(POLICY, patience)
    for number in range(failures):
        outage.failed(float(number), float(number), 1.0, unreachable=unreachable)
    outage.answered()
    assert outage.next_try(float(failures), 63) == failures
    assert outage.failures == 0


@given(st.integers(2, 64))
def test_failures_of_requests_that_left_together_count_once(number):
    outage = Outage(POLICY)
    for each in range(number):
        outage.failed(10.0 + each / 100, 9.0 + each / 100, 1.0)
    assert outage.failures == 1
    assert outage.until == 10.0 + POLICY.initial


def test_waits_double_up_to_the_longest():
    outage = Outage(POLICY)
    now, waits = 0.0, []
    for _ in range(8):
        outage.failed(now, now, 1.0)
        waits.append(outage.next_try(now, 0) - now)
        now += waits[-1]
    assert waits == pytest.approx([0.5, 1, 2, 4, 8, 16, 20, 20])


def test_what_the_gateway_asks_for_is_waited_although_failures_are_still_borne():
    outage = Outage(POLICY, patience=3)
    outage.failed(0.0, 0.0, 1.0, 7.0)
    assert outage.next_try(0.0, 0) == 7.0


def test_a_later_failure_does_not_shorten_the_wait():
    outage = Outage(POLICY)
    outage.failed(0.0, 0.0, 1.0, 60.0)
    outage.failed(1.0, 1.0, 0.0)
    assert outage.next_try(1.0, 0) == 60.0


@pytest.mark.parametrize(("unreachable", "until"), [(True, 1.0), (False, 60.0)])
def test_only_where_there_was_no_connection_an_answer_to_something_else_lets_one_try_at_once(unreachable, until):
    outage = Outage(POLICY)
    for at in (0.0, 0.5):
        outage.failed(at, at, 1.0, 60.0 - at, unreachable=unreachable)
    outage.reached(1.0)
    assert outage.next_try(1.0, 0) == until
    assert outage.next_try(1.0, 1) == math.inf  # one only: it is not over


def test_an_answer_to_something_else_makes_no_wait_longer():
    outage = Outage(POLICY)
    outage.reached(5.0)
    assert outage.next_try(1.0, 0) == 1.0
    outage.failed(2.0, 2.0, 1.0, unreachable=True)
    outage.reached(50.0)
    assert outage.next_try(2.1, 0) == 2.0 + POLICY.initial
