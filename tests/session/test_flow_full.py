"""A gateway that is full for long: what it refuses meanwhile says nothing of whether it is there."""

import asyncio

import pytest
from virtual import VirtualSession

from kling_async import TextToVideo
from kling_async.errors import ConnectionFailedError
from kling_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def made_past_one_failed_connection(jobs):
    """Have a gateway full for so long that it has refused more submits than an account may be refused, then cut one."""
    async with VirtualSession(Sandbox(max_running=5, median=900, sigma=0), concurrency=100, rate=None) as session:
        send, cut = session.wire.send, asyncio.Event()

        async def with_one_failure(request, **how):
            if request.method == "POST" and cut.is_set():
                cut.clear()
                raise ConnectionFailedError("no connection", code="refused", stage="connect")
            return await send(request, **how)

        session.wire.send = with_one_failure
        futures = [session.submit(TextToVideo(f"clip {number}")) for number in range(jobs)]
        await asyncio.sleep(800)
        assert len(session.wire.times("POST")) > 60
        cut.set()
        outcomes = [await future.outcome() for future in futures]

    assert not cut.is_set()
    assert session.sandbox.ledger.duplicates == []
    return sum(outcome.ok for outcome in outcomes)


async def test_one_failed_connection_ends_no_other_job_that_waits_for_a_full_gateway():
    assert await made_past_one_failed_connection(60) >= 59


async def test_one_failed_connection_at_a_full_gateway_ends_no_job_at_all():
    assert await made_past_one_failed_connection(60) == 60
