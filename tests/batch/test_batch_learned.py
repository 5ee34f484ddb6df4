"""What one run learns of how long jobs take, the next one knows."""

import sqlite3
from contextlib import closing

import pytest
from batch_virtual import clips, made, night

from kling_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def looks_per_job(path, first, **settings):
    sandbox = Sandbox(sigma=0.1, seed=first)
    async with night(sandbox, **settings) as session, session.batch(path) as batch:
        known = session._durations.all.jobs
        batch.add(clips(20, first=first))
        outcomes = await made(batch)
    return known, sum(outcome.timing.polls for outcome in outcomes) / len(outcomes)


async def test_a_journal_keeps_how_long_jobs_take_and_the_next_run_looks_less_often(path):
    known, first = await looks_per_job(path, 0)
    assert known == 0
    known, second = await looks_per_job(path, 20)
    assert 19 <= known <= 20
    assert second < first


async def test_a_journal_that_holds_nonsense_in_its_place_is_used_all_the_same(path):
    await looks_per_job(path, 0)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batch SET learned = '[[1'")
    known, _ = await looks_per_job(path, 20)
    assert known == 0
