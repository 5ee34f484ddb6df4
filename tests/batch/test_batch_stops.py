"""What ends a run before its jobs, and that another run goes on from there."""

import asyncio
import gc

import anyio
import pytest
from batch_virtual import check, clip, clips, made, night, read, standing, states

from kling_async import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    Failure,
    GenerationTimeoutError,
    JournalError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
    SessionClosedError,
    Status,
    Success,
    TextToVideo,
    Timeouts,
)
from kling_async.batch import Reading, State, Step
from kling_async.batch.states import replay
from kling_async.sandbox import Sandbox, drop_after_accept, hang_after_accept, http, slow, stuck

pytestmark = pytest.mark.anyio


async def all_made(path, sandbox, count, **settings):
    """Another run makes whatever is left, and nothing twice."""
    async with night(sandbox, **settings) as session, session.batch(path) as batch:
        await made(batch)
        assert batch.summary().unfinished == 0
        assert batch.summary().done == count
    assert sandbox.ledger.accepted == count
    check(path, sandbox)


# The account.


@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (403, PermissionDeniedError)])
@pytest.mark.parametrize("nth", [1, 8])
async def test_a_refused_key_stops_the_run_and_leaves_what_was_not_sent_planned(path, status, kind, nth):
    sandbox = Sandbox()
    refusals = sandbox.script(http(status), on="submit")
    refusals.nth = range(nth, 10**6)
    async with night(sandbox, concurrency=5) as session, session.batch(path) as batch:
        batch.add(clips(20))
        outcomes = await made(batch)
        (failure,) = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
        assert isinstance(failure.error, kind)
        assert (failure.status, failure.charged) == (Status.QUEUED, "no")
        assert isinstance(batch.summary().stopped, kind)
        assert (batch.summary().planned, batch.summary().succeeded) == (21 - nth, nth - 1)
    assert len(sandbox.ledger.submits) <= nth + 4
    sandbox.forget()
    await all_made(path, sandbox, 20)


async def test_a_key_refused_on_a_look_keeps_the_ids(path):
    sandbox = Sandbox()
    async with night(sandbox, concurrency=5) as session, session.batch(path) as batch:
        batch.add(clips(20))
        async with batch.run() as run:
            reader = asyncio.ensure_future(anext(run))
            await asyncio.sleep(5)
            sandbox.script(http(401))
            outcomes = [await reader]
            await read(run, outcomes)
        assert {type(outcome.error) for outcome in outcomes} == {AuthenticationError}
        assert len([outcome for outcome in outcomes if outcome.task_id is not None]) == 5
        assert (batch.summary().accepted, batch.summary().planned) == (5, 15)
    sandbox.forget()
    await all_made(path, sandbox, 20)


async def test_a_used_up_quota_stops_the_run_resumably(path):
    sandbox = Sandbox(daily_quota=7, median=20)
    async with night(sandbox, "klinggenerator", concurrency=3) as session, session.batch(path) as batch:
        batch.add(clips(10))
        outcomes = await made(batch)
        assert [type(outcome.error) for outcome in outcomes if not outcome.ok] == [QuotaExhaustedError]
        assert (batch.summary().succeeded, batch.summary().planned) == (7, 3)
        assert isinstance(batch.summary().stopped, QuotaExhaustedError)
    sandbox.daily_quota = None
    await all_made(path, sandbox, 10, gateway="klinggenerator")


# Storms and outages.


async def test_a_storm_of_429s_is_ridden_out(path):
    sandbox = Sandbox(median=20)
    sandbox.script(http(429, retry_after=2), on="submit", share=0.5)
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(100))
        outcomes = await made(batch)
        assert all(outcome.ok for outcome in outcomes)
        assert (len(outcomes), batch.summary().stopped) == (100, None)
    check(path, sandbox)


async def test_a_gateway_that_refuses_everything_for_minutes_is_asked_by_one_job_at_a_time(path):
    sandbox = Sandbox(median=20)
    refusals = sandbox.script(http(429), on="submit")
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(100))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        loop.call_later(1200, sandbox.forget, refusals)
        outcomes = await made(batch)
        assert all(outcome.ok for outcome in outcomes)
        assert (len(outcomes), batch.summary().stopped) == (100, None)
        assert loop.time() - begun < 1200 + 300 + 400
    assert refusals.fired < 200
    later = [submit.at for submit in sandbox.ledger.submits if 300 < submit.at - begun < 1200]
    assert len(later) < 40
    check(path, sandbox)


@pytest.mark.parametrize("minutes", [1, 10])
async def test_an_outage_of_some_minutes_is_ridden_out(path, minutes):
    async with night(Sandbox(median=20), concurrency=8) as session, session.batch(path) as batch:
        batch.add(clips(60))
        loop = asyncio.get_running_loop()
        loop.call_later(30, setattr, session.wire, "down", True)
        loop.call_later(30 + 60 * minutes, setattr, session.wire, "down", False)
        outcomes = await made(batch)
        assert all(outcome.ok for outcome in outcomes)
        assert (len(outcomes), batch.summary().stopped) == (60, None)
    check(path, session.sandbox)


