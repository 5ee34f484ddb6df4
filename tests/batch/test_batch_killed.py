"""Programs that were killed at any instant, and disks that are full."""

import asyncio
from contextlib import suppress

import pytest
from batch_virtual import Program, check, clips, made, night, read, states

from kling_async import Failure, JournalError, SubmissionInDoubtError, Success, Timeouts
from kling_async.batch.recovery import SETTLE
from kling_async.sandbox import Sandbox, http, slow

pytestmark = pytest.mark.anyio


# Programs that were killed.


@pytest.mark.usefixtures("no_threads")
class TestKilled:
    @pytest.mark.parametrize("gateway", ["kling3api", "keyed", "apimart"])
    @pytest.mark.parametrize("after", [0.0005, 0.003, 0.0041, 0.01, 0.04, 0.07, 0.0842, 0.0844, 0.2, 30, 85, 400])
    def test_at_any_instant_nothing_is_lost_and_nothing_paid_twice(self, path, gateway, after):
        sandbox = Sandbox()
        program = Program(path, sandbox, gateway=gateway).open()
        program.batch.add(clips(4))
        program.read()
        program.wait(after)
        now = program.kill()
        check(path, sandbox)
        program = Program(path, sandbox, now, gateway=gateway).open()
        assert program.batch.add(clips(4)) == 0
        outcomes = program.do(made(program.batch))
        if gateway == "kling3api":
            assert {type(outcome.error) for outcome in outcomes if not outcome.ok} <= {SubmissionInDoubtError}
        summary = program.batch.summary()
        assert summary.in_doubt <= (0 if gateway != "kling3api" and sandbox.ledger.accepted == 4 else 4)
        assert (summary.unfinished, summary.done + summary.in_doubt) == (0, 4)
        program.close()
        assert sandbox.ledger.accepted <= 4
        check(path, sandbox)

    def test_the_window_of_doubt_is_the_post_alone(self, path):
        found = {}
        for milliseconds in range(2, 100, 4):
            sandbox, here = Sandbox(), path.with_name(f"{milliseconds}.db")
            program = Program(here, sandbox).open()
            program.batch.add(clips(1))
            program.read()
            program.wait(milliseconds / 1000)
            program.kill()
            found[milliseconds] = states(here)["k0"]
            assert sandbox.ledger.accepted == (milliseconds > 44)
        # A commit takes 4 ms, the way to the gateway and back 40 ms each.
        assert [found[2], found[90]] == ["planned", "accepted"]
        assert {found[milliseconds] for milliseconds in range(6, 88, 4)} == {"submitting"}

    def test_lookups_wait_until_the_post_of_the_killed_program_has_surely_ended(self, path):
        sandbox = Sandbox()
        sandbox.script(slow(60), on="submit")
        settings = {"timeouts": Timeouts(submit=90)}
        program = Program(path, sandbox, gateway="keyed", session=settings).open()
        program.batch.add(clips(3))
        program.read()
        program.wait(10)
        now = program.kill()
        program = Program(path, sandbox, now, gateway="keyed", session=settings).open()
        found = program.do(program.batch.reconcile())
        assert len(found.found) == 3
        assert min(program.session.wire.times("FIND")) >= now - 10 + 90 + SETTLE - 0.001
        program.close()
        check(path, sandbox)


# A disk that is full.


async def test_a_full_disk_keeps_every_byte_back(path, disk):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(5))
        disk.full = True
        with pytest.raises(JournalError) as caught:
            await made(batch)
        assert caught.value.code == "full"
        assert session.sandbox.ledger.submits == []
        with pytest.raises(JournalError):
            batch.add(clips(7))
        disk.full = False
        assert batch.summary().planned == 5
        assert [outcome.ok for outcome in await made(batch)] == [True] * 5
    check(path, session.sandbox)


@pytest.mark.parametrize("writes", [1, 2, 5, 20])
@pytest.mark.parametrize("after", [0, 0.06, 20])
async def test_a_disk_that_is_full_for_some_writes_loses_no_id_and_pays_nothing_twice(path, disk, writes, after):
    sandbox = Sandbox(median=30)
    async with night(sandbox, concurrency=4) as session, session.batch(path) as batch:
        batch.add(clips(12))
        asyncio.get_running_loop().call_later(after, setattr, disk, "fail_next", writes)
        with suppress(JournalError):
            await made(batch)
            assert writes == 1  # the changes of a group that fails are tried one by one
    disk.fail_next = 0
    async with night(sandbox) as session, session.batch(path) as batch:
        await made(batch)
        assert (batch.summary().done + batch.summary().in_doubt, batch.summary().unfinished) == (12, 0)
        assert batch.summary().in_doubt <= 4
    check(path, sandbox)


async def test_an_id_that_the_disk_does_not_take_is_in_the_error_and_the_video_comes_all_the_same(path, disk):
    sandbox = Sandbox()
    outcomes = []
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(2))
        asyncio.get_running_loop().call_later(0.06, setattr, disk, "full", True)
        with pytest.raises(JournalError) as caught:
            await read(batch.run(), outcomes)
        disk.full = False
    assert [type(outcome) for outcome in outcomes] == [Success] * 2
    assert all(outcome.task_id in caught.value.message for outcome in outcomes)
    check(path, sandbox)


async def test_taking_an_intent_back_from_a_full_disk_never_sends_without_a_record(path, disk):
    sandbox = Sandbox()
    sandbox.script(http(429), on="submit", times=1)
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(1))
        asyncio.get_running_loop().call_later(0.07, setattr, disk, "full", True)
        with pytest.raises(JournalError):
            await made(batch)
        assert sandbox.ledger.accepted == 0
        disk.full = False
        (outcome,) = await made(batch)
        assert isinstance(outcome, (Success, Failure))
    check(path, sandbox)
