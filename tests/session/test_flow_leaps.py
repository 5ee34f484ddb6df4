"""What is late stays in order: a clock that has leapt costs no result, and what is not due waits behind what is."""

import asyncio
from collections import defaultdict
from itertools import pairwise

import pytest
from virtual import VirtualSession, now

from kling_async import PollPlan, Success, TextToVideo
from kling_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio


def looks(session, since=0.0):
    found = defaultdict(list)
    for at, method, _, query in session.wire.log:
        if method == "GET" and at >= since:
            found[query["task_id"]].append(at)
    return found


async def test_a_job_whose_time_ran_out_in_a_leap_is_given_up_soon_after_if_it_still_runs():
    sandbox = Sandbox(speed=0.001)
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("long"), timeout=300)
        await asyncio.sleep(100)
        asyncio.get_running_loop().now += 3600
        woken = now()
        outcome = await future.outcome()

    assert not outcome.ok
    assert len(looks(session, woken)[outcome.task_id]) >= 1
    assert now() - woken <= 210


async def test_where_looks_wait_for_connections_none_leaves_before_its_time():
    async with VirtualSession(
        Sandbox(), concurrency=None, rate=None, rtt=3.0, poll=PollPlan(minimum=20, maximum=60)
    ) as session:
        engine = session._engine
        early, take = [], engine._agenda.take

        def taken(moment, batch, minimum):
            jobs = take(moment, batch, minimum)
            early.extend(job.due - moment for job in jobs if job.due > moment + 1e-6)
            return jobs

        engine._agenda.take = taken
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(1000))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert early == []
    assert min(later - at for times in looks(session).values() for at, later in pairwise(times)) >= 20
