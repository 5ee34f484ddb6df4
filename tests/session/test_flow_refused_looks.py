"""Looks that are refused hold the account back for as long as they are refused, and not for long after that."""

import asyncio

import pytest
from virtual import START, VirtualSession, now

from kling_async import RetryPolicy, Success, TextToVideo, Timeouts
from kling_async.sandbox import Sandbox, http

pytestmark = pytest.mark.anyio

PATIENT = {"timeouts": Timeouts(generation=None), "retry": RetryPolicy(attempts=1000, budget=1_000_000)}


def clips(number):
    return [TextToVideo(f"clip {n}") for n in range(number)]


@pytest.mark.parametrize("seconds", [120, 3600, 8 * 3600])
@pytest.mark.parametrize(("operations", "jobs"), [(("poll",), 200), (("poll", "submit"), 50)])
async def test_after_refusing_everything_for_hours_a_gateway_is_soon_used_as_before(seconds, operations, jobs):
    sandbox = Sandbox()
    async with VirtualSession(sandbox, **PATIENT) as session:
        futures = [session.submit(clip) for clip in clips(jobs)]
        await asyncio.sleep(30)
        rules = [sandbox.script(http(429), on=operation) for operation in operations]
        begun = len(session.wire.log)
        await asyncio.sleep(seconds)
        for rule in rules:
            sandbox.forget(rule)
        over, tried = now(), len(session.wire.log) - begun
        outcomes = [await future.outcome() for future in futures]

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert now() - over <= 60 + (0 if seconds > 600 else 300)
    assert tried <= 100 + 2 * seconds / 10  # however many jobs wait
    assert sandbox.ledger.duplicates == []


@pytest.mark.parametrize(("share", "longest"), [(0.1, 600), (0.3, 900), (0.5, 1500)])
async def test_looks_that_are_refused_by_chance_do_not_bring_the_pace_down(share, longest):
    sandbox = Sandbox()
    sandbox.script(http(429), on="poll", share=share)
    async with VirtualSession(sandbox, **PATIENT) as session:
        outcomes = await session.gather(clips(300))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert now() - START <= longest
