"""Twenty thousand jobs cost no timer and no task each, and a clock that leaps brings no storm."""

import asyncio
import gc
from collections import Counter

import pytest
from virtual import VirtualSession, now

from kling_async import SubmissionInDoubtError, Success, TextToVideo, Timeouts
from kling_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

CONNECTIONS = 64
HOURS = 3600


def clips(number):
    return [TextToVideo(f"clip {n}") for n in range(number)]


def timers():
    return sum(not timer.cancelled() for timer in asyncio.get_running_loop()._scheduled)


def futures_alive():
    gc.collect()
    return sum(isinstance(each, asyncio.Future) for each in gc.get_objects())


async def test_twenty_thousand_waiting_jobs_cost_no_task_no_timer_and_no_future_each():
    tasks, futures, planned = len(asyncio.all_tasks()), futures_alive(), timers()
    async with VirtualSession(concurrency=10, rate=None) as session:
        jobs = [session.submit(each) for each in clips(20_000)]
        for _ in range(20):
            await asyncio.sleep(5)
            assert len(asyncio.all_tasks()) - tasks <= 2 * CONNECTIONS
            assert timers() - planned <= 2 * CONNECTIONS + 1
        assert futures_alive() - futures <= 4 * CONNECTIONS
        assert session.stats.waiting > 19_000
        for job in jobs:
            job.withdraw_unsent()


async def test_thousands_of_running_jobs_cost_no_task_no_timer_and_no_future_each():
    tasks, futures, planned = len(asyncio.all_tasks()), futures_alive(), timers()
    async with VirtualSession(Sandbox(median=300)) as session:
        for each in clips(3000):
            session.submit(each)
        for _ in range(12):
            await asyncio.sleep(5)
            assert len(asyncio.all_tasks()) - tasks <= 2 * CONNECTIONS
            assert timers() - planned <= 2 * (2 * CONNECTIONS + 1)  # one for the answer, one for its deadline
        assert futures_alive() - futures <= 4 * CONNECTIONS
        assert session.stats.used == 3000


async def test_everything_is_gone_when_a_session_has_ended():
    tasks, futures = len(asyncio.all_tasks()), futures_alive()
    async with VirtualSession(Sandbox(speed=10)) as session:
        await session.gather(clips(300))
    del session
    await asyncio.sleep(200)
    assert len(asyncio.all_tasks()) == tasks
    assert futures_alive() <= futures + 2
    assert timers() == 0


@pytest.mark.parametrize("timeouts", [Timeouts(), Timeouts(generation=None)], ids=["an-hour", "endless"])
@pytest.mark.parametrize(("jobs", "rtt"), [(1000, 0.02), (1000, 0.2), (100, 0.02)])
async def test_a_clock_that_leaps_by_eight_hours_brings_one_look_at_each_job_and_no_storm(jobs, rtt, timeouts):
    async with VirtualSession(concurrency=None, rate=None, timeouts=timeouts, rtt=rtt) as session:
        futures = [session.submit(each) for each in clips(jobs)]
        await asyncio.sleep(20)
        before = len(session.wire.log)
        asyncio.get_running_loop().now += 8 * HOURS
        woke = now()
        outcomes = [await future.outcome() for future in futures]
        took = now() - woke

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert took <= 15
    looks = session.wire.log[before:]
    assert set(Counter(query["task_id"] for *_, query in looks).values()) == {1}
    times = [at for at, *_ in looks]
    densest = max(sum(at <= other < at + 0.1 for other in times) for at in times)
    assert densest <= 0.2 * jobs


async def test_a_clock_that_leaps_while_jobs_wait_sends_no_herd_and_sends_each_once():
    sandbox = Sandbox(rate=20)
    settings = {"rate": "10/s", "timeouts": Timeouts(generation=None)}
    async with VirtualSession(sandbox, **settings) as session:
        futures = [session.submit(each) for each in clips(500)]
        await asyncio.sleep(20)
        under_way = session.wire.in_flight
        asyncio.get_running_loop().now += 8 * HOURS
        woke = now()
        outcomes = [await future.outcome() for future in futures]

    # A POST that was under way has no answer when its time is up.
    lost = [outcome.error for outcome in outcomes if not outcome.ok]
    assert len(lost) <= under_way
    assert {type(error) for error in lost} <= {SubmissionInDoubtError}
    assert sandbox.ledger.duplicates == []
    times = sorted(at for at, *_ in session.wire.log if at >= woke)
    assert max(sum(at <= other < at + 1 for other in times) for at in times) <= 10 + 1


async def test_a_clock_that_leaps_a_little_again_and_again_makes_no_difference():
    async with VirtualSession(concurrency=None, rate=None) as session:
        futures = [session.submit(each) for each in clips(100)]
        for _ in range(40):
            await asyncio.sleep(1)
            asyncio.get_running_loop().now += 3
        outcomes = [await future.outcome() for future in futures]

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert len(session.wire.times("GET")) <= 15 * 100
