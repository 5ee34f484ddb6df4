"""The task-future: awaiting, watching, cancelling."""

import asyncio
import gc
import itertools
import pickle

import anyio
import pytest
from virtual import VirtualSession, now

from kling_async import (
    ConfigurationError,
    Failure,
    GenerationFailedError,
    InvalidRequestError,
    Status,
    Success,
    TaskCancelledError,
    TextToVideo,
)
from kling_async.sandbox import Sandbox, http, slow, stuck

pytestmark = pytest.mark.anyio


async def test_submit_returns_at_once_and_the_future_tells_how_it_goes():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a boat"))
        assert (future.status, future.task_id, future.done()) == (Status.QUEUED, None, False)
        task_id = await future.accepted()
        assert (future.status, future.task_id) == (Status.IN_PROGRESS, task_id)
        assert future.credits == 200
        video = await future
        assert (future.status, video.task_id) == (Status.SUCCEEDED, task_id)
        assert future.result() == video
        assert future.exception() is None
        outcome = await future.outcome()
        assert isinstance(outcome, Success)
        assert outcome.credits == 200
        assert outcome.timing.ran == pytest.approx(now() - future.accepted_at, abs=0.2)
        assert outcome.timing.polls == future.polls >= 1


async def test_any_number_of_awaiters_get_the_same_video():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a boat"))
        videos = await asyncio.gather(future, future, *(future.outcome() for _ in range(3)))
    assert videos[0] == videos[1] == videos[2].video


async def test_cancelling_one_awaiter_harms_neither_the_job_nor_the_others():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a boat"))
        first, second = asyncio.ensure_future(_value(future)), asyncio.ensure_future(_value(future))
        await asyncio.sleep(5)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await second).url
        assert session.sandbox.ledger.accepted == 1


async def _value(future):
    return await future


async def test_every_awaiter_gets_an_exception_object_of_its_own():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a boat [sandbox: fail moderation]"))
        errors = [future_error for _ in range(3) if (future_error := await _error(future))]
    assert len({id(error) for error in errors}) == 3
    assert all(isinstance(error, GenerationFailedError) for error in errors)
    assert errors[0].to_dict() == errors[1].to_dict()
    assert errors[0].charged == "no"
    assert pickle.loads(pickle.dumps(errors[0])).to_dict() == errors[0].to_dict()


async def _error(future):
    try:
        await future
    except Exception as error:
        return error
    return None


async def test_wait_for_as_completed_and_anyio_scopes_work_on_it():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a boat"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 1)
        with anyio.move_on_after(1) as scope:
            await future
        assert scope.cancelled_caught
        async with anyio.create_task_group() as group:
            group.start_soon(future.outcome)
        done = [await each for each in asyncio.as_completed([future, session.submit(TextToVideo("b"))])]
        assert len(done) == 2
        assert session.sandbox.ledger.duplicates == []


async def test_a_failure_nobody_asks_for_makes_no_noise(caplog, recwarn):
    async with VirtualSession() as session:
        session.submit(TextToVideo("a boat [sandbox: fail]"))
        await asyncio.sleep(500)
    gc.collect()
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []


async def test_updates_yield_the_state_at_once_and_every_change_to_the_end():
    async with VirtualSession(gateway="klinggenerator") as session:
        seen = [(update.status, update.progress) async for update in session.submit(TextToVideo("a")).updates()]
    assert seen[0] == (Status.QUEUED, None)
    assert seen[-1] == (Status.SUCCEEDED, 1.0)
    progress = [share for _, share in seen if share is not None]
    assert progress == sorted(progress)
    assert all(before != after for before, after in itertools.pairwise(seen))


async def test_updates_of_an_ended_job_yield_its_last_state_and_stop():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo(" [sandbox: fail]"))
        await future.outcome()
        assert [update.status async for update in future.updates()] == [Status.FAILED]


async def test_done_callbacks_are_called_once_and_their_errors_are_logged(caplog):
    called = []
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a"))
        future.add_done_callback(called.append)
        future.add_done_callback(lambda _: 1 / 0)
        forgotten = []
        future.add_done_callback(forgotten.append)
        assert future.remove_done_callback(forgotten.append) == 1
        assert future.remove_done_callback(forgotten.append) == 0
        await future
        await asyncio.sleep(0)
        future.add_done_callback(called.append)
        await asyncio.sleep(0)
    assert called == [future, future]
    assert forgotten == []
    assert "a done-callback of job" in caplog.text


async def test_cancelling_a_queued_job_sends_nothing():
    async with VirtualSession(concurrency=1) as session:
        first, second = session.submit(TextToVideo("first")), session.submit(TextToVideo("second"))
        await first.accepted()
        assert second.cancel() is True
        assert second.status is Status.CANCELLED
        assert second.cancel() is False
        with pytest.raises(TaskCancelledError) as caught:
            await second
        assert (caught.value.charged, caught.value.task_id) == ("no", None)
        await first
    assert [submit.prompt for submit in session.sandbox.ledger.submits] == ["first"]


async def test_cancelling_during_the_post_keeps_the_id():
    sandbox = Sandbox()
    sandbox.script(slow(5), on="submit")
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(1)
        assert future.status is Status.SUBMITTING
        future.cancel()
        outcome = await future.outcome()
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, TaskCancelledError)
    assert outcome.task_id == sandbox.ledger.submits[0].task_id
    assert outcome.charged == "yes"


async def test_cancelling_a_running_job_stops_following_it_and_frees_its_slot():
    sandbox = Sandbox()
    sandbox.script(stuck())
    async with VirtualSession(sandbox, concurrency=1) as session:
        future = session.submit(TextToVideo("a"))
        await future.accepted()
        polls = sandbox.ledger.polls
        future.cancel()
        assert session.stats.used == 0
        await asyncio.sleep(300)
        assert sandbox.ledger.polls <= polls + 1
    assert (await future.outcome()).task_id == future.task_id


