"""Sessions and batches on another event loop, in another thread, after their loop, before and after their time."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from lifetime_judges import judge_jobs, judge_journal, resumed
from lifetime_place import clip, clips
from lifetime_uses import Opened, tried, tried_by_hand
from lifetime_watch import LOOPS, Footprint, listening, live

from kling_async import ConfigurationError, SessionClosedError, Status

HERE = Path(__file__).parent


@pytest.fixture
def loops(loop_name):
    """Two event loops that take turns."""
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as one, asyncio.Runner(loop_factory=LOOPS[loop_name]) as other:
        yield one, other


def refused(found, *, but=()):
    """See that every use was refused by name, the ones aside that do no harm."""
    assert {name: error for name, error in found.items() if type(error) is not ConfigurationError} == dict.fromkeys(but)
    words = {name: str(error) for name, error in found.items() if name not in (*but, "enter")}
    assert {name: told for name, told in words.items() if "event loop" not in told} == {}


def test_whatever_is_used_on_a_second_event_loop_is_refused_and_the_first_goes_on(gateway, tmp_path, loops):
    here, elsewhere = loops
    opened = here.run(Opened.at(gateway, tmp_path))
    refused(elsewhere.run(tried(opened.uses())))
    leave = {"run": opened.run.aclose, "batch": opened.made.aclose, "session": opened.session.aclose}
    refused(elsewhere.run(tried(leave)))
    assert [outcome.ok for outcome in here.run(opened.finish())] == [True] * 11
    here.run(opened.close())
    elsewhere.run(opened.close())  # closing twice is closing once, wherever
    assert len(gateway.accepted()) == 13


def test_whatever_is_used_in_another_thread_is_refused_and_its_own_goes_on(gateway, tmp_path, loop_name):
    def in_a_thread(work):
        found = []
        thread = threading.Thread(target=lambda: found.append(work()))
        thread.start()
        thread.join()
        return found[0]

    async def program():
        opened = await Opened.at(gateway, tmp_path)
        refused(await asyncio.to_thread(tried_by_hand, opened.uses()))
        refused(await asyncio.to_thread(in_a_thread, lambda: asyncio.run(tried(opened.uses()))))
        refused(await asyncio.to_thread(in_a_thread, lambda: asyncio.run(tried({"close": opened.close}))))
        outcomes = await opened.finish()
        await opened.close()
        return [outcome.ok for outcome in outcomes]

    assert live(program, loop_name) == [True] * 11
    assert len(gateway.accepted()) == 13


def test_an_event_loop_that_is_gone_is_named_and_what_it_left_can_be_closed_elsewhere(gateway, tmp_path, loop_name):
    async def opened_and_left():
        opened = await Opened.at(gateway, tmp_path, "ends_after 1")
        return opened, [opened.session.submit(request) for request in (clip("ends_after 1"), clip("hang_after_accept"))]

    before = Footprint.now()
    with listening() as noise:
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            opened, futures = runner.run(opened_and_left())
            runner.run(asyncio.sleep(0.1))
        refused(asyncio.run(tried(opened.uses())), but=["close of the stream"])
        asyncio.run(opened.close())
        asyncio.run(opened.close())
        paid = gateway.accepted()
        judge_jobs(opened.session, paid)
        assert futures[0].task_id is not None
        assert futures[0].status is Status.IN_PROGRESS
        assert isinstance(futures[0].exception(), SessionClosedError)
        assert futures[1].status is Status.IN_DOUBT
        with pytest.raises(SessionClosedError):
            opened.session.submit(clip())
        del opened, futures
    # Python complains of what the loop took with it; of what we have closed nobody does.
    assert [each for each in noise.heard if "never" in each or "Unclosed" in each] == []
    assert Footprint.now().more_than(before) == []
    judge_journal(tmp_path / "night.db", paid)
    live(lambda: resumed(gateway, tmp_path), loop_name)
    judge_journal(tmp_path / "night.db", gateway.accepted())


def test_a_session_that_is_never_left_warns_and_hangs_nobody(gateway, tmp_path, loop_name):
    program = [HERE / "lifetime_never_left.py", loop_name, gateway.url, tmp_path]
    ended = subprocess.run(
        [sys.executable, "-W", "always", *program], capture_output=True, text=True, timeout=30, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, f"{[True] * 11}\n")
    assert "ResourceWarning: <KlingSession kling3api at" in ended.stderr
    assert "ResourceWarning: <Batch" in ended.stderr
    assert ended.stderr.count("was never closed; use `async with`") == 2
    assert "never retrieved" not in ended.stderr
    assert "sk-lifetimes" not in ended.stderr


def test_a_session_out_of_its_time_says_so_whatever_it_is_used_for(gateway, tmp_path, loop_name):
    async def program():
        session = gateway.session()
        closed = gateway.session()
        async with closed:
            video = await closed.generate(clip())
            with pytest.raises(ConfigurationError, match="open already"):
                await closed.__aenter__()
            assert (await closed.generate(clip())).url  # entering twice did no harm
        for each, error, words in ((session, ConfigurationError, "not open"), (closed, SessionClosedError, "closed")):
            opened = Opened(each, None, None, None, None, video, tmp_path, None)
            uses = opened.of_session()
            if each is session:
                del uses["enter"]
            found = await tried(uses)
            assert {type(known) for known in found.values()} == {error}
            assert all(words in str(known) for known in found.values())
        await closed.aclose()
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await session.__aenter__()

    live(program, loop_name)


def test_a_batch_out_of_its_time_says_so_whatever_it_is_used_for(gateway, tmp_path, loop_name):
    async def program():
        async with gateway.session() as session:
            made = session.batch(tmp_path / "night.db")
            never = Opened(session, made, None, None, None, None, tmp_path, None).of_batch()
            del never["next of the run"], never["stop"]
            assert {type(error) for error in (await tried(never)).values()} == {ConfigurationError}
            async with made:
                made.add(clips(2))
                run = made.run()
                await anext(run)
            assert len([outcome async for outcome in run]) == 1  # what was there already
            await run.aclose()
            after = Opened(session, made, run, None, None, None, tmp_path, None).of_batch()
            del after["next of the run"], after["stop"]
            assert {type(error) for error in (await tried(after)).values()} == {ConfigurationError}
            async with made:
                assert made.summary().total == 2

    live(program, loop_name)


def test_two_may_close_a_session_at_once_and_both_wait_for_its_end(gateway, loop_name):
    async def program():
        async with gateway.session() as session:
            future = session.submit(clip("slow 0.1"))
            await asyncio.sleep(0.05)
            await asyncio.gather(session.aclose(), session.aclose())
            assert future.task_id is not None

    live(program, loop_name)