async def test_an_outage_longer_than_patience_ends_the_run_resumably(path):
    timeouts = Timeouts(generation=120)
    sandbox = Sandbox(median=20)
    async with night(sandbox, concurrency=8, timeouts=timeouts) as session, session.batch(path, patience=600) as batch:
        batch.add(clips(60))
        loop = asyncio.get_running_loop()
        loop.call_later(30, setattr, session.wire, "down", True)
        outcomes = await made(batch)
        assert 600 < loop.time() - session.wire.times("POST")[-1] < 600 + 120 + 400
        assert isinstance(batch.summary().stopped, ConnectionFailedError)
        unsent = [outcome for outcome in outcomes if not outcome.ok and outcome.task_id is None]
        assert [(failure.status, failure.charged) for failure in unsent] == [(Status.QUEUED, "no")]
    await all_made(path, sandbox, 60)


async def test_a_gateway_that_was_never_there_is_not_waited_for(path):
    async with night() as session, session.batch(path) as batch:
        session.wire.down = True
        batch.add(clips(60))
        begun = asyncio.get_running_loop().time()
        (outcome,) = await made(batch)
        assert isinstance(outcome.error, ConnectionFailedError)
        assert asyncio.get_running_loop().time() - begun < 120
        assert batch.summary().planned == 60
    await all_made(path, session.sandbox, 60)


async def test_a_storm_longer_than_patience_ends_the_run_resumably(path):
    sandbox = Sandbox()
    sandbox.script(http(429), on="submit")
    async with night(sandbox) as session, session.batch(path, patience=300) as batch:
        batch.add(clips(30))
        (outcome,) = await made(batch)
        assert isinstance(outcome.error, RateLimitError)
        assert isinstance(batch.summary().stopped, RateLimitError)
        assert batch.summary().planned == 30
    sandbox.forget()
    await all_made(path, sandbox, 30)


# Leaving early.


async def leave_by_break(batch, count):
    seen = 0
    async for _ in batch.run():
        seen += 1
        if seen == count:
            break


async def leave_by_close(batch, count):
    run = batch.run()
    for _ in range(count):
        await anext(run)
    await run.aclose()
    await run.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(run)


async def leave_by_cancel(batch, count):
    reader = asyncio.ensure_future(leave_by_break(batch, 10**9))
    while batch.summary().done < count:
        await asyncio.sleep(1)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader


async def leave_by_scope(batch, count):
    with anyio.move_on_after(200):
        await leave_by_break(batch, 10**9)


async def leave_by_stop(batch, count):
    seen = 0
    async for _ in batch.run():
        seen += 1
        if seen == count:
            batch.stop()


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_close, leave_by_cancel, leave_by_scope, leave_by_stop])
async def test_leaving_early_sends_nothing_new_and_loses_no_id(path, leave):
    sandbox = Sandbox(median=60)
    async with night(sandbox, concurrency=10, rate="5/s") as session, session.batch(path) as batch:
        batch.add(clips(40))
        await leave(batch, 7)
        gc.collect()
        sent = len(sandbox.ledger.submits)
        assert sent < 40
        await asyncio.sleep(1000)
        assert len(sandbox.ledger.submits) <= sent + 1
        assert batch.summary().stopped is not None
        known = {entry.task_id for entry in standing(path).values()}
        assert {submit.task_id for submit in sandbox.ledger.submits if submit.accepted} <= known
    assert set(states(path).values()) <= {"planned", "accepted", "succeeded"}
    await all_made(path, sandbox, 40)


@pytest.mark.parametrize("leave", [leave_by_break, leave_by_close, leave_by_cancel])
async def test_a_run_that_was_left_may_be_followed_by_another(path, leave):
    sandbox = Sandbox(median=60)
    async with night(sandbox, concurrency=10) as session, session.batch(path) as batch:
        batch.add(clips(40))
        await leave(batch, 7)
        await asyncio.sleep(0)
        gc.collect()
        await made(batch)
        assert (batch.summary().done, batch.summary().stopped) == (40, None)
    assert sandbox.ledger.accepted == 40
    check(path, sandbox)


@pytest.mark.parametrize("action", [slow(20), hang_after_accept(), drop_after_accept()])
async def test_closing_in_the_middle_of_posts_waits_for_their_answers(path, action):
    sandbox = Sandbox()
    sandbox.script(action, on="submit")
    async with night(sandbox, timeouts=Timeouts(submit=30)) as session:
        async with session.batch(path) as batch:
            batch.add(clips(5))
            reader = asyncio.ensure_future(made(batch))
            await asyncio.sleep(1)
        outcomes = await reader
        assert {outcome.ok for outcome in outcomes} <= {False}
    assert set(states(path).values()) <= {"accepted", "in_doubt"}
    assert sandbox.ledger.accepted == 5
    check(path, sandbox)


