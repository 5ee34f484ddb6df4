"""A submit whose answer was lost may have been accepted, whatever is answered to a later one."""

import asyncio
import time

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


@pytest.fixture
def wall(monkeypatch):
    """The wall clock that keys grow old by, in seconds from where it was."""

    class Wall:
        leap = 0.0

        def time(self):
            return time.time() + self.leap

    made = Wall()
    monkeypatch.setattr("kling_async.submitting.time", made)
    return made


@pytest.mark.parametrize(("leap", "posts"), [(0.0, 2), (3500.0, 2), (3600.0, 1), (30_000.0, 1), (-60.0, 1)])
async def test_a_key_that_the_gateway_may_have_forgotten_is_not_sent_again(wall, leap, posts):
    """The machine slept, or its clock was set, between the lost answer and the next try."""
    sandbox = Sandbox()
    sandbox.next(drop_after_accept())
    slow = RetryPolicy(attempts=3, initial=20, maximum=20)
    async with VirtualSession(sandbox, gateway="apimart", retry=slow) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(0.09)
        wall.leap = leap
        outcome = await future.outcome()
    assert len(session.wire.times("POST")) == posts
    assert isinstance(outcome, Success) if posts == 2 else doubtful(outcome)


async def test_a_key_begins_to_grow_old_with_the_first_answer_that_was_lost(wall):
    sandbox = Sandbox()
    sandbox.script(drop_after_accept(), on="submit")
    slow = RetryPolicy(attempts=10, initial=20, maximum=20)
    async with VirtualSession(sandbox, gateway="apimart", retry=slow) as session:
        future = session.submit(TextToVideo("a"))
        for wall.leap in (0.0, 1800.0, 3600.0):
            await asyncio.sleep(25)
        assert doubtful(await future.outcome())
    posts = session.wire.times("POST")
    assert len(posts) >= 2
    assert posts[-1] - posts[0] < 50  # from then on the first one is an hour old


async def test_answers_that_are_always_lost_are_asked_for_a_bounded_number_of_times_whoever_else_is_accepted():
    sandbox = Sandbox()
    sandbox.script(drop_after_accept(), on="submit", prompt="poison")
    async with VirtualSession(sandbox, gateway="apimart", retry=POLICY, concurrency=5) as session:
        poisoned = session.submit(TextToVideo("poison"))
        outcomes = await session.gather([TextToVideo(f"clip {number}") for number in range(50)])
        assert all(isinstance(outcome, Success) for outcome in outcomes)
        assert poisoned.done()
        assert doubtful(await poisoned.outcome())
    assert poisoned.attempts == POLICY.attempts
    assert sandbox.ledger.accepted == 51


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
