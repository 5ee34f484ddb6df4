"""While a gateway does not answer few requests ask whether it is back, however many jobs wait; then all end well."""

import asyncio
import math
from random import Random

import pytest
from virtual import MemoryTransport, VirtualSession, now

from kling_async import ConnectionFailedError, PollPlan, RetryPolicy, Success, TextToVideo, Timeouts
from kling_async.sandbox import Sandbox, hang_after_accept, http, stuck

pytestmark = pytest.mark.anyio

STUBBORN = RetryPolicy(attempts=1000, budget=1_000_000)
MINUTES = 10 * 60
FEW = 400
"""Requests in ten minutes of outage: 64 may be under way when it begins, then one every few seconds."""


class Line(MemoryTransport):
    """A transport that notes every try; where the host is down each takes a while to fail."""

    def __init__(self, sandbox, fails_after=0.08):
        super().__init__(sandbox)
        self.fails_after = fails_after
        self.tries = []

    async def send(self, request, *, timeout, fence, fresh):
        self.tries.append((now(), request.method))
        if self.down:
            await asyncio.sleep(self.fails_after)
            raise ConnectionFailedError("no connection", code="refused", stage="connect")
        return await super().send(request, timeout=timeout, fence=fence, fresh=fresh)

    def tried(self, since, until=math.inf, method=None):
        return sum(since <= at < until and method in (None, how) for at, how in self.tries)


def session_over(sandbox, fails_after=0.08, **settings):
    settings = {"rate": None, "retry": STUBBORN, "timeouts": Timeouts(generation=None), **settings}
    session = VirtualSession(sandbox, **settings)
    session.wire = Line(sandbox, fails_after)
    return session


def clips(number, name="clip"):
    return [TextToVideo(f"{name} {n}") for n in range(number)]


async def outcomes_of(futures):
    return [await future.outcome() for future in futures]


async def outage(session, fault, seconds=MINUTES):
    """Let the host be down, or its looks be spoilt by a fault, for some time; return when it began."""
    begun = now()
    if fault is None:
        session.wire.down = True
        await asyncio.sleep(seconds)
        session.wire.down = False
    else:
        rule = session.sandbox.script(fault, on="poll")
        await asyncio.sleep(seconds)
        session.sandbox.forget(rule)
    return begun


def found(futures, sandbox, moment):
    """Return which of the jobs that had ended by a moment were seen so, and how many had ended."""
    ended = [future for future in futures if future.task_id and sandbox.tasks[future.task_id].ends_at <= moment]
    return sum(future.done() for future in ended), len(ended)


FAULTS = [
    pytest.param(2000, 500, None, 0.08, id="2000-down"),
    pytest.param(200, 50, None, 0.08, id="200-down"),
    pytest.param(200, 50, None, 10.0, id="200-down-and-slow-to-say-so"),
    pytest.param(1000, 100, http(500), 0.08, id="1000-500s"),
    pytest.param(200, 50, http(500), 0.08, id="200-500s"),
    pytest.param(1000, 100, hang_after_accept(), 0.08, id="1000-hanging"),
    pytest.param(200, 50, hang_after_accept(), 0.08, id="200-hanging"),
]


@pytest.mark.parametrize(("running", "queued", "fault", "fails_after"), FAULTS)
async def test_ten_minutes_of_outage_cost_few_requests_however_many_jobs_run_and_then_all_end_well(
    running, queued, fault, fails_after
):
    sandbox = Sandbox(median=300)
    async with session_over(sandbox, fails_after, concurrency=running) as session:
        futures = [session.submit(each) for each in clips(running + queued)]
        await asyncio.sleep(60)
        assert session.stats.used == running
        begun = await outage(session, fault)
        over = now()
        assert session.wire.tried(begun, over) <= FEW
        await asyncio.sleep(60)
        seen, ended = found(futures, sandbox, over)
        assert ended > running / 2
        assert seen == ended
        outcomes = await outcomes_of(futures)
        longest = max(task.ends_at - task.accepted_at for task in sandbox.tasks.values())
        assert now() <= over + 60 + longest + 60

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert sandbox.ledger.duplicates == []
    assert sandbox.ledger.accepted == running + queued


