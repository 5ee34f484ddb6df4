"""What may be done to a journal or a run by mistake, and that it costs nothing."""

import asyncio
import os
import sqlite3

import pytest
from batch_virtual import check, clip, clips, made, night, standing, states

from kling_async import ConfigurationError, InvalidRequestError, JournalError, TextToVideo, Video
from kling_async.batch import State
from kling_async.batch.journal import Journal
from kling_async.sandbox import Sandbox, http, no_url, stuck

pytestmark = pytest.mark.anyio


def test_a_journal_with_a_second_name_is_refused(tmp_path):
    path, second = tmp_path / "night.db", tmp_path / "second.db"
    Journal(path, gateway="kling3api", unit="credits", base_url="").close()
    os.link(path, second)
    for name in (path, second):
        with pytest.raises(JournalError, match="hard link") as caught:
            Journal(name, gateway="kling3api", unit="credits", base_url="")
        assert caught.value.code == "linked"
    second.unlink()
    Journal(path, gateway="kling3api", unit="credits", base_url="").close()


async def test_a_success_without_a_url_stays_accepted_and_is_looked_at_again(path):
    sandbox = Sandbox()
    sandbox.script(no_url(times=5))
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add([clip(0)])
        (outcome,) = await made(batch)
        assert (outcome.error.code, batch.retry()) == ("no_video", 0)
        assert batch.summary().accepted == 1
        (outcome,) = await made(batch)
        assert outcome.ok
    assert sandbox.ledger.accepted == 1
    check(path, sandbox)


async def test_a_job_that_cannot_be_read_keeps_nobody_from_following_the_others(path):
    sandbox = Sandbox()
    sandbox.script(stuck())
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(4))
        run = batch.run()
        waiting = asyncio.ensure_future(anext(run))
        while batch.summary().accepted < 4:
            await asyncio.sleep(0.5)
        waiting.cancel()
        await asyncio.wait([waiting])
        await run.aclose()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE job SET request = '{\"type\": 5}' WHERE id = 1")
    sandbox.scripted.rules.clear()
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(3, first=10))
        with pytest.raises(JournalError, match="request of job") as caught:
            await made(batch)
        assert caught.value.code == "corrupt"
        assert batch.under_way is None
    assert sandbox.ledger.accepted == 4  # nothing new is paid for beside a damaged record


async def test_a_request_that_is_corrected_during_the_run_is_sent_by_it(path):
    sandbox = Sandbox()
    sandbox.script(http(400, "INVALID_PROMPT"), on="submit", prompt="bad")
    async with night(sandbox, concurrency=1) as session, session.batch(path) as batch:
        batch.add([("a", TextToVideo("bad")), *clips(3)])
        keys = []
        async for outcome in batch.run():
            keys.append((outcome.key, outcome.ok))
            if outcome.key == "a" and not outcome.ok:
                batch.add([("a", TextToVideo("good"))])
        assert ("a", True) in keys
        assert batch.summary().planned == 0
    check(path, sandbox)


async def test_a_run_that_is_held_and_not_read_sends_no_more_than_a_slot_full(path):
    sandbox = Sandbox()
    async with night(sandbox, concurrency=5) as session, session.batch(path) as batch:
        batch.add(clips(100))
        run = batch.run()
        async for _ in run:
            break
        await asyncio.sleep(3600)
        assert sandbox.ledger.accepted <= 12
        await run.aclose()
    check(path, sandbox)


async def test_videos_stay_in_one_directory(path, tmp_path):
    sandbox = Sandbox()
    async with night(sandbox) as session:

        async def quick(video: Video, target, keeper):
            target.write_bytes(b"film")
            return target

        session.fetched = quick
        async with session.batch(path, download_to=tmp_path / "a") as batch:
            batch.add([clip(0)])
            await made(batch)
        (job,) = standing(path).values()
        assert job.state is State.DOWNLOADED
        with pytest.raises(ConfigurationError, match="go on there, or move"):
            async with session.batch(path, download_to=tmp_path / "b"):
                pass
        (tmp_path / "a").rename(tmp_path / "b")
        async with session.batch(path, download_to=tmp_path / "b") as batch:
            assert [outcome.file for outcome in batch.outcomes()] == [tmp_path / "b" / job.file]


async def test_one_name_for_two_rows_of_an_input_is_refused_however_it_came_about(path):
    async with night() as session, session.batch(path) as batch:
        batch.add([TextToVideo("green tree")])
        (derived,) = states(path)
        with pytest.raises(InvalidRequestError, match="names two requests"):
            batch.add([(derived, TextToVideo("another")), TextToVideo("green tree")])
        assert list(states(path)) == [derived]
