"""Futures, streams, uploads and downloads whose owners forget them, share them, or cut them off at a bad moment."""

import asyncio
import contextvars
import gc
import os
import threading
import time
import weakref

import pytest
from lifetime_place import clip, clips
from lifetime_watch import live

from kling_async import GenerationFailedError, SessionClosedError, Status, bell, download
from kling_async.mp4 import problem_with

who = contextvars.ContextVar("who", default="nobody")


def test_a_job_whose_future_nobody_holds_is_made_all_the_same(gateway, kind):
    async def program():
        async with gateway.session() as session:
            futures = weakref.WeakSet(session.submit(request) for request in clips(5))
            session.jobs.clear()
            gc.collect()
            assert len(futures) == 5
            for _ in range(200):
                await asyncio.sleep(0.01)
                gc.collect()
                if not futures:
                    break
            assert len(futures) == 0  # they have ended, and nobody remembers them
            assert session.stats.used == 0

    live(program, kind)
    assert len(gateway.accepted()) == 5
    assert gateway.ledger()["totals"]["polls"] >= 5


def test_one_waiter_that_is_cancelled_harms_no_other(gateway, kind):
    async def program():
        async with gateway.session() as session:
            future = session.submit(clip("ends_after 0.1"))
            waiters = [asyncio.ensure_future(future.outcome()) for _ in range(5)]
            await asyncio.sleep(0.05)
            for waiter in waiters[::2]:
                waiter.cancel()
            await asyncio.wait(waiters)
            assert [waiter.cancelled() for waiter in waiters] == [True, False, True, False, True]
            assert all(waiter.result().ok for waiter in waiters[1::2])
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.submit(clip("stuck")), 0.05)

    live(program, kind)
    assert len(gateway.accepted()) == 2


def test_every_awaiter_gets_an_error_of_its_own_that_does_not_grow(gateway, kind):
    async def program():
        async with gateway.session() as session:
            future = session.submit(clip("fail"))
            errors = await asyncio.gather(*(_awaited(future) for _ in range(3)), return_exceptions=True)
            for _ in range(50):
                with pytest.raises(GenerationFailedError) as caught:
                    await future
                errors.append(caught.value)
            errors += [future.exception(), (await future.outcome()).error]
            assert len({id(error) for error in errors}) == len(errors)
            assert {_depth(error) for error in errors[3:-2]} == {_depth(errors[3])}
            assert errors[-1].__traceback__ is None

    live(program, kind)


async def _awaited(future):
    return await future


def _depth(error):
    trace, found = error.__traceback__, 0
    while trace is not None:
        trace, found = trace.tb_next, found + 1
    return found


def test_a_callback_that_breaks_is_logged_and_the_others_are_called(gateway, kind):
    async def program():
        called = []
        async with gateway.session() as session:
            future = session.submit(clip())
            for number in range(3):
                future.add_done_callback(lambda _: 1 / 0)
                future.add_done_callback(lambda _, number=number: called.append(number))
            await future
            await asyncio.sleep(0)
        assert called == [0, 1, 2]

    live(program, kind, said=["a done-callback of job"])


def test_callbacks_run_in_the_context_in_which_they_were_added(gateway, kind):
    async def program():
        heard = []
        async with gateway.session() as session:
            future = session.submit(clip())

            async def listen(name):
                who.set(name)
                future.add_done_callback(lambda _: heard.append(who.get()))

            await asyncio.gather(listen("Ann"), listen("Bob"))
            await future
            await asyncio.sleep(0)
            await asyncio.gather(listen("Cay"))
            await asyncio.sleep(0)
        assert heard == ["Ann", "Bob", "Cay"]

    live(program, kind)


def test_what_goes_on_in_the_background_keeps_nothing_of_who_happened_to_call_first(gateway, tmp_path, kind):
    class Heavy:
        """What a web framework puts into the context of a request."""

    async def program():
        seen = []
        who.set("the session")
        batch = {"observer": lambda *_: seen.append(who.get())}
        async with gateway.session() as session, session.batch(tmp_path / "night.db", **batch) as made:
            made.add(clips(2))

            async def call():
                heavy = Heavy()
                who.set(heavy)
                future = session.submit(clip("stuck"))
                await future.accepted()
                return weakref.ref(heavy), future

            heavy, future = await asyncio.create_task(call())
            assert [outcome.ok async for outcome in made.run()] == [True, True]
            gc.collect()
            assert heavy() is None
            assert set(seen) == {"the session"}
            assert future.status is Status.IN_PROGRESS

    live(program, kind)


