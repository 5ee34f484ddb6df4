"""What one reader or one job does is no matter of the others."""

import asyncio
import itertools
from collections import Counter
from datetime import UTC, datetime

import pytest
from virtual import VirtualSession

from kling_async import TextToVideo
from kling_async.gateways import Gateway
from kling_async.gateways.protocol import Accepted
from kling_async.results import Snapshot, Status
from kling_async.sandbox import Sandbox
from kling_async.stream import UNREAD
from kling_async.wire import HttpRequest, HttpResponse

pytestmark = pytest.mark.anyio


async def test_two_slow_readers_do_not_have_more_made_for_each_other():
    def endless():
        return (TextToVideo(f"clip {n}") for n in itertools.count())

    async with VirtualSession(Sandbox(rate=2)) as session:
        streams = [session.stream(endless()) for _ in range(2)]
        for stream in streams:
            await anext(stream)
        await asyncio.sleep(3600)
        early = session.sandbox.ledger.accepted
        await asyncio.sleep(3600)
        assert session.sandbox.ledger.accepted == early
        assert all(len(stream._belt._ready) < UNREAD + 1000 for stream in streams)
        for stream in streams:
            await stream.aclose()


class _Odd(Gateway):
    """Looks at ten jobs at once, and says something of one of them that cannot be reckoned with."""

    name = "odd"
    base_url = "https://odd.example"
    poll_batch = 10

    def submit(self, request, key):
        response = yield HttpRequest("POST", "/jobs")
        return Accepted(response.body.decode())

    def poll(self, task_ids):
        yield HttpRequest("GET", "/jobs", query={"task_id": ",".join(task_ids)})
        return {task_id: self._snapshot(task_id) for task_id in task_ids}

    def _snapshot(self, task_id):
        odd = task_id == "t3"
        created = datetime(2026, 1, 1) if odd else None  # without a zone: that is what is odd
        estimated = datetime(2026, 1, 1, tzinfo=UTC) if odd else None
        return Snapshot(task_id, Status.IN_PROGRESS, named=True, created_at=created, estimated_at=estimated)

    def authorize(self, request, now):
        return request


class _Wire:
    def __init__(self):
        self.jobs = itertools.count(1)

    async def send(self, request, *, timeout, fence, fresh):
        await asyncio.sleep(0.05)
        if fence is not None:
            await fence.pass_through()
        return HttpResponse(200, body=f"t{next(self.jobs)}".encode() if request.method == "POST" else b"")

    async def close(self):
        pass


async def test_one_odd_job_in_an_answer_about_many_does_not_have_the_others_looked_at_twice():
    session = VirtualSession(gateway=_Odd(), api_key=None, concurrency=None, rate=None)
    session.wire = _Wire()
    async with session:
        futures = [session.submit(TextToVideo(f"clip {n}")) for n in range(10)]
        await asyncio.sleep(900)
        planned = Counter(entry[2] for entry in session._engine._agenda._looks)
        assert set(planned.values()) == {1}
        assert len(planned) == 10
        assert not any(future.done() for future in futures)
