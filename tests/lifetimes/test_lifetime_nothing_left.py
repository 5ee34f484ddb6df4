"""After `async with` there is no task, thread, socket or complaint more than before, whatever went on in it."""

import asyncio
import gc

import pytest
from lifetime_place import clip, clips
from lifetime_watch import Footprint, assert_nothing_more_than, live

from kling_async import DownloadError, GenerationFailedError, KlingError, SessionClosedError


async def unused(session, place):
    """Open a session and leave it."""


async def generate(session, place):
    assert (await session.generate(clip())).url


async def submit_and_leave(session, place):
    for request in clips(5):
        session.submit(request)


async def leave_in_the_middle_of_posts(session, place):
    for request in clips(5, "slow 0.1"):
        session.submit(request)
    await asyncio.sleep(0.03)


async def leave_running_jobs(session, place):
    for future in [session.submit(request) for request in clips(5, "stuck")]:
        await future.accepted()


async def failures_that_nobody_asks_for(session, place):
    for directive in ("fail", "reject INVALID_PROMPT", "drop_after_accept", "half_body", "503"):
        session.submit(clip(directive))
    await asyncio.sleep(0.3)


async def failures(session, place):
    with pytest.raises(GenerationFailedError):
        await session.generate(clip("fail"))
    for directive in ("reject INVALID_PROMPT", "drop_after_accept", "reset_after_accept", "html 502"):
        with pytest.raises(KlingError):
            await session.generate(clip(directive))


async def a_look_that_is_never_answered(session, place):
    session.submit(clip("stuck"))
    await asyncio.sleep(0.1)


async def gather(session, place):
    outcomes = await session.gather(clips(10))
    assert all(outcome.ok for outcome in outcomes)


async def stream(session, place):
    assert len([outcome async for outcome in session.stream(clips(10))]) == 10


async def endless():
    try:
        while True:
            yield clip()
    finally:
        await asyncio.sleep(0.01)


async def stream_broken_off(session, place):
    async for _ in session.stream(endless()):
        break


async def stream_broken_off_and_collected(session, place):
    async for _ in session.stream(clip() for _ in range(1000)):
        break
    gc.collect()


async def stream_closed(session, place):
    outcomes = session.stream(endless())
    await anext(outcomes)
    await outcomes.aclose()


async def stream_left_open(session, place):
    place.kept = session.stream(endless())
    await anext(place.kept)


async def stream_never_begun(session, place):
    place.kept = session.stream(endless())


async def stream_read_by_two(session, place):
    outcomes = session.stream(clips(6))
    readers = [asyncio.ensure_future(_all_of(outcomes)) for _ in range(2)]
    assert sum(map(len, await asyncio.gather(*readers))) == 6


async def _all_of(outcomes):
    return [outcome async for outcome in outcomes]


async def updates(session, place):
    assert [each.status async for each in session.submit(clip()).updates()][-1] == "succeeded"


async def updates_broken_off(session, place):
    async for _ in session.submit(clip()).updates():
        break


async def attach(session, place):
    task_id = await session.submit(clip()).accepted()
    await session.attach(task_id)
    session.attach("n75nobodyknowsme")
    await asyncio.sleep(0.05)


async def download(session, place):
    video = await session.generate(clip())
    assert (await session.download(video, place.directory / "boat.mp4")).stat().st_size > 600_000


async def download_that_fails(session, place):
    for directive in ("truncated_mp4", "not_a_video"):
        with pytest.raises(DownloadError):
            await session.download(await session.generate(clip(directive)), place.directory)
    assert list(place.directory.iterdir()) == []


async def download_cut_off_by_the_end(session, place):
    video = await session.generate(clip())
    work = asyncio.ensure_future(session.download(video, place.directory / "boat.mp4"))
    place.tasks.append(work)
    while not list(place.directory.iterdir()):
        await asyncio.sleep(0)


async def callbacks(session, place):
    future = session.submit(clip())
    future.add_done_callback(lambda _: 1 / 0)
    await future


async def withdrawn(session, place):
    futures = [session.submit(request) for request in clips(4)]
    futures[0].cancel()
    await futures[1].accepted()
    futures[1].cancel()
    await asyncio.sleep(0)
    futures[2].cancel()


async def deadline(session, place):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await session.generate(clip("stuck"))
    with pytest.raises(KlingError):
        await session.submit(clip("stuck"), timeout=0.05)


async def batch(session, place):
    async with session.batch(place.journal, download_to=place.directory / "videos") as made:
        made.add(clips(5))
        assert [outcome.ok async for outcome in made.run()] == [True] * 5
    assert len(list((place.directory / "videos").iterdir())) == 5


async def batch_without_a_run(session, place):
    async with session.batch(place.journal) as made:
        made.add(clips(5))
        made.add(clip() for _ in range(5))


