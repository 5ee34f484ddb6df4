"""Clients in simulated worlds: nobody beats the ideal, every job is made once, and a seed says everything."""

import asyncio
import math
from itertools import islice
from random import Random
from statistics import fmean

import pytest

from benchmarks.simulation.arrivals import CLIENTS as LOOKING
from benchmarks.simulation.arrivals import LAW, Setting, noticed
from benchmarks.simulation.clients import CLIENTS
from benchmarks.simulation.ideal import ideal
from benchmarks.simulation.law import LogNormal, Schedules, bound, fixed, root_integral
from benchmarks.simulation.runs import one
from benchmarks.simulation.worlds import WORLDS, World, rate, slots

SMALL = 20
"""One job in so many."""


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("world", ["rate10", "window20tells", "rate10shared", "slots20to10", "rate10slots100codes"])
def test_nobody_beats_the_ideal_and_every_job_is_made_once(client, world):
    found = one(client, world, seed=1, share=SMALL)
    assert found.makespan >= 1
    assert found.span >= 1
    assert (found.lost, found.duplicates) == (0, 0)
    assert found.delay > 0
    assert found.polls >= 1


@pytest.mark.parametrize("world", WORLDS)
def test_every_world_has_an_ideal(world):
    best = ideal(WORLDS[world].smaller(SMALL), seed=1)
    assert 0 <= best.span < best.makespan < math.inf


def test_the_ideal_is_what_arithmetic_says():
    steady = World(10, (rate(2, burst=1),), median=1e-9)
    assert ideal(steady, 0).span == pytest.approx(4.5)
    alone = World(10, (slots(1),))
    assert ideal(alone, 0).makespan == pytest.approx(sum(alone.durations(0)))


@pytest.mark.parametrize("client", CLIENTS)
def test_a_seed_says_everything(client):
    first, again, other = (one(client, "rate10slots100", seed, share=SMALL) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_run_without_end_is_ended(monkeypatch):
    async def idle(line, world, seed):
        await line.submit("take 0")
        while True:
            await asyncio.sleep(10)

    monkeypatch.setitem(CLIENTS, "idle", idle)
    assert one("idle", "rate10", seed=1, share=50).lost == 20


@pytest.mark.parametrize("client", LOOKING)
def test_ends_are_noticed(client):
    found = noticed(client, Setting(jobs=60, looks=3.0, warm_up=200.0, measured=100.0), seed=1)
    assert found.outcomes > 30
    assert 0 < found.mean < 60
    assert found.half <= found.most
    assert 1 <= found.looks < 6


def test_a_steady_stream_is_looked_at_as_often_as_allowed():
    found = noticed("robin", Setting(jobs=500, looks=3.0, warm_up=400.0, measured=400.0), seed=1)
    assert found.looks == pytest.approx(3, rel=0.1)
    assert found.mean == pytest.approx(fixed(LAW, 38.3).delay, rel=0.1)


def test_the_best_schedule_lies_between_the_bound_and_fixed_looks():
    known = Schedules(LAW, step=1.0)
    delays = [known.with_looks(looks).delay for looks in (1.5, 3.0, 6.0)]
    assert delays == sorted(delays, reverse=True)
    assert delays == pytest.approx([25.0, 9.7, 4.6], rel=0.01)
    assert delays[0] > bound(LAW, 1.5)
    assert fixed(LAW, 38.26).looks == pytest.approx(3, rel=0.01)
    assert fixed(LAW, 38.26).delay == pytest.approx(19.1, rel=0.01)


def test_fixed_looks_at_jobs_of_one_length_are_what_arithmetic_says():
    steady = LogNormal(60.0, 0.001)
    assert fixed(steady, 25.0).looks == pytest.approx(3)
    assert fixed(steady, 25.0).delay == pytest.approx(15, abs=0.001)


def test_the_law_has_its_mean_and_promises_what_is_known_of_it():
    assert LAW.mean / root_integral(LAW) ** 2 == pytest.approx(1.74, abs=0.01)
    assert LAW.below(LAW.median) == pytest.approx(0.5)
    draws = list(islice(LAW.draws(Random(1)), 4000))
    assert fmean(draws) == pytest.approx(LAW.mean, rel=0.02)
