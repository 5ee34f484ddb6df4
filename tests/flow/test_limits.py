"""Laws of the limiters."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from kling_async.flow.limits import Bucket, Limiter, Window, limit_of
from kling_async.settings import RateLimit, rate_limits

rates = st.builds(
    RateLimit,
    count=st.floats(0.1, 500),
    per=st.sampled_from([0.5, 1.0, 60.0]),
    burst=st.none() | st.floats(1, 50),
)
pauses = st.lists(st.floats(0, 5) | st.just(0.0), min_size=1, max_size=120)
starts = st.sampled_from([0.0, 1e6, 1.7e9])


def departures(limiter, waits, now):
    """Send greedily, idling `waits` between attempts; returns when each request left."""
    left = []
    for wait in waits:
        now += wait
        now = max(now, limiter.next_time(now))
        assert limiter.ready(now)
        limiter.take(now)
        left.append(now)
    return left


@given(rates, pauses, starts)
def test_no_window_ever_holds_more_than_its_rate_allows_beyond_the_burst(limit, waits, start):
    times = departures(Limiter([limit], start), waits, start)

    for first, last in itertools.combinations(range(len(times)), 2):
        window = times[last] - times[first]
        assert last - first + 1 <= limit.rate * window + limit.depth + 1e-3


@given(rates, st.integers(20, 400), starts)
def test_the_long_run_rate_is_exact_when_there_is_always_something_to_send(limit, number, start):
    times = departures(Limiter([limit], start), [0.0] * number, start)

    # It starts with one token: the n-th request leaves when n - 1 tokens have come in.
    assert abs((times[-1] - start) - (number - 1) / limit.rate) <= 1e-3


@given(rates, starts)
def test_a_bucket_starts_with_one_token(limit, start):
    limiter = Limiter([limit], start)
    assert limiter.ready(start)
    limiter.take(start)
    assert limiter.next_time(start) > start


@given(rates, st.floats(0, 1000))
def test_a_pause_saves_up_no_more_than_one_token(limit, pause):
    limiter = Limiter([limit], 0.0)
    limiter.drain(pause)
    assert limiter.next_time(pause) <= pause + 1e-6 + 1 / limit.rate
    limiter.take(pause)
    assert limiter.next_time(pause) > pause


@given(st.integers(1, 30), st.floats(3600, 86_400), st.lists(st.floats(0, 10_000), min_size=1, max_size=100))
def test_a_quota_is_never_exceeded_in_any_window_and_not_spread_within_it(count, per, waits):
    times = departures(Limiter([RateLimit(count, per)], 0.0), waits, 0.0)

    for first in range(len(times) - count):
        assert times[first + count] - times[first] >= per - 1e-6
    burst = departures(Limiter([RateLimit(count, per)], 0.0), [0.0] * count, 0.0)
    assert burst == [0.0] * count


def test_ten_a_second_and_a_thousand_a_day_hold_together():
    limiter = Limiter(rate_limits(["10/s", "1000/day"]), 0.0)
    times = departures(limiter, [0.0] * 1001, 0.0)

    assert abs(times[999] - 99.9) < 0.2
    assert abs(times[1000] - 86_400) < 1


def test_a_day_is_a_window_and_a_second_is_a_bucket():
    assert isinstance(limit_of(RateLimit(1000, 86_400), 0.0), Window)
    assert isinstance(limit_of(RateLimit(10), 0.0), Bucket)
    assert isinstance(limit_of(RateLimit(1000, 86_400, burst=5), 0.0), Bucket)


def test_a_large_quota_remembers_groups_and_still_holds():
    window = Window(1_000_000, 86_400)
    for _ in range(1_000_000):
        window.take(5.0)
    assert window.next_time(6.0) == 86_405.0
    assert len(window._times) <= 10_001


def test_without_limits_everything_may_leave_at_once():
    limiter = Limiter([], 0.0)
    assert limiter.ready(0.0)
    assert limiter.next_time(3.0) == 3.0