async def test_cancelling_the_program_in_the_middle_of_posts_loses_no_id(path):
    sandbox = Sandbox()
    sandbox.script(slow(20), on="submit")

    async def program():
        async with night(sandbox) as session, session.batch(path) as batch:
            batch.add(clips(5))
            await made(batch)

    running = asyncio.ensure_future(program())
    await asyncio.sleep(5)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert states(path) == dict.fromkeys([key for key, _ in clips(5)], "accepted")
    await all_made(path, sandbox, 5)


async def test_a_session_that_closes_first_ends_the_run_and_loses_nothing(path):
    sandbox = Sandbox(median=60)
    async with night(sandbox, concurrency=10) as session, session.batch(path) as batch:
        batch.add(clips(40))
        outcomes = []
        reader = asyncio.ensure_future(read(batch.run(), outcomes))
        await asyncio.sleep(50)
        await session.aclose()
        with pytest.raises(SessionClosedError):
            await reader
        assert batch.summary().submitting == 0
    assert 10 <= sandbox.ledger.accepted < 40
    assert set(states(path).values()) <= {"planned", "accepted", "succeeded"}
    await all_made(path, sandbox, 40)


async def test_a_session_that_closes_when_all_is_sent_leaves_the_jobs_accepted(path):
    async with night(Sandbox()) as session, session.batch(path) as batch:
        batch.add(clips(4))
        reader = asyncio.ensure_future(made(batch))
        await asyncio.sleep(20)
        await session.aclose()
        outcomes = await reader
        assert {(type(outcome.error), outcome.status) for outcome in outcomes} == {
            (SessionClosedError, Status.IN_PROGRESS)
        }
    await all_made(path, session.sandbox, 4)


# Late jobs.


async def test_a_late_job_stays_accepted_and_is_followed_by_the_next_run(path):
    sandbox = Sandbox(median=1000, sigma=0)
    async with night(sandbox, timeouts=Timeouts(generation=300)) as session, session.batch(path) as batch:
        batch.add(clips(3))
        for _ in range(3):
            outcomes = await made(batch)
            assert {(type(each.error), each.status) for each in outcomes} == {
                (GenerationTimeoutError, Status.IN_PROGRESS)
            }
            assert all(each.task_id for each in outcomes)
            assert batch.summary().accepted == 3
        outcomes = await made(batch)
        assert [each.ok for each in outcomes] == [True] * 3
    assert sandbox.ledger.accepted == 3
    check(path, sandbox)


async def test_late_jobs_are_no_failures_and_keep_their_money(path):
    sandbox = Sandbox()
    sandbox.script(stuck(), on="submit")
    session = night(sandbox, timeouts=Timeouts(generation=300))
    async with session, session.batch(path, max_failures=1, budget=1000) as batch:
        batch.add(clips(8))
        outcomes = await made(batch)
        assert batch.summary().stopped.code == "budget"
        assert (batch.summary().accepted, batch.summary().reserved) == (5, 1000)
        assert len(outcomes) == 6
    check(path, sandbox)


# Two at once.


async def test_a_second_run_while_one_is_under_way_is_refused(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(2))
        run = batch.run()
        for call in (batch.run, batch.retry):
            with pytest.raises(ConfigurationError, match="run under way"):
                call()
        with pytest.raises(ConfigurationError, match="run under way"):
            await batch.reconcile()
        assert len([outcome async for outcome in run]) == 2
        assert await made(batch) == []


async def test_a_journal_has_one_owner(path):
    async with night() as session, session.batch(path):
        with pytest.raises(JournalError) as caught:
            async with session.batch(path):
                pass
        assert caught.value.code == "locked"
    async with night() as session, session.batch(path) as batch:
        assert batch.summary().total == 0


async def test_two_batches_share_one_session(path):
    other = path.with_name("day.db")
    sandbox = Sandbox(median=30)
    async with (
        night(sandbox, concurrency=7) as session,
        session.batch(path, budget=2000) as one,
        session.batch(other, budget=1000) as two,
    ):
        one.add(clips(20))
        two.add([(key, clip(f"other {key}")) for key, _ in clips(20)])
        first, second = await asyncio.gather(made(one), made(two))
        assert sum(outcome.ok for outcome in first) == 10
        assert sum(outcome.ok for outcome in second) == 5
    assert (sandbox.ledger.accepted, sandbox.ledger.duplicates) == (15, [])
    assert sandbox.ledger.max_running <= 7
    check(path)
    check(other)


