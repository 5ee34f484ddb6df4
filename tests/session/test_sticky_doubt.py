"""A submit whose answer was lost may have been accepted, whatever is answered to a later one."""

import asyncio

import pytest
from virtual import VirtualSession

from kling_async import RetryPolicy, Status, SubmissionInDoubtError, Success, TextToVideo, Timeouts
from kling_async.sandbox import Sandbox, answer, drop_after_accept, hang_after_accept, http

pytestmark = pytest.mark.anyio

POLICY = RetryPolicy(attempts=3, initial=0.1, maximum=0.5)


def doubtful(outcome):
    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert (outcome.charged, outcome.status) == ("unknown", Status.IN_DOUBT)
    return True


@pytest.mark.parametrize(
    "later", [http(400), http(401), http(402), http(403), http(429), http(503), drop_after_accept()]
)
async def test_whatever_a_later_try_is_answered_the_job_stays_in_doubt(later):
    sandbox = Sandbox()
    sandbox.next(drop_after_accept())
    sandbox.script(later, on="submit")
    async with VirtualSession(sandbox, gateway="apimart", retry=POLICY) as session:
        assert doubtful(await session.submit(TextToVideo("a")).outcome())
    assert sandbox.ledger.accepted == 1


async def test_a_dead_host_after_a_lost_answer_leaves_the_job_in_doubt():
    sandbox = Sandbox()
    sandbox.next(drop_after_accept())
    async with VirtualSession(sandbox, gateway="apimart", retry=POLICY) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(0.09)
        session.wire.down = True
        assert doubtful(await future.outcome())


@pytest.mark.parametrize("way", ["cancel", "withdraw_unsent"])
async def test_cancelling_after_a_lost_answer_leaves_the_job_in_doubt(way):
    sandbox = Sandbox()
    sandbox.next(drop_after_accept())
    slow = RetryPolicy(attempts=3, initial=20, maximum=20)
    async with VirtualSession(sandbox, gateway="apimart", retry=slow) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(0.09)
        getattr(future, way)()
        assert doubtful(await future.outcome())


async def test_closing_after_a_lost_answer_leaves_the_job_in_doubt():
    sandbox = Sandbox()
    sandbox.next(drop_after_accept())
    slow = RetryPolicy(attempts=3, initial=20, maximum=20)
    async with VirtualSession(sandbox, gateway="apimart", retry=slow) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(0.09)
    assert doubtful(await future.outcome())


async def test_an_answer_lost_while_the_session_closes_is_in_doubt():
    sandbox = Sandbox()
    sandbox.next(hang_after_accept())
    async with VirtualSession(sandbox, gateway="apimart", timeouts=Timeouts(submit=5)) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(1)
    assert doubtful(await future.outcome())


async def test_a_refused_neighbour_does_not_turn_doubt_into_a_refusal():
    sandbox = Sandbox()
    sandbox.next(drop_after_accept())
    slow = RetryPolicy(attempts=3, initial=5, maximum=5)
    async with VirtualSession(sandbox, gateway="apimart", retry=slow, rate=None, concurrency=1) as session:
        first, second = session.submit(TextToVideo("a")), session.submit(TextToVideo("b"))
        await asyncio.sleep(0.09)
        sandbox.script(http(401), on="submit")
        assert doubtful(await first.outcome())
        assert (await second.outcome()).charged == "no"


async def test_a_request_that_is_still_being_executed_is_asked_for_until_its_answer_comes():
    sandbox = Sandbox()
    said = {"error": {"message": "wait", "type": "apimart_error", "code": "idempotency_in_progress"}}
    sandbox.script(answer(said, status=409), on="submit", times=2)
    async with VirtualSession(sandbox, gateway="apimart") as session:
        assert isinstance(await session.submit(TextToVideo("a")).outcome(), Success)
    for_ever = Sandbox()
    for_ever.script(answer(said, status=409), on="submit")
    async with VirtualSession(for_ever, gateway="apimart", retry=POLICY) as session:
        assert doubtful(await session.submit(TextToVideo("a")).outcome())


@pytest.mark.parametrize(
    "said",
    [
        {"code": 429, "data": {"task_id": 12345}},
        {"code": 429, "data": {"id": "n75x"}},
        {"code": 400, "message": "no", "task_id": "n75x"},
        {"code": 429, "data": [{"task_id": "n75x"}]},
    ],
)
async def test_a_refusal_that_names_a_task_in_any_place_is_in_doubt(said):
    sandbox = Sandbox()
    sandbox.next(answer(said, status=said["code"], accept=True))
    async with VirtualSession(sandbox) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    assert doubtful(outcome)
    assert outcome.task_id in ("12345", "n75x")
    assert len(session.wire.times("POST")) == 1
