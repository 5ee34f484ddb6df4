"""The laws of the simulated gateways' limits, whatever clients do."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulation.limits import Bucket, Slots, Steps, Window
from benchmarks.simulation.server import Manners, Server

gaps = st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=200)
rates = st.floats(0.2, 50)


def accepted(limit, gaps, duration=1.0):
    """Ask after each gap; return the times at which the limit allowed it."""
    now, times = 0.0, []
    for gap in gaps:
        now += gap
        due = limit.next_time(now)
        assert due >= now
        if due == now:
            limit.take(now, now + duration)
            times.append(now)
        else:
            limit.refuse(now)
    return times


@given(gaps, rates, rates, st.floats(0, 60), st.integers(1, 50), st.booleans())
def test_a_bucket_never_allows_more_than_its_rate_and_its_burst(gaps, first, then, change, burst, penal):
    times = accepted(Bucket(Steps(first, then, change), burst, penal), gaps)
    for begin in range(len(times)):
        for end in range(begin, len(times)):
            since, until = times[begin], times[end]
            before = max(0.0, min(until, change) - since) * first
            after = max(0.0, until - max(since, change)) * then
            assert end - begin + 1 <= before + after + burst + 1e-6


@given(gaps, rates, rates, st.floats(0, 60), st.integers(1, 20))
def test_a_bucket_says_truly_when_it_has_a_token(gaps, first, then, change, burst):
    bucket = Bucket(Steps(first, then, change), burst)
    now = 0.0
    for gap in gaps:
        now = bucket.next_time(now + gap)
        assert bucket.next_time(now) == now
        bucket.take(now, now)


def test_a_penal_bucket_lets_nobody_through_who_hammers():
    kind, stern = (accepted(Bucket(Steps(2.0), 1, penal), [0.1] * 100) for penal in (False, True))
    assert len(kind) == pytest.approx(20, abs=1)
    assert len(stern) == 1


@given(gaps, st.integers(1, 20), st.floats(0.5, 10), st.floats(-10, 0))
def test_a_window_never_allows_more_than_its_count(gaps, count, per, phase):
    times = accepted(Window(count, per, phase), gaps)
    windows = [math.floor((at - phase) / per + 1e-9) for at in times]
    assert all(windows.count(number) <= count for number in set(windows))


@given(gaps, st.integers(1, 10), st.integers(1, 10), st.floats(0, 60), st.floats(0.1, 20))
def test_there_are_never_more_running_jobs_than_slots(gaps, first, then, change, duration):
    most = Steps(first, then, change)
    times = accepted(Slots(most), gaps, duration)
    for at in times:
        running = sum(begun <= at < begun + duration - 1e-9 for begun in times)
        before = sum(begun < at < begun + duration - 1e-9 for begun in times)
        assert running <= most.value(at) or running == before + 1 <= most.value(at)


@given(gaps, st.integers(1, 10), st.integers(1, 10), st.floats(0, 60), st.lists(st.floats(0.1, 20), min_size=1))
def test_slots_say_truly_when_one_is_free(gaps, first, then, change, durations):
    slots = Slots(Steps(first, then, change))
    now = 0.0
    for number, gap in enumerate(gaps):
        now = slots.next_time(now + gap)
        assert slots.next_time(now) == now
        slots.take(now, now + durations[number % len(durations)])


def test_a_gateway_keeps_a_ledger():
    limits = (Bucket(Steps(1.0), 2), Slots(Steps(2)))
    server = Server.of(limits, iter([10.0] * 10), Manners(retry_after=True, codes=True, counts_polls=True))
    assert [server.submit(0.0, name).job for name in "ab"] == [0, 1]
    refused = server.submit(0.0, "c")
    assert (refused.job, refused.retry_after, refused.code) == (None, 10, "TOO_MANY_TASKS")
    assert server.poll(0.0, 0).retry_after == 1
    assert server.poll(1.0, 0).done is False
    assert server.poll(10.0, 0).done is True
    assert server.submit(10.0, "a").job == 2
    ledger = server.ledger
    assert (ledger.accepted, ledger.ended, ledger.polls) == ([0.0, 0.0, 10.0], [10.0, 10.0, 20.0], [2, 0, 0])
    assert (ledger.refused_submits, ledger.refused_polls, ledger.duplicates) == (1, 1, 1)


def test_a_plain_gateway_says_nothing_of_why_and_counts_no_looks():
    server = Server.of([Bucket(Steps(1.0), 1)], iter([10.0]))
    server.submit(0.0, "a")
    refused = server.submit(0.0, "b")
    assert (refused.retry_after, refused.code) == (None, None)
    assert all(server.poll(0.0, 0).job == 0 for _ in range(5))