async def test_a_journal_of_another_gateway_is_refused(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(2))
        await made(batch)
    async with night(gateway="apimart") as session:
        with pytest.raises(ConfigurationError, match="a batch at kling3api") as caught:
            async with session.batch(path):
                pass
        assert caught.value.field == "gateway"
    async with night(session.sandbox) as session, session.batch(path) as batch:
        assert batch.summary().succeeded == 2


async def test_a_batch_that_was_only_planned_may_be_made_at_a_gateway_with_the_same_prices(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(2))
    async with night(gateway="apiin") as session, session.batch(path, budget=1000) as batch:
        assert [outcome.ok for outcome in await made(batch)] == [True] * 2
        assert batch.summary().gateway == "apiin"
    check(path, session.sandbox)


async def test_prices_of_another_gateway_are_not_taken_for_its_own(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(2))
    async with night(gateway="apimart") as session:
        with pytest.raises(ConfigurationError, match="the prices of kling3api"):
            await session.batch(path, budget=1000).__aenter__()
    async with night() as session, session.batch(path, budget=1000) as batch:
        assert len(await made(batch)) == 2


async def test_money_in_doubt_at_another_gateway_is_not_forgotten_there(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(TextToVideo("[sandbox: drop_after_accept] a"))
        await made(batch)
        assert batch.retry(in_doubt=True) == 1
    async with night(gateway="apiin") as session:
        with pytest.raises(ConfigurationError, match="a batch at kling3api"):
            await session.batch(path).__aenter__()


async def test_a_closed_batch_says_so(path):
    async with night() as session:
        batch = session.batch(path)
        with pytest.raises(ConfigurationError, match="not open"):
            batch.add(clips(1))
        async with batch:
            with pytest.raises(ConfigurationError, match="open already"):
                await batch.__aenter__()
        await batch.aclose()
        for call in (batch.run, batch.summary, batch.retry):
            with pytest.raises(ConfigurationError, match="not open"):
                call()


# The observer.


async def test_the_observer_sees_every_step_in_its_order_once_it_is_durable(path):
    seen = []

    def observe(step, old, new):
        with Reading(path) as journal:
            (kept,) = journal.page(list(State), new.id - 1, 1)
            history = [found for found, _, _ in journal.steps(new.id)]
        assert step in history
        seen.append((new.key, step))
        assert history[: 1 + len([key for key, _ in seen if key == new.key])].count(step) == [
            each for key, each in seen if key == new.key
        ].count(step)
        if step is not Step.POSTPONED:
            assert kept == new or kept.state is not new.state

    sandbox = Sandbox()
    sandbox.script(http(429), on="submit", nth=[2, 3])
    sandbox.script(http(400), on="submit", nth=[6])
    sandbox.script(drop_after_accept(), on="submit", nth=[7])
    async with night(sandbox) as session, session.batch(path, observer=observe) as batch:
        batch.add(clips(10))
        await made(batch)
        for key, entry in standing(path).items():
            steps = [Step.PLANNED, *[step for name, step in seen if name == key]]
            assert replay(steps) == (entry.state, entry.attempt)
            with Reading(path) as journal:
                assert steps == [step for step, _, _ in journal.steps(entry.id)]
    assert Step.POSTPONED in {step for _, step in seen}
    check(path, sandbox)


async def test_an_observer_that_breaks_harms_no_job(path, caplog):
    def observe(step, old, new):
        raise ZeroDivisionError(step)

    async with night() as session, session.batch(path, observer=observe) as batch:
        batch.add(clips(5))
        assert [outcome.ok for outcome in await made(batch)] == [True] * 5
    assert "observer" in caplog.text
    check(path, session.sandbox)


async def test_earlier_outcomes_come_first_where_they_are_wanted(path):
    sandbox = Sandbox()
    sandbox.script(http(400), prompt="clip 1")
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(3))
        first = await made(batch)
        batch.add(clips(5))
        second = await made(batch, earlier=True)
        assert [outcome.key for outcome in second[:3]] == ["k0", "k1", "k2"]
        assert {outcome.key for outcome in second[3:]} == {"k3", "k4"}
        for old in first:
            (again,) = [outcome for outcome in second if outcome.key == old.key]
            assert (type(again), again.task_id, again.request) == (type(old), old.task_id, old.request)
            if isinstance(old, Success):
                assert again.to_dict() == old.to_dict()
            else:
                assert again.error.to_dict() == old.error.to_dict()
        assert [outcome.key for outcome in batch.outcomes()] == [f"k{number}" for number in range(5)]


async def test_only_some_of_the_planned_jobs_may_be_sent(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(6))
        assert {outcome.key for outcome in await made(batch, only=["k1", "k4", "none"])} == {"k1", "k4"}
        assert batch.summary().planned == 4
        batch.add(TextToVideo("[sandbox: reject X] bad"))
        assert len(await made(batch)) == 5
