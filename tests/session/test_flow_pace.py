"""A gateway's pace and slots are found out by what it refuses: few refusals, little time lost, the user's caps held."""

import asyncio
from collections import Counter
from itertools import pairwise

import pytest
from virtual import START, VirtualSession, now

from kling_async import Success, TextToVideo
from kling_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio


class Session(VirtualSession):
    """A session whose jitter is the same each time."""

    async def __aenter__(self):
        await super().__aenter__()
        self._engine.random.seed(7)
        return self


def clips(number):
    return [TextToVideo(f"clip {n}") for n in range(number)]


def assert_each_paid_once(sandbox, outcomes):
    assert {type(outcome) for outcome in outcomes} == {Success}
    assert sandbox.ledger.duplicates == []
    assert sandbox.ledger.accepted == len(outcomes)


def durations(sandbox):
    return [task.ends_at - task.accepted_at for task in sandbox.tasks.values()]


async def at(moment, act):
    await asyncio.sleep(START + moment - now())
    act()


def requests_a_second(session, since, until):
    sent = [at for at, *_ in session.wire.log if since <= at - START < until]
    return len(sent) / (until - since)


@pytest.mark.parametrize(("rate", "jobs"), [(2, 700), (10, 1200), (50, 2500)])
async def test_a_rate_that_nobody_told_us_is_found_out_with_few_refusals_and_used_well(rate, jobs):
    sandbox = Sandbox(rate=rate)
    async with Session(sandbox) as session:
        outcomes = await session.gather(clips(jobs))
        refused = session.stats.refused

    assert_each_paid_once(sandbox, outcomes)
    assert refused <= 0.05 * jobs
    # One submit and one look at each job, then the end of the last one.
    assert now() - START <= 1.15 * 2 * jobs / rate + max(durations(sandbox))


@pytest.mark.parametrize(("slots", "jobs"), [(3, 200), (20, 300)])
async def test_slots_that_nobody_told_us_of_are_found_out_with_few_refusals_and_stay_busy(slots, jobs):
    sandbox = Sandbox(max_running=slots)
    async with Session(sandbox) as session:
        outcomes = await session.gather(clips(jobs))
        refused = session.stats.refused

    assert_each_paid_once(sandbox, outcomes)
    assert refused <= 0.25 * jobs
    assert now() - START <= 1.15 * sum(durations(sandbox)) / slots + max(durations(sandbox))


async def test_a_rate_and_slots_at_once_are_both_found_out():
    sandbox = Sandbox(rate=5, max_running=40)
    async with Session(sandbox) as session:
        outcomes = await session.gather(clips(300))
        refused = session.stats.refused

    assert_each_paid_once(sandbox, outcomes)
    assert refused <= 300
    assert now() - START <= 1.3 * sum(durations(sandbox)) / 40 + max(durations(sandbox))


@pytest.mark.parametrize(("first", "then"), [(20, 10), (10, 20)])
async def test_a_rate_that_changes_midway_is_found_out_again(first, then):
    sandbox = Sandbox(rate=first)
    async with Session(sandbox) as session:
        change = asyncio.create_task(at(60, lambda: setattr(sandbox, "rate", then)))
        outcomes = await session.gather(clips(1500))
        await change
        refused = session.stats.refused

    assert_each_paid_once(sandbox, outcomes)
    assert refused <= 0.07 * 1500
    assert requests_a_second(session, 30, 60) == pytest.approx(first, rel=0.15)
    assert requests_a_second(session, 100, 130) == pytest.approx(then, rel=0.15)


@pytest.mark.parametrize(("first", "then"), [(20, 10), (10, 20)])
async def test_slots_that_change_midway_are_found_out_again(first, then):
    sandbox = Sandbox(max_running=first)
    async with Session(sandbox) as session:
        change = asyncio.create_task(at(500, lambda: setattr(sandbox, "max_running", then)))
        outcomes = await session.gather(clips(300))
        await change
        refused = session.stats.refused

    assert_each_paid_once(sandbox, outcomes)
    assert refused <= 0.25 * 300
    ideal = 500 + (sum(durations(sandbox)) - 500 * first) / then
    assert now() - START <= 1.25 * ideal + max(durations(sandbox))


@pytest.mark.parametrize("settings", [{"concurrency": 5, "rate": "3/s"}, {"concurrency": 5}, {"rate": "3/s"}])
async def test_the_users_caps_are_never_exceeded_although_the_gateway_takes_more(settings):
    sandbox = Sandbox()
    async with Session(sandbox, **settings) as session:
        outcomes = await session.gather(clips(60))

    assert_each_paid_once(sandbox, outcomes)
    if "concurrency" in settings:
        assert sandbox.ledger.max_running == 5
    if "rate" in settings:
        times = [at for at, *_ in session.wire.log]
        assert min(later - earlier for earlier, later in pairwise(times)) >= 1 / 3 - 1e-6


@pytest.mark.parametrize("settings", [{"concurrency": 5}, {"rate": "3/s"}])
async def test_below_the_users_caps_what_the_gateway_takes_is_found_out_all_the_same(settings):
    sandbox = Sandbox(max_running=3) if "concurrency" in settings else Sandbox(rate=2)
    async with Session(sandbox, **settings) as session:
        outcomes = await session.gather(clips(200))
        refused = session.stats.refused

    assert_each_paid_once(sandbox, outcomes)
    assert refused <= 0.25 * 200
    assert sandbox.ledger.max_running <= settings.get("concurrency", 200)


async def test_the_first_submits_go_one_at_a_time_and_each_accepted_one_lets_one_more_go_beside_it():
    async with Session() as session:
        await asyncio.gather(*(session.submit(each).accepted() for each in clips(200)))

    posts, rtt = session.wire.times("POST"), session.wire.rtt
    assert posts[1] >= posts[0] + rtt
    for place, sent_at in enumerate(posts):
        answered = sum(earlier <= sent_at - rtt + 1e-9 for earlier in posts[:place])
        assert place + 1 - answered <= 1 + answered
    assert posts[-1] - posts[0] < 2  # it is a start, not a pace


async def test_without_limits_of_ours_there_is_no_slow_start():
    async with Session(concurrency=None, rate=None) as session:
        await asyncio.gather(*(session.submit(each).accepted() for each in clips(64)))

    assert Counter(session.wire.times("POST")) == {START: 64}


async def test_a_gateway_that_refuses_the_very_first_submits_is_asked_one_at_a_time_until_it_takes_one():
    sandbox = Sandbox(max_running=0)
    async with Session(sandbox) as session:
        futures = [session.submit(each) for each in clips(100)]
        await asyncio.sleep(0.5)
        sandbox.max_running = None
        outcomes = [await future.outcome() for future in futures]

    assert_each_paid_once(sandbox, outcomes)
    refused = [submit.at for submit in sandbox.ledger.submits if submit.status == 429]
    assert 1 <= len(refused) <= 5
    assert all(later - earlier >= session.wire.rtt for earlier, later in pairwise(refused))
