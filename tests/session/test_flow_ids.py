"""Which ids a session remembers: those of all jobs that run, and of so many that have ended."""

import asyncio
import json

import pytest
from virtual import VirtualSession

from kling_async import SubmissionInDoubtError, TextToVideo, engine
from kling_async.sandbox import Sandbox, answer

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def few(monkeypatch):
    monkeypatch.setattr(engine, "REMEMBERED_IDS", 10)


def clips(number):
    return [TextToVideo(f"clip {each}") for each in range(number)]


def named(task_id):
    """Accept a job and answer with that id instead of its own."""

    def told(said):
        said["data"]["task_id"] = task_id
        return said

    return answer(told, accept=True)


async def test_ids_of_ended_jobs_are_forgotten_in_time():
    async with VirtualSession(Sandbox(speed=100), concurrency=20, rate=None) as session:
        outcomes = await session.gather(clips(200))
        assert all(outcome.ok for outcome in outcomes)
        assert len(session._engine._ids) == 10
        assert set(session._engine._ids) <= {outcome.task_id for outcome in outcomes}


async def test_the_id_of_a_job_that_runs_is_never_forgotten_however_many_run():
    sandbox = Sandbox(median=600, sigma=0)
    async with VirtualSession(sandbox, concurrency=100, rate=None) as session:
        futures = [session.submit(clip) for clip in clips(60)]
        first = await futures[0].accepted()
        await asyncio.gather(*(future.accepted() for future in futures))
        sandbox.next(named(first))
        other = await session.submit(TextToVideo("another")).outcome()
        assert session.attach(first) is futures[0]

    assert isinstance(other.error, SubmissionInDoubtError)
    assert other.error.code == "duplicate_task_id"


async def test_the_id_of_a_job_that_has_just_ended_is_nobody_elses():
    sandbox = Sandbox(speed=100)
    async with VirtualSession(sandbox, concurrency=5, rate=None) as session:
        first, *_ = await session.gather(clips(5))
        sandbox.next(named(first.task_id))
        other = await session.submit(TextToVideo("another")).outcome()

    assert other.error.code == "duplicate_task_id"
    assert json.dumps(other.error.to_dict()).count(first.key)