async def test_a_host_that_is_back_hears_of_it_within_seconds_and_is_not_overrun():
    sandbox = Sandbox(median=300)
    async with session_over(sandbox, concurrency=500) as session:
        futures = [session.submit(each) for each in clips(500)]
        await asyncio.sleep(60)
        await outage(session, None)
        over = now()
        await asyncio.sleep(25)
        seen, ended = found(futures, sandbox, over)
        assert seen == ended > 0
        # Hardly more than one look at each job, and no more of them under way than there are connections.
        assert session.wire.tried(over) <= 1.2 * 500
        assert session.wire.most_in_flight <= 64 * 2


async def test_submits_into_an_outage_go_one_at_a_time_and_leave_when_it_is_over():
    sandbox = Sandbox(median=300)
    async with session_over(sandbox, concurrency=None) as session:
        session._engine.random = Random(7)  # 190 requests on average, and with one seed of a thousand more than 200
        running = [session.submit(each) for each in clips(50)]
        await asyncio.sleep(10)
        session.wire.down = True
        begun = now()
        await asyncio.sleep(1)
        queued = [session.submit(each) for each in clips(500, "late")]
        await asyncio.sleep(MINUTES)
        session.wire.down = False
        over = now()
        assert session.wire.tried(begun, over, "POST") <= 200
        await asyncio.sleep(30)
        assert session.stats.waiting == 0
        outcomes = await outcomes_of(running + queued)

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert sandbox.ledger.duplicates == []


async def test_with_the_settings_by_default_what_is_queued_in_an_outage_may_fail_unpaid_and_what_runs_succeeds():
    sandbox = Sandbox()
    async with session_over(sandbox, retry=RetryPolicy(), timeouts=Timeouts()) as session:
        running = [session.submit(each) for each in clips(100)]
        await asyncio.sleep(10)
        session.wire.down = True
        queued = [session.submit(each) for each in clips(100, "late")]
        await asyncio.sleep(MINUTES)
        session.wire.down = False
        ran, waited = await outcomes_of(running), await outcomes_of(queued)

    assert {type(outcome) for outcome in ran} == {Success}
    assert {outcome.charged for outcome in waited if not outcome.ok} <= {"no"}
    assert {type(outcome.error) for outcome in waited if not outcome.ok} <= {ConnectionFailedError}
    assert sandbox.ledger.duplicates == []


@pytest.mark.parametrize("fault", [http(500), hang_after_accept()], ids=["500", "hanging"])
@pytest.mark.parametrize("jobs", [5, 50])
async def test_one_poisoned_job_does_not_slow_the_looks_at_the_others(fault, jobs):
    async def mean_delay(poison):
        sandbox = Sandbox()
        sandbox.script(stuck(), prompt="poisoned")
        if poison:
            sandbox.script(fault, on="poll", prompt="poisoned")
        async with session_over(sandbox, concurrency=None, timeouts=Timeouts(poll=5, generation=None)) as session:
            bad = [session.submit(each) for each in clips(1, "poisoned")]
            late = []
            for _ in range(200 // jobs):
                for outcome in await session.gather(clips(jobs)):
                    task = sandbox.tasks[outcome.task_id]
                    late.append(outcome.timing.ran - (task.ends_at - task.accepted_at))
            assert not bad[0].done()
            bad[0].cancel()
        return sum(late) / len(late)

    assert await mean_delay(poison=True) <= 1.1 * await mean_delay(poison=False) + 0.5


async def test_a_look_that_the_user_plans_closely_does_not_storm_a_dead_host():
    sandbox = Sandbox()
    plan = PollPlan(first=0.1, minimum=0.1, maximum=0.1)
    async with session_over(sandbox, concurrency=None, poll=plan) as session:
        futures = [session.submit(each) for each in clips(200)]
        await asyncio.sleep(10)
        begun = await outage(session, None)
        assert session.wire.tried(begun, begun + MINUTES) <= FEW
        assert {type(outcome) for outcome in await outcomes_of(futures)} == {Success}
