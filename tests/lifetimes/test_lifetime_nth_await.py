"""A cancellation at the Nth await, for every N: what was paid is known or in doubt, and nothing is left half done."""

import asyncio
import shutil
from functools import partial
from random import Random

import pytest
from lifetime_judges import judge_files, judge_jobs, judge_journal, resumed
from lifetime_place import clip, clips
from lifetime_strikes import Cut, Strike, Striker, Watched, at_once, with_the_result
from lifetime_watch import Footprint, assert_nothing_more_than, live

from kling_async.batch import State

HOWS = {
    "at once": lambda nth: Strike(nth, at_once),
    "with the result": lambda nth: Strike(nth, with_the_result),
    "three times in a row": lambda nth: Strike(nth, at_once, times=3),
}


async def unused(session, place):
    async with session:
        pass


async def generate(session, place):
    async with session:
        await session.generate(clip())


async def generate_a_named_one(session, place):
    async with session:
        await session.generate(clip(), key="order-123")


async def generate_what_is_answered_slowly(session, place):
    async with session:
        await session.generate(clip("slow 0.03"))


async def generate_two_in_turn(session, place):
    async with session:
        await session.generate(clip())
        await session.generate(clip())


async def accepted(session, place):
    async with session:
        await session.submit(clip()).accepted()


async def outcome(session, place):
    async with session:
        await session.submit(clip()).outcome()


async def failure(session, place):
    async with session:
        await session.submit(clip("fail")).outcome()
        await session.submit(clip("drop_after_accept")).outcome()


async def updates(session, place):
    async with session:
        async for _ in session.submit(clip()).updates():
            pass


async def gather(session, place):
    async with session:
        await session.gather(clips(3))


async def stream(session, place):
    async with session:
        async for _ in session.stream(clips(5)):
            pass


async def slowly(number):
    try:
        for _ in range(number):
            await asyncio.sleep(0.001)
            yield clip()
    finally:
        await asyncio.sleep(0.001)


async def stream_of_a_slow_input(session, place):
    async with session, session.stream(slowly(4)) as outcomes:
        async for _ in outcomes:
            await asyncio.sleep(0)


async def attach(session, place):
    async with session:
        task_id = await session.submit(clip()).accepted()
        await session.attach(task_id)


async def download(session, place):
    async with session:
        video = await session.generate(clip())
        await session.download(video, place / "boat.mp4")


async def batch(session, place):
    async with session, session.batch(place / "night.db", download_to=place / "videos") as made:
        made.add(clips(3))
        async for _ in made.run():
            pass


async def batch_of_one(session, place):
    async with session, session.batch(place / "night.db", download_to=place / "videos") as made:
        made.add(clip())
        async for _ in made.run():
            pass


async def batch_pulled(session, place):
    async with session, session.batch(place / "night.db") as made:
        made.add(slowly(3))
        await made.plan()
        made.add(slowly(2))
        async with made.run() as run:
            async for _ in run:
                await asyncio.sleep(0)


async def batch_left_and_run_again(session, place):
    async with session, session.batch(place / "night.db", download_to=place / "videos") as made:
        made.add(clips(3))
        async for _ in made.run():
            break
        async for _ in made.run():
            pass
        await made.reconcile()


async def balance(session, place):
    async with session:
        await session.balance()


async def upload(session, place):
    (place / "fox.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    async with session:
        await session.upload(place / "fox.png")


PROGRAMS = [
    *(unused, generate, generate_a_named_one, generate_what_is_answered_slowly, generate_two_in_turn, accepted),
    *(outcome, failure, updates, gather, stream, stream_of_a_slow_input, attach, download),
    *(batch, batch_pulled, batch_left_and_run_again, balance, upload),
]
DIALECTS = {balance: "apimart", upload: "apimart"}


async def tried(gateway, program, place, strike, *, own=False):
    """Run a program under a strike, judge what is left, and return the strike."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    gateway.reset()
    session = gateway.session(DIALECTS.get(program, "kling3api"))
    before = Footprint.now()
    work = program(session, place)
    error = await strike.run(Watched(work, strike.suspended) if own else work)
    assert_nothing_more_than(before)
    assert strike.explains(error), error
    assert list(place.glob("**/*.part")) == [] or (place / "night.db").exists()
    paid = gateway.accepted()
    judge_jobs(session, paid)
    judge_files(place)
    if (place / "night.db").exists():
        judge_journal(place / "night.db", paid)
        await resumed(gateway, place)
        entries = judge_journal(place / "night.db", gateway.accepted())
        assert {entry.state for entry in entries} <= {State.SUCCEEDED, State.DOWNLOADED, State.IN_DOUBT}
        judge_files(place / "videos")
    return strike


@pytest.mark.parametrize(("loop_name", "how"), [*(("asyncio", how) for how in HOWS), ("uvloop", "at once")])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
def test_a_cancellation_at_any_await_loses_nothing_and_leaves_nothing(gateway, tmp_path, loop_name, program, how):
    async def every_one():
        nth = 1
        while (await tried(gateway, program, tmp_path / "here", HOWS[how](nth), own=True)).reached:
            nth += 1
        return nth - 1

    assert live(every_one, loop_name) >= 1


@pytest.mark.parametrize("whom", ["the program", "the one who waits", "everybody"])
@pytest.mark.parametrize("program", [generate, stream, download, batch_of_one], ids=lambda program: program.__name__)
def test_a_cancellation_at_any_step_of_any_task_loses_nothing_and_leaves_nothing(
    gateway, tmp_path, loop_name, program, whom
):
    striker = Striker()

    async def every_one():
        reached, nth = True, 0
        while reached:
            nth += 1
            striker.strike = Strike(nth, whom=whom)
            reached = (await tried(gateway, program, tmp_path / "here", striker.strike)).reached
        return nth - 1

    assert live(every_one, loop_name, factory=striker) >= 8


async def by_a_deadline(work, moment):
    async with asyncio.timeout(moment):
        await work


async def by_two_cancellations(work, moment):
    loop, owner = asyncio.get_running_loop(), asyncio.current_task()
    for at in (moment, moment + 0.005):
        loop.call_later(at, owner.cancel)
    await work


CUTS = {by_a_deadline: TimeoutError, by_two_cancellations: asyncio.CancelledError}
CUT_OFF = [generate_two_in_turn, stream, download, batch]


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.__name__)
@pytest.mark.parametrize("program", CUT_OFF, ids=lambda program: program.__name__)
def test_a_program_cut_off_at_a_random_moment_loses_nothing_and_leaves_nothing(
    gateway, tmp_path, loop_name, program, cut
):
    random = Random(f"{program.__name__} {cut.__name__} {loop_name}")

    async def some():
        for _ in range(8):
            moment = 0.25 * random.random() ** 2
            await tried(gateway, program, tmp_path / "here", Cut(partial(cut, moment=moment), CUTS[cut]))

    live(some, loop_name)
