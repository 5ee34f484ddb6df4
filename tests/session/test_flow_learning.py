"""Looks become fewer as jobs of a kind are known, and what the gateway says of their times is used where sound."""

import pytest
from virtual import VirtualSession, now

from kling_async import PollPlan, Success, TextToVideo
from kling_async.sandbox import Sandbox, ends_after, lie_about

pytestmark = pytest.mark.anyio


class Honest(Sandbox):
    """A sandbox that knows of each task when it will end, and says so where its dialect can."""

    def begin(self, order, gateway, task_id, seq, now):
        task = super().begin(order, gateway, task_id, seq, now)
        task.expected = task.ends_at - now
        return task


def clips(number, **settings):
    return [TextToVideo(f"clip {n}", **settings) for n in range(number)]


def lasted(sandbox, outcome):
    task = sandbox.tasks[outcome.task_id]
    return task.ends_at - task.accepted_at


def summed(sandbox, outcomes):
    """Return looks a job and the mean seconds by which an end was seen late."""
    assert {type(outcome) for outcome in outcomes} == {Success}
    late = [outcome.timing.ran - lasted(sandbox, outcome) for outcome in outcomes]
    return sum(outcome.timing.polls for outcome in outcomes) / len(outcomes), sum(late) / len(late)


async def waves(session, number, jobs=25, **settings):
    """Make some jobs at once, again and again; return each wave's looks a job and mean delay."""
    return [summed(session.sandbox, await session.gather(clips(jobs, **settings))) for _ in range(number)]


def free(sandbox, gateway="kling3api", **settings):
    return VirtualSession(sandbox, gateway, **{"concurrency": None, "rate": None, **settings})


async def test_after_fifty_jobs_of_a_kind_looks_are_fewer_and_the_end_is_seen_sooner():
    async with free(Sandbox(sigma=0.1)) as session:
        looks, delays = zip(*await waves(session, 8), strict=True)

    assert sum(looks[2:]) / 6 <= 0.75 * looks[0]
    assert sum(delays[2:]) / 6 <= min(delays[0], 4)


async def test_kinds_are_told_apart_and_what_one_has_shown_does_not_hurt_another():
    sandbox = Sandbox(sigma=0.1)
    sandbox.script(ends_after(20), prompt="short")
    async with free(sandbox) as session:
        for _ in range(4):
            await session.gather([*clips(20, duration=15), *[TextToVideo(f"short {n}", duration=3) for n in range(20)]])
        short = summed(sandbox, await session.gather(TextToVideo(f"short {n}", duration=3) for n in range(20)))
        long = summed(sandbox, await session.gather(clips(20, duration=15)))

    assert short[0] <= 3
    assert short[1] <= 3
    assert long[0] <= 7
    assert long[1] <= 4


async def test_a_kind_that_becomes_four_times_faster_is_found_out():
    sandbox = Sandbox(sigma=0.2)
    async with free(sandbox) as session:
        before = await waves(session, 8)
        sandbox.median /= 4
        after = await waves(session, 16)

    delays = [delay for _, delay in after]
    assert max(delays) <= 15
    assert sum(delays[-4:]) / 4 <= min(4, delays[0] / 2)
    assert max(looks for looks, _ in after) <= before[-1][0]


async def test_a_kind_that_becomes_four_times_slower_is_found_out():
    sandbox = Sandbox(sigma=0.2)
    async with free(sandbox) as session:
        await waves(session, 8)
        sandbox.median *= 4
        after = await waves(session, 8)

    looks, delays = zip(*after, strict=True)
    assert sum(looks[-2:]) / 2 <= 0.75 * looks[0]
    assert max(delays) <= 15


async def test_attached_jobs_teach_nothing_since_nobody_knows_when_they_began():
    sandbox = Sandbox(sigma=0.1)
    async with free(sandbox) as other:
        ids = [await other.submit(each).accepted() for each in clips(60)]
        async with free(sandbox) as session:
            session.wire = other.wire
            before = (await waves(session, 1))[0]
            outcomes = [await session.attach(name).outcome() for name in ids]
            assert {type(outcome) for outcome in outcomes} == {Success}
            assert session._engine.durations.all.jobs == 25
            after = (await waves(session, 1))[0]

    assert after[1] <= before[1] + 1


@pytest.mark.parametrize("gateway", ["klinggenerator", "apimart"])
async def test_an_honest_forecast_costs_fewer_looks_than_silence_and_the_end_is_seen_sooner(gateway):
    silent, telling = Sandbox(sigma=0.6), Honest(sigma=0.6)
    async with free(silent) as session:
        looks_in_silence, delay_in_silence = summed(silent, await session.gather(clips(300)))
    async with free(telling, gateway) as session:
        looks, delay = summed(telling, await session.gather(clips(300)))

    assert looks <= 0.95 * looks_in_silence
    assert delay <= 0.3 * delay_in_silence


async def test_forecasts_that_were_always_kept_are_relied_on():
    sandbox = Honest(sigma=0.3)
    async with free(sandbox, "klinggenerator", poll=PollPlan(maximum=300)) as session:
        looks, delays = zip(*await waves(session, 4, jobs=100), strict=True)

    assert looks[-1] <= 3
    assert delays[-1] <= 2


@pytest.mark.parametrize(
    "lie",
    [
        {"estimated_completion": "1970-01-01T00:00:00Z", "progress": 99},
        {"estimated_completion": "2999-01-01T00:00:00Z", "progress": 1},
        {"estimated_completion": "soon", "progress": -5},
        {"estimated_completion": None, "progress": "NaN"},
    ],
)
async def test_a_forecast_that_is_never_kept_does_no_harm(lie):
    sandbox = Sandbox(sigma=0.4)
    sandbox.script(lie_about(**lie))
    async with free(sandbox, "klinggenerator") as session:
        told = await waves(session, 6)

    assert told[-1][0] <= 10
    assert told[-1][1] <= 9


BLIND = PollPlan(first=280, maximum=280)
"""Every job has long ended when it is looked at: only what the gateway tells says when."""


async def believed_median(gateway, **lie):
    sandbox = Sandbox(median=30, sigma=0.1)
    if lie:
        sandbox.script(lie_about(**lie))
    async with free(sandbox, gateway, poll=BLIND) as session:
        told = await waves(session, 3)
        assert told[0][0] == 1
        return session._engine.durations.all.law(now()).age_at(0.5)


@pytest.mark.parametrize("gateway", ["klinggenerator", "apimart"])
async def test_when_jobs_ended_is_learned_from_the_gateway_where_it_tells(gateway):
    assert await believed_median(gateway) == pytest.approx(30, rel=0.15)
    assert await believed_median("kling3api") >= 45


@pytest.mark.parametrize(
    "lie",
    [
        {"completed_at": "1970-01-01T00:00:00Z"},
        {"completed_at": "2999-01-01T00:00:00Z"},
        {"created_at": "1970-01-01T00:00:00Z"},
        {"completed_at": "yesterday", "created_at": 10**300},
    ],
)
async def test_absurd_times_of_a_gateway_are_not_learned(lie):
    assert await believed_median("klinggenerator", **lie) == pytest.approx(await believed_median("kling3api"), rel=0.1)