def test_a_stream_that_another_thread_collects_sends_nothing_more(gateway, kind):
    async def program():
        async with gateway.session(concurrency=2) as session:
            stream = session.stream(clip() for _ in range(1000))
            await anext(stream)
            gone = weakref.ref(stream)
            ring = [stream]
            ring.append(ring)
            del stream, ring
            await asyncio.to_thread(gc.collect)
            assert gone() is None
            await asyncio.sleep(0.05)
            sent = len(gateway.accepted())
            await asyncio.sleep(0.1)
            assert len(gateway.accepted()) == sent < 20
            assert session.unfinished == ()

    gc.disable()
    try:
        live(program, kind)
    finally:
        gc.enable()


@pytest.mark.parametrize("reader", ["stream", "batch"])
def test_an_input_that_does_not_end_holds_nobody_for_long(gateway, tmp_path, kind, monkeypatch, reader):
    for room in ("engine", "batch.inputs"):
        monkeypatch.setattr(f"kling_async.{room}.ENDINGS", 0.1)
    released = []

    async def stubborn():
        yield clip()
        while not released:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                continue

    async def program():
        begun = time.monotonic()
        async with gateway.session() as session:
            if reader == "stream":
                await anext(session.stream(stubborn()))
            else:
                async with session.batch(tmp_path / "night.db") as made:
                    made.add(stubborn())
                    await anext(made.run())
        assert time.monotonic() - begun < 2
        released.append(True)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.01)

    live(program, kind)


def test_an_upload_whose_session_closes_while_it_reads_the_file_is_told_so(gateway, tmp_path, kind):
    path = tmp_path / "fox.png"
    os.mkfifo(path)

    async def program():
        async with gateway.session("apimart") as session:
            upload = asyncio.ensure_future(session.upload(path))
            writer = await asyncio.to_thread(path.open, "wb")
        writer.write(b"\x89PNG")
        writer.close()
        with pytest.raises(SessionClosedError):
            await asyncio.wait_for(upload, 5)

    live(program, kind)
    assert gateway.ledger()["totals"]["uploads"] == 0


@pytest.mark.parametrize("step", ["publish", "problem_with"])
@pytest.mark.parametrize("cut", ["cancel", "cancel twice", "close"])
def test_a_download_cut_off_in_a_thread_leaves_no_thread_and_no_half_file(
    gateway, tmp_path, loop_name, monkeypatch, step, cut
):
    inside, running = threading.Event(), []
    real = getattr(download, step)

    def slowly(*about, **more):
        running.append(True)
        inside.set()
        time.sleep(0.1)
        try:
            return real(*about, **more)
        finally:
            running.pop()

    async def program():
        async with gateway.session() as session:
            video = await session.generate(clip())
            monkeypatch.setattr(download, step, slowly)
            work = asyncio.ensure_future(session.download(video, tmp_path / "boat.mp4"))
            assert await asyncio.to_thread(inside.wait, 5)
            if cut == "close":
                await session.aclose()
                assert running == []
            else:
                for _ in range(cut.count("twice") + 1):
                    work.cancel()
                    await asyncio.sleep(0.01)
            with pytest.raises((asyncio.CancelledError, SessionClosedError)):
                await work
            assert running == []
            assert not (tmp_path / "boat.mp4.part").exists()
        for path in tmp_path.iterdir():
            with path.open("rb") as file:
                assert problem_with(file, path.stat().st_size) is None

    live(program, loop_name)


def test_a_thread_that_never_says_it_has_ended_is_not_waited_for_without_end(loop_name, monkeypatch):
    monkeypatch.setattr(bell, "ENDINGS", 0.1)
    go_on = threading.Event()

    async def program():
        work = asyncio.ensure_future(bell.in_thread(go_on.wait, 5))
        await asyncio.sleep(0.05)
        begun = time.monotonic()
        for _ in range(3):
            work.cancel()
            await asyncio.sleep(0.02)
        with pytest.raises(asyncio.CancelledError):
            await work
        assert 0.05 < time.monotonic() - begun < 1
        go_on.set()

    live(program, loop_name)
