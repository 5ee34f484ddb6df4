"""Laws of the price of a look."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.flow.durations import Learner
from kling_async.flow.price import (
    CHEAPEST,
    DEAREST,
    FEW,
    FEWEST,
    FLOOR,
    MEMORY,
    SECONDS,
    SHARE,
    TRIM_LEAST,
    TRIM_MOST,
    Demand,
    Price,
    Scarcity,
)

LATE = 1e6
"""Looks are so late that the price is not trimmed downwards."""


def learned(median, seed=0):
    """Return the learner of a kind of jobs that take about so long."""
    learner, random = Learner(), Random(seed)
    for _ in range(100):
        lasts = random.lognormvariate(math.log(median), 0.35)
        learner.ended(lasts, lasts)
    return learner


KINDS = [learned(median) for median in (15, 60, 100, 300)]


def made(own=1.0, rates=(1.0,), seconds=300.0, shortest=1.0, kinds=None):
    """Return a price after so many seconds of jobs that were accepted at these rates, kind by kind."""
    price = Price(own, shortest)
    for kind, rate in zip(kinds or KINDS, rates, strict=False):
        for number in range(int(rate * seconds)):
            price.accepted(kind, number / rate)
    return price, seconds


def planned(price, now, value):
    """Return the looks a second that follow from a price, and the jobs a second."""
    rates = [(demand.current(now), kind) for kind, demand in price.demands.items()]
    looks = sum(rate * kind.law(now).looks(value, price.shortest) for rate, kind in rates)
    return looks, sum(rate for rate, _ in rates)


demands = st.lists(st.floats(0.05, 5), min_size=1, max_size=4)
owns = st.floats(math.log(0.05), math.log(50)).map(math.exp)
scarcities = st.builds(
    Scarcity,
    requests=st.just(math.inf) | st.floats(0.1, 200),
    left=st.just(math.inf) | st.floats(0, 1e5),
    running=st.integers(0, 10_000),
    waiting=st.integers(0, 10_000),
    slots=st.none() | st.integers(1, 1000),
    late=st.floats(0, 1000),
)


# Bounds.


@settings(max_examples=60)
@given(owns, demands, st.lists(scarcities, min_size=1, max_size=4))
def test_the_price_keeps_its_bounds_whatever_is_scarce(own, rates, history):
    price, now = made(own, rates, 30.0)
    for scarcity in history:
        price.judge(now, scarcity)
        assert CHEAPEST * own - 1e-12 <= price.value <= max(DEAREST, own)
        assert TRIM_LEAST <= price.trim <= TRIM_MOST
        now += SECONDS


@given(owns, demands, st.integers(FEW, 1000), st.floats(0, 100))
def test_without_limits_the_price_is_the_users(own, rates, running, late):
    price, now = made(own, rates, 30.0)
    price.judge(now, Scarcity(running=running, waiting=5, late=late))
    assert price.value == own


@given(owns, st.integers(0, 2 * FEW), st.integers(0, 2 * FEW))
def test_the_last_few_jobs_are_looked_at_for_less(own, running, more):
    few, now = made(own)
    many, _ = made(own)
    few.judge(now, Scarcity(running=running))
    many.judge(now, Scarcity(running=running + more))
    assert FEWEST * own <= few.value <= many.value <= own


def test_the_price_falls_with_the_number_of_the_last_jobs():
    price, now = made(2.0)
    price.judge(now, Scarcity(running=FEW // 2))
    assert price.value == pytest.approx(2.0 * (FEW // 2) / FEW)
    price.judge(now, Scarcity(running=1))
    assert price.value == pytest.approx(2.0 * FEWEST)


@given(owns, st.integers(1, 100), st.integers(FEW, 100))
def test_before_any_job_was_accepted_looks_are_not_scarce(own, requests, running):
    price = Price(own, 1.0)
    price.judge(0.0, Scarcity(requests=float(requests), running=running))
    assert price.value == pytest.approx(own, rel=1 - TRIM_LEAST)


def test_scarce_looks_make_no_price_lower_than_the_users():
    price, now = made(2 * DEAREST)
    price.judge(now, Scarcity(requests=10.0, running=100))
    assert price.value >= 2 * DEAREST


# Slots.


@given(owns, st.integers(1, 1000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_the_more_jobs_wait_for_a_slot_the_cheaper_is_a_look(own, slots, waiting, more):
    few, now = made(own)
    many, _ = made(own)
    few.judge(now, Scarcity(slots=slots, waiting=waiting))
    many.judge(now, Scarcity(slots=slots, waiting=waiting + more))
    assert CHEAPEST * own <= many.value <= few.value <= own


def test_an_idle_slot_delays_all_that_wait():
    price, now = made(10.0)
    price.judge(now, Scarcity(slots=10, waiting=10, running=10))
    assert price.value == pytest.approx(5.0)
    price.judge(now, Scarcity(slots=10, waiting=10_000, running=10))
    assert price.value == pytest.approx(10.0 * CHEAPEST)
    price.judge(now, Scarcity(slots=None, waiting=10_000, running=10))
    assert price.value == 10.0


# Requests.


@settings(max_examples=60)
@given(owns, demands, st.floats(0.5, 100), st.floats(1, 20))
def test_the_fewer_looks_are_allowed_the_dearer_is_each(own, rates, requests, factor):
    scarce, now = made(own, rates, 60.0)
    plenty, _ = made(own, rates, 60.0)
    scarce.judge(now, Scarcity(requests=requests))
    plenty.judge(now, Scarcity(requests=requests * factor))
    assert scarce.value >= plenty.value * (1 - 1e-9)


@settings(max_examples=40)
@given(owns, demands, st.floats(0, 10_000), st.floats(1, 20), st.integers(1, 1000))
def test_the_less_is_left_of_a_quota_the_dearer_is_a_look(own, rates, left, factor, running):
    scarce, now = made(own, rates, 60.0)
    plenty, _ = made(own, rates, 60.0)
    scarce.judge(now, Scarcity(left=left, running=running))
    plenty.judge(now, Scarcity(left=left * factor, running=running))
    assert scarce.value >= plenty.value * (1 - 1e-9)


@settings(max_examples=60)
@given(owns, demands, st.floats(0.5, 6), st.integers(0, 1000))
def test_the_looks_that_follow_from_the_price_never_exceed_what_is_allowed(own, rates, scarce, waiting):
    price, now = made(own, rates, 60.0)
    requests = scarce * sum(rates)
    price.judge(now, Scarcity(requests=requests, waiting=waiting, late=LATE))
    looks, jobs = planned(price, now, price.value)
    if price.value < DEAREST:
        assert looks <= SHARE * max(FLOOR * requests, requests - jobs) * 1.02


@settings(max_examples=40)
@given(demands, st.floats(100, 10_000), st.integers(1, 1000))
def test_the_looks_that_follow_from_the_price_never_exceed_what_is_left_of_a_quota(rates, left, running):
    price, now = made(1.0, rates, 60.0)
    price.judge(now, Scarcity(left=left, running=running, late=LATE))
    looks, jobs = planned(price, now, price.value)
    if price.value < DEAREST:
        assert looks / jobs <= max(1.0, left / running) * 1.02


@settings(max_examples=40)
@given(st.floats(0.1, 2), demands, st.floats(1.2, 4))
def test_looks_are_no_dearer_than_they_must_be(own, rates, scarce):
    price, now = made(own, rates, 60.0)
    requests = scarce * sum(rates)
    price.judge(now, Scarcity(requests=requests))
    looks, jobs = planned(price, now, price.value * 0.9)
    if price.value > own * 1.01:
        assert looks > 0.9 * SHARE * max(FLOOR * requests, requests - jobs)


def test_many_kinds_that_are_made_seldom_are_looked_at_within_the_limit_too():
    kinds = [learned(100, seed) for seed in range(60)]
    price, now = made(1.0, [0.05] * 60, 300.0, kinds=kinds)
    price.judge(now, Scarcity(requests=5.0, late=LATE))
    looks, _ = planned(price, now, price.value)
    assert looks <= 5.0


# Being late, and time.


def test_looks_that_are_late_make_looks_dearer_and_it_goes_back():
    price, now = made(1.0, [1.0, 1.0], 300.0)
    scarcity = {"requests": 6.0, "running": 200}
    values = []
    for late in [0.0] * 5 + [1000.0] * 40 + [0.0] * 80:
        price.judge(now, Scarcity(**scarcity, late=late))
        values.append(price.value)
        for kind in KINDS[:2]:
            for number in range(5):
                price.accepted(kind, now + number)
        now += SECONDS
    assert values[44] > 1.3 * values[4]
    assert values[-1] < 0.8 * values[44]


def test_the_price_is_judged_anew_every_few_seconds():
    price = Price(1.0, 1.0)
    assert price.stale(0.0)
    price.judge(0.0, Scarcity())
    assert not price.stale(SECONDS - 0.01)
    assert price.stale(SECONDS)


def test_a_demand_that_has_ended_makes_looks_cheap_again():
    price, now = made(1.0, [5.0], 300.0)
    price.judge(now, Scarcity(requests=10.0, running=100))
    assert price.value > 1.0
    price.judge(now + 3600.0, Scarcity(requests=10.0, running=100))
    assert price.value == 1.0


@settings(max_examples=20)
@given(st.floats(0.05, 20))
def test_the_demand_is_the_rate_of_the_last_minutes(rate):
    demand = Demand()
    for number in range(int(600 * rate)):
        demand.count(number / rate)
    # Just before and just after a job it is a little off.
    assert demand.current(600.0) == pytest.approx(rate, rel=0.05, abs=1.5 / MEMORY)


def test_a_kind_that_nobody_makes_has_no_demand():
    assert Demand().current(1e6) == 0.0