async def batch_not_read(session, place):
    async with session.batch(place.journal) as made:
        made.add(clips(5))
        place.kept = made.run()


async def batch_broken_off(session, place):
    async with session.batch(place.journal, download_to=place.directory / "videos") as made:
        made.add(clips(20))
        async for _ in made.run():
            break


async def batch_pulled(session, place):
    async with session.batch(place.journal) as made:
        made.add(clip() for _ in range(5))
        assert len(await _all_of(made.run())) == 5


async def batch_pulled_and_broken_off(session, place):
    async with session.batch(place.journal) as made:
        made.add(endless())
        async for _ in made.run():
            break


async def batch_left_by_an_error(session, place):
    async with session.batch(place.journal, download_to=place.directory / "videos") as made:
        made.add(clips(20))
        async for _ in made.run():
            raise place.error


async def batch_left_by_a_cancellation(session, place):
    async with session.batch(place.journal, download_to=place.directory / "videos") as made:
        made.add(clips(20))
        async for _ in made.run():
            asyncio.current_task().cancel()


async def batch_whose_session_closes_first(session, place):
    async with session.batch(place.journal) as made:
        made.add(clips(5, "stuck"))
        reader = asyncio.ensure_future(_all_of(made.run()))
        await asyncio.sleep(0.1)
        await session.aclose()
        assert {type(outcome.error) for outcome in await reader} == {SessionClosedError}


async def batch_of_videos_that_an_earlier_run_left(session, place):
    async with session.batch(place.journal) as made:
        made.add(clips(8))
        assert len(await _all_of(made.run())) == 8
    async with session.batch(place.journal, download_to=place.directory / "videos") as made:
        async for _ in made.run():
            break


async def an_error_in_the_block(session, place):
    session.submit(clip("stuck"))
    await asyncio.sleep(0.02)
    raise place.error


async def a_cancellation_in_the_block(session, place):
    session.submit(clip("slow 0.05"))
    asyncio.current_task().cancel()
    await session.generate(clip())


ANYWHERE = [
    *(unused, generate, submit_and_leave, leave_in_the_middle_of_posts, leave_running_jobs),
    *(failures_that_nobody_asks_for, failures, a_look_that_is_never_answered, gather),
    *(stream, stream_broken_off, stream_broken_off_and_collected, stream_closed, stream_left_open),
    *(stream_never_begun, stream_read_by_two, updates, updates_broken_off, attach),
    *(download, download_that_fails, download_cut_off_by_the_end, callbacks, withdrawn, deadline),
    *(batch, batch_without_a_run, batch_not_read, batch_broken_off, batch_pulled, batch_pulled_and_broken_off),
    *(batch_left_by_an_error, batch_left_by_a_cancellation, batch_whose_session_closes_first),
    *(batch_of_videos_that_an_earlier_run_left, an_error_in_the_block, a_cancellation_in_the_block),
]


async def balance(session, place):
    assert (await session.balance()).unlimited


async def upload(session, place):
    picture = place.directory / "fox.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    assert (await session.upload(picture)).startswith("https://")


AT_APIMART = [balance, upload, generate, failures_that_nobody_asks_for, batch]


class Place:
    """What one scenario needs beside its session."""

    def __init__(self, directory):
        self.directory = directory / "place"
        self.directory.mkdir()
        self.journal = directory / "night.db"
        self.error = ZeroDivisionError("of the user")
        self.kept = None
        self.tasks = []


async def watched(gateway, dialect, scenario, place):
    """Play a scenario and look at the moment at which its session has been left."""
    before = Footprint.now()
    left_by = None
    try:
        async with gateway.session(dialect) as session:
            await scenario(session, place)
    except (ZeroDivisionError, asyncio.CancelledError) as error:
        left_by = error
    found = Footprint.now().more_than(before)
    assert [each for each in found if each not in place.tasks] == []
    for task in place.tasks:  # the user's own
        with pytest.raises(SessionClosedError):
            await task
    assert_nothing_more_than(before)
    assert (left_by is not None) is scenario.__name__.endswith(("_error", "_cancellation", "_in_the_block"))


@pytest.mark.parametrize(
    ("dialect", "scenario"),
    [*(("kling3api", each) for each in ANYWHERE), *(("apimart", each) for each in AT_APIMART)],
    ids=lambda known: known if isinstance(known, str) else known.__name__,
)
def test_nothing_is_left_when_a_session_has_been_left(gateway, tmp_path, kind, dialect, scenario):
    live(
        lambda: watched(gateway, dialect, scenario, Place(tmp_path)),
        kind,
        said=["a done-callback of job"] if scenario is callbacks else [],
    )
    gateway.accepted()
