"""Laws of the pace that is learned from refusals."""

import math

import pytest
from flow_worlds import TokenBucket
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.flow.pace import DEPTH, FASTEST, SLOWEST, SURPRISE, Pace

RATES = st.floats(math.log(0.5), math.log(500)).map(math.exp)
SOON = 0.001
"""Seconds between two requests while nothing is known."""


class Sender:
    """Sends without end at the pace, to a gateway that answers at once."""

    def __init__(self, gateway):
        self.gateway, self.pace = gateway, Pace()
        self.now, self.began, self.accepted, self.refused = 0.0, 0.0, 0, 0

    def send(self, requests):
        self.began, self.accepted, self.refused = self.now, 0, 0
        for _ in range(requests):
            self.now = self.pace.next_time(self.now)
            self.pace.take(self.now)
            if self.gateway.takes(self.now):
                self.accepted += 1
                self.pace.accepted(self.now)
                self.now += SOON if self.pace.estimate is None else 0.0
            else:
                self.refused += 1
                self.pace.refused(self.now)
                self.now += 1 / self.gateway.rate if self.pace.estimate is None else 0.0
        return self

    def error(self):
        return abs(self.pace.estimate / self.gateway.rate - 1)


def enough(rate, burst):
    """Return how many requests show a rate: the burst, and some periods."""
    return 600 + int(2 * burst + 4 * rate)


@settings(max_examples=60)
@given(RATES, st.floats(0, 1))
def test_the_estimate_finds_the_rate_of_a_gateway_whatever_its_burst(rate, part):
    burst = 2 + part * max(0.0, 2 * rate - 2)
    sender = Sender(TokenBucket(rate, burst)).send(enough(rate, burst))

    assert sender.error() <= 0.05


@settings(max_examples=20)
@given(RATES)
def test_a_gateway_that_saves_nothing_up_is_not_taken_for_much_slower(rate):
    sender = Sender(TokenBucket(rate, 1)).send(enough(rate, 1))

    assert 0.8 <= sender.pace.estimate / rate <= 1.05


@settings(max_examples=20)
@given(RATES, st.floats(0.1, 2))
def test_once_it_knows_the_pace_it_is_refused_seldom_and_loses_little(rate, part):
    burst = max(2.0, part * rate)
    sender = Sender(TokenBucket(rate, burst)).send(enough(rate, burst)).send(1000)

    assert sender.refused <= 0.07 * 1000
    assert sender.accepted >= 0.95 * rate * (sender.now - sender.began)


@settings(max_examples=20)
@given(RATES, st.floats(1.2, 3.5))
def test_a_gateway_that_became_faster_is_made_use_of(rate, factor):
    sender = Sender(TokenBucket(rate, max(2.0, rate))).send(enough(rate, rate))
    sender.gateway.set_rate(rate * factor, sender.now)
    sender.send(2 * enough(rate * factor, rate)).send(enough(rate * factor, rate))

    assert sender.accepted >= 0.8 * rate * factor * (sender.now - sender.began)


@settings(max_examples=20)
@given(st.floats(3, 300), st.floats(0.3, 0.8))
def test_a_gateway_that_became_slower_is_not_pressed(rate, factor):
    sender = Sender(TokenBucket(rate, max(2.0, rate / 2))).send(enough(rate, rate))
    sender.gateway.set_rate(rate * factor, sender.now)
    sender.send(enough(rate, rate)).send(500)

    assert sender.pace.estimate <= 1.05 * rate * factor / (1 - SURPRISE)
    assert sender.refused <= (SURPRISE + 0.05) * 500


@pytest.mark.parametrize("factor", [0.3, 0.5])
def test_a_gateway_that_became_much_slower_is_found_out_within_a_period(factor):
    sender = Sender(TokenBucket(100.0, 2.0)).send(1500)
    since = sender.now
    sender.gateway.set_rate(100.0 * factor, since)
    while sender.error() > 0.25:
        sender.send(1)
        assert sender.now - since <= sender.pace.period / 2


@pytest.mark.parametrize("factor", [0.8, 0.7])
def test_a_gateway_that_became_a_little_slower_is_found_out_in_the_end(factor):
    sender = Sender(TokenBucket(10.0, 10.0)).send(600)
    sender.gateway.set_rate(10.0 * factor, sender.now)
    sender.send(5000).send(1000)

    assert sender.error() <= 0.05


def test_a_gateway_that_became_very_slow_is_not_pressed():
    sender = Sender(TokenBucket(1.0, 2.0)).send(600)
    sender.gateway.set_rate(0.3, sender.now)
    sender.send(600).send(300)

    assert sender.refused <= 0.3 * 300