async def test_the_same_key_returns_the_same_future_and_pays_once():
    async with VirtualSession() as session:
        one = session.submit(TextToVideo("a"), key="order-1")
        assert session.submit(TextToVideo("a"), key="order-1") is one
        await one
        assert session.submit(TextToVideo("a"), key="order-1") is one
        assert one.key == "order-1"
        two = session.submit(TextToVideo("b"), key="order-1")
        assert isinstance(two.exception(), InvalidRequestError)
        assert two.exception().field == "key"
        assert two.key != one.key
        assert session.submit(TextToVideo("a"), key="order-1") is one
    assert session.sandbox.ledger.accepted == 1


async def test_equal_requests_without_a_key_are_two_jobs():
    async with VirtualSession() as session:
        outcomes = await session.gather([TextToVideo("a"), TextToVideo("a")])
    assert outcomes[0].task_id != outcomes[1].task_id
    assert outcomes[0].key != outcomes[1].key


async def test_result_and_exception_refuse_to_answer_before_the_end():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a"))
        for ask in (future.result, future.exception):
            with pytest.raises(asyncio.InvalidStateError):
                ask()


async def test_accepted_raises_what_ended_the_job_before_acceptance():
    async with VirtualSession() as session:
        with pytest.raises(InvalidRequestError) as caught:
            await session.submit(TextToVideo("[sandbox: reject INVALID_PROMPT]")).accepted()
        assert (caught.value.code, caught.value.http_status, caught.value.stage) == ("INVALID_PROMPT", 400, "submit")
        late = session.submit(TextToVideo("[sandbox: fail]"))
        await late.outcome()
        assert await late.accepted() == late.task_id


async def test_cancelling_generate_before_the_post_withdraws_the_job():
    sandbox = Sandbox()
    sandbox.script(http(429, retry_after=30), on="submit", times=1)
    async with VirtualSession(sandbox) as session:
        waiting = asyncio.ensure_future(session.generate(TextToVideo("a")))
        await asyncio.sleep(5)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert session.unfinished == ()
    assert sandbox.ledger.accepted == 0


async def test_attach_follows_a_task_submitted_elsewhere_and_looks_at_once():
    sandbox = Sandbox()
    async with VirtualSession(sandbox) as session:
        task_id = await session.submit(TextToVideo("a")).accepted()
    async with VirtualSession(sandbox) as session:
        begun = now()
        future = session.attach(task_id)
        assert session.attach(task_id) is future
        assert (future.status, future.request, future.task_id) == (Status.IN_PROGRESS, None, task_id)
        await asyncio.sleep(1)
        assert session.wire.times("GET")[0] - begun < 0.2
        assert (await future).task_id == task_id
    assert sandbox.ledger.accepted == 1


@pytest.mark.parametrize("task_id", ["", ".", "..", "a/b", "a b", "a?b", "ä", "x" * 129, "a\nb", None, 7])
async def test_attach_sends_nothing_for_what_cannot_be_an_id(task_id):
    async with VirtualSession() as session:
        error = session.attach(task_id).exception()
    assert isinstance(error, InvalidRequestError)
    assert session.wire.log == []


async def test_a_wrong_timeout_is_refused_by_name():
    async with VirtualSession() as session:
        for wrong in (0, -1, True, "5"):
            with pytest.raises(ConfigurationError, match="timeout must be"):
                session.submit(TextToVideo("a"), timeout=wrong)


@pytest.mark.parametrize("key", ["", "a\nb", "x" * 201, 7, ["a"], b"a"])
async def test_a_key_that_is_no_name_fails_that_job_and_is_not_remembered(key):
    async with VirtualSession() as session:
        error = session.submit(TextToVideo("a"), key=key).exception()
        assert isinstance(error, InvalidRequestError)
        assert error.field == "key"
        assert session._keys == {}
    assert session.wire.log == []


async def test_a_key_given_to_attach_names_that_job():
    sandbox = Sandbox()
    async with VirtualSession(sandbox) as session:
        task_id = await session.submit(TextToVideo("a")).accepted()
    async with VirtualSession(sandbox) as session:
        attached = session.attach(task_id, key="order-1")
        assert session.submit(TextToVideo("a"), key="order-1") is attached
        assert session.attach(task_id, key="order-1") is attached
        assert session.attach("n75other", key="order-1").exception().field == "key"
        assert session.attach(task_id, key="a\nb").exception().field == "key"
        await attached
    assert sandbox.ledger.accepted == 1


async def test_withdrawing_twice_what_is_being_sent_still_follows_it():
    sandbox = Sandbox()
    sandbox.script(slow(5), on="submit")
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(1)
        future.withdraw_unsent()
        future.withdraw_unsent()
        assert (await future).url


async def test_a_reader_of_a_stream_that_another_task_closes_is_let_go():
    async with VirtualSession(Sandbox()) as session:
        stream = session.stream(TextToVideo(f"clip {n}") for n in range(3))
        reader = asyncio.ensure_future(anext(stream, "the end"))
        await asyncio.sleep(1)
        await stream.aclose()
        assert await reader == "the end"


async def test_a_stream_whose_session_closes_yields_what_it_submitted_and_ends():
    async def slowly():
        yield TextToVideo("a")
        await asyncio.sleep(10**6)

    async with VirtualSession(Sandbox()) as session:
        stream = session.stream(slowly())
        reading = asyncio.ensure_future(_all_of(stream))
        await asyncio.sleep(1)
    assert [type(outcome.error).__name__ for outcome in await reading] == ["SessionClosedError"]


async def _all_of(stream):
    return [outcome async for outcome in stream]
