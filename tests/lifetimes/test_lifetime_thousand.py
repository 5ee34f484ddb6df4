"""A thousand sessions, one after the other or some at a time: files, threads and memory stay as they are."""

import asyncio
import gc
import os
import sys
from functools import partial
from itertools import count

import pytest
from attrs import define
from lifetime_place import POLL, clip
from lifetime_watch import Footprint, live

SESSIONS, BATCHES = 1000, 100


@define
class Memory:
    """What the process holds once everything that is garbage is gone."""

    blocks: int
    objects: int
    resident: int

    @classmethod
    def now(cls):
        for _ in range(3):
            gc.collect()
        with open("/proc/self/statm") as known:
            resident = int(known.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return cls(sys.getallocatedblocks(), len(gc.get_objects()), resident)


async def unused(gateway):
    async with gateway.session():
        pass


async def one_job(gateway):
    async with gateway.session(poll=POLL) as session:
        await session.generate(clip())


async def one_left_behind(gateway):
    async with gateway.session() as session:
        session.submit(clip("stuck"))
        await asyncio.sleep(0.01)


async def flat(use, times, at_once, objects):
    """Do something many times, some at a time, and see that the process does not grow after the first fifth.

    Each time may leave so many objects: what waits in a cache that is not full yet. A session has hundreds.
    """

    async def some(number):
        for _ in range(0, number, at_once):
            await asyncio.gather(*(use() for _ in range(at_once)))

    await some(times // 5)
    footprint, before = Footprint.now(), Memory.now()
    await some(times - times // 5)
    assert Footprint.now().more_than(footprint) == []
    after = Memory.now()
    assert after.objects - before.objects < objects * times
    assert after.blocks - before.blocks < 10 * objects * times
    assert after.resident - before.resident < 4 * 1024 * 1024


@pytest.mark.parametrize("use", [unused, one_job, one_left_behind], ids=lambda use: use.__name__)
def test_a_thousand_sessions_leave_nothing_behind(gateway, loop_name, use):
    live(lambda: flat(partial(use, gateway), SESSIONS, 25, 0.1), loop_name)
    accepted = len(gateway.accepted())
    assert accepted == {unused: 0, one_job: SESSIONS}.get(use, accepted)


def test_a_hundred_batches_leave_nothing_behind(gateway, tmp_path, loop_name):
    numbers = count()

    async def one_batch():
        place = tmp_path / str(next(numbers))
        async with gateway.session() as session, session.batch(place, download_to=tmp_path / "videos") as made:
            made.add(clip())
            assert [outcome.ok async for outcome in made.run()] == [True]

    live(lambda: flat(one_batch, BATCHES, 5, 4), loop_name)
    assert len(gateway.accepted()) == BATCHES