@pytest.mark.parametrize("rest", [60.0, 3600.0])
def test_a_rest_does_not_make_the_pace_slower(rest):
    sender = Sender(TokenBucket(10.0, 10.0)).send(600)
    sender.now += rest
    sender.pace.rested()
    sender.send(300)

    assert sender.accepted >= 0.5 * 10.0 * (sender.now - sender.began)


def test_a_gateway_that_became_much_faster_is_made_use_of():
    sender = Sender(TokenBucket(1.0, 2.0)).send(300)
    sender.gateway.set_rate(100.0, sender.now)
    sender.send(5000)

    assert sender.pace.rate(sender.now) >= 50


@given(st.floats(0.01, 1000), st.lists(st.floats(0, 100), min_size=1, max_size=20), st.booleans())
def test_the_search_keeps_its_bounds_and_never_slows_down_by_itself(estimate, waits, young):
    pace = Pace(estimate=estimate, since=0.0, young=young)
    now, before = 0.0, 0.0
    for wait in waits:
        now += wait
        rate = pace.rate(now)
        assert SLOWEST * estimate <= rate <= FASTEST * estimate
        assert rate >= before
        before = rate
    assert pace.rate(now + 1e9) == FASTEST * estimate


@given(st.floats(0.01, 1000))
def test_after_a_refusal_the_pace_is_a_little_slower_and_back_after_a_period(estimate):
    pace = Pace(estimate=estimate, since=5.0, young=False)
    assert pace.rate(5.0) == pytest.approx((1 - DEPTH) * estimate)
    assert pace.rate(5.0 + pace.period) == pytest.approx(estimate)


def test_nothing_is_paced_before_the_first_refusal():
    pace = Pace()
    for _ in range(1000):
        assert pace.next_time(3.0) == 3.0
        pace.take(3.0)
        pace.accepted(3.0)
    assert pace.rate(3.0) == math.inf
    assert pace.gap == 0.0


def learned(rate=10.0):
    sender = Sender(TokenBucket(rate, rate)).send(enough(rate, rate))
    return sender.pace, sender.now


def test_what_is_forgotten_holds_nothing_back():
    pace, now = learned()
    pace.forget()
    for _ in range(100):
        assert pace.next_time(now) == now
        pace.take(now)
    assert (pace.estimate, pace.empty_at, pace.bucket, pace.acks, pace.young) == (None, None, None, 0, True)


def test_a_search_that_begins_again_keeps_the_estimate_and_releases_no_herd():
    pace, now = learned()
    before = pace.estimate
    now += 3600.0
    pace.restart(now)
    assert pace.estimate == before
    assert pace.next_time(now) == pytest.approx(now + 1 / ((1 - DEPTH) * before))
    assert pace.rate(now) < before


def test_there_is_no_search_to_begin_again_where_nothing_is_known():
    pace = Pace()
    pace.restart(5.0)
    assert pace == Pace()


def test_after_a_refusal_there_is_a_gap():
    pace, now = learned()
    pace.refused(now)
    assert pace.next_time(now) >= now + 0.9 * pace.gap


def test_an_early_refusal_alone_does_not_lower_the_estimate():
    pace, now = learned()
    pace.restart(now)
    for _ in range(5):
        now = pace.next_time(now)
        pace.take(now)
        pace.accepted(now)
    before = pace.estimate
    assert not pace.refused(now)
    assert pace.estimate == before


@given(st.integers(0, 30), st.floats(0.001, 1e6))
def test_whatever_was_seen_the_next_request_has_a_time(acks, between):
    pace = Pace()
    pace.refused(0.0)
    for _ in range(acks):
        pace.accepted(between)
    pace.refused(between)
    assert pace.estimate == pytest.approx((acks + 0.5) / between)
    assert between <= pace.next_time(between) <= between + 1.05 / ((1 - DEPTH) * pace.estimate)


def test_an_estimate_that_looks_share_begins_young():
    pace, now = learned()
    pace.share(now)
    assert pace.young
    assert pace.acks == 0


def test_an_estimate_is_not_raised_by_a_pace_that_nobody_made_use_of():
    pace, now = learned()
    before = pace.estimate
    for _ in range(200):
        now += 10.0
        pace.take(now)
        pace.accepted(now)
    assert pace.estimate == before


def test_what_was_restored_is_searched_around_again():
    pace, now = learned()
    before = pace.estimate
    pace.forget()
    pace.restore(before, now)
    assert pace.estimate == before
    assert pace.rate(now) == pytest.approx((1 - DEPTH) * before)
    pace.restore(None, now)
    assert pace.next_time(now) == now
