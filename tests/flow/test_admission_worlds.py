"""Admission against simulated gateways: how much of them it uses, and how often it is refused for that."""

import itertools
import math
from random import Random

import pytest
from flow_worlds import Chance, Never, Slots, TokenBucket, World
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_async.errors import CapacityError, RateLimitError
from kling_async.flow.admission import PROBE_MOST
from kling_async.settings import RetryPolicy

POLICY = RetryPolicy()
SEEDS = st.integers(0, 10_000)


# A gateway that minds the pace.


@settings(max_examples=12)
@given(st.floats(math.log(2), math.log(100)).map(math.exp), st.floats(0.3, 2), SEEDS)
def test_what_a_gateway_gives_out_is_used_and_it_is_refused_seldom(rate, part, seed):
    burst = max(3.0, part * rate)
    world = World(TokenBucket(rate, burst), seed=seed).run(seconds=60)
    used, refused = len(world.accepted), len(world.refused)
    world.run(seconds=60)

    assert used >= 0.8 * (burst + 60 * rate)
    assert len(world.accepted) - used >= 0.93 * 60 * rate
    assert len(world.refused) - refused <= 0.1 * 60 * rate
    assert world.admission.slots.level is None
    assert abs(world.admission.pace.estimate / rate - 1) <= 0.1


@settings(max_examples=10)
@given(SEEDS)
def test_a_gateway_that_slows_down_is_followed(seed):
    world = World(TokenBucket(20.0, 20.0), seed=seed).run(seconds=60)
    world.gateway.set_rate(8.0, world.now)
    world.run(seconds=30)
    used, refused = len(world.accepted), len(world.refused)
    world.run(seconds=60)

    assert len(world.accepted) - used >= 0.85 * 8.0 * 60
    assert len(world.refused) - refused <= 0.15 * 8.0 * 60


@pytest.mark.parametrize("rest", [60.0, 3600.0])
def test_a_rest_costs_nothing(rest):
    world = World(TokenBucket(10.0, 10.0), lasts=lambda: 5.0).run(seconds=60)
    world.rest(rest)
    used = len(world.accepted)
    world.run(seconds=60)

    assert len(world.accepted) - used >= 0.5 * 10.0 * 60


def test_a_slow_pace_is_not_taken_for_slots():
    world = World(TokenBucket(0.5, 1.0)).run(seconds=2000)

    assert len(world.accepted) >= 0.5 * 0.5 * 2000


# A gateway that minds how many jobs run.


@settings(max_examples=10)
@given(st.integers(2, 60), st.sampled_from([RateLimitError, CapacityError]), SEEDS)
def test_the_slots_of_a_gateway_are_found_and_kept_busy(slots, error, seed):
    random = Random(seed)
    lasts = lambda: random.lognormvariate(math.log(60), 0.4)  # noqa: E731
    world = World(Slots(slots), lasts=lasts, seed=seed, error=error).run(seconds=600)
    used, refused = len(world.accepted), len(world.refused)
    world.run(seconds=1200)

    assert world.admission.slots.level in (slots - 1, slots)
    mean = 60 * math.exp(0.4**2 / 2)
    assert len(world.accepted) - used >= 0.85 * 1200 * slots / mean
    assert len(world.refused) - refused <= 1200 * slots / mean / 2


def test_a_gateway_with_a_single_slot_is_not_pressed():
    world = World(Slots(1)).run(seconds=3600)

    assert len(world.refused) <= len(world.accepted)


@settings(max_examples=8)
@given(st.integers(3, 30), SEEDS)
def test_slots_that_became_more_are_found_and_fewer_are_respected(slots, seed):
    random = Random(seed)
    world = World(Slots(slots), lasts=lambda: random.uniform(20, 60), seed=seed).run(seconds=600)
    world.gateway.slots = 2 * slots
    world.run(seconds=1800)
    assert world.admission.slots.level is None or world.admission.slots.level >= 1.5 * slots
    world.gateway.slots = slots
    world.run(seconds=600)
    assert world.admission.slots.level is not None
    assert world.admission.slots.level <= slots + 1


# A gateway that refuses by chance.


@settings(max_examples=10)
@given(st.sampled_from([2.0, 10.0, 50.0]), st.floats(0, 0.05), SEEDS)
def test_few_refusals_by_chance_do_not_drive_the_pace_down(rate, share, seed):
    lowest = math.inf

    def watch(world):
        nonlocal lowest
        lowest = min(lowest, world.admission.pace.estimate or math.inf)

    gateway = Chance(0.0, Random(seed), TokenBucket(rate, rate))
    world = World(gateway, seed=seed, lasts=lambda: 5.0).run(seconds=60)
    world.watch, gateway.share = watch, share
    world.run(requests=300)

    assert lowest >= rate / 3


@pytest.mark.xfail(reason="each refusal that ends a period lowers the estimate, by chance or not")
@pytest.mark.parametrize("rate", [50.0])
def test_many_refusals_by_chance_do_not_drive_the_pace_down(rate):
    lowest = math.inf

    def watch(world):
        nonlocal lowest
        lowest = min(lowest, world.admission.pace.estimate or math.inf)

    for seed in range(3):
        gateway = Chance(0.0, Random(seed), TokenBucket(rate, rate))
        world = World(gateway, seed=seed, lasts=lambda: 5.0).run(seconds=60)
        world.watch, gateway.share = watch, 1 / 3
        world.run(requests=200)
    assert lowest >= rate / 3


def test_a_gateway_that_minds_the_pace_and_refuses_by_chance_is_not_pressed():
    world = World(Chance(0.1, Random(1), TokenBucket(20.0, 20.0)), seed=1)
    by_chance = False
    for _ in range(20):
        accepted, refused = len(world.accepted), len(world.refused)
        world.run(seconds=20)
        assert len(world.refused) - refused <= len(world.accepted) - accepted
        by_chance = by_chance or world.admission.random_until > world.now
    assert by_chance


# A gateway that refuses everything.


@settings(max_examples=10)
@given(
    st.sampled_from([0, 1, 5, 100]),
    st.sampled_from([RateLimitError, CapacityError]),
    st.sampled_from([None, 1.0, 60.0, 1e6]),
    st.sampled_from([60.0, 1e9]),
    SEEDS,
)
def test_a_gateway_that_refuses_everything_is_asked_seldom_and_never_given_up(jobs, kind, asked, lasts, seed):
    world = World(Never(jobs), error=lambda: kind(retry_after=asked), lasts=lambda: lasts, seed=seed)
    world.run(seconds=3600)
    gaps = [later - earlier for earlier, later in itertools.pairwise(world.refused)]

    assert len(world.accepted) == jobs
    assert 3600 / 125 <= len(world.refused) <= 4 * 3600 / PROBE_MOST
    assert max(gaps) <= POLICY.retry_after_cap + 1
    assert world.refused[-1] > 3600 - POLICY.retry_after_cap - 1
    later = [gap for at, gap in zip(world.refused, gaps, strict=False) if at > 600]
    assert sum(later) / len(later) >= 0.4 * PROBE_MOST


@settings(max_examples=10)
@given(SEEDS, st.floats(10, 2000))
def test_a_gateway_that_comes_back_is_used_again_soon(seed, away):
    gateway = TokenBucket(10.0, 10.0)
    world = World(gateway, seed=seed, lasts=lambda: 5.0).run(seconds=60)
    world.gateway = Never()
    world.run(seconds=away)
    world.gateway, back = gateway, world.now
    world.run(seconds=60)

    assert world.accepted[-1] > back + 30
    first = next(at for at in world.accepted if at > back)
    assert first <= back + PROBE_MOST + 1
