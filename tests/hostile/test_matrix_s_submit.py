"""S: what happens to a submit on its way and by its status."""

import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from hostile_gateway import film_of, head, reset, show, shown, take, taken
from trials import KEY, assert_in_doubt, assert_silent

from kling_async import (
    AuthenticationError,
    DownloadPolicy,
    GatewayUnavailableError,
    InsufficientCreditsError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    RetryPolicy,
    Status,
    Success,
    TaskCancelledError,
    TextToVideo,
    Timeouts,
)
from kling_async.batch import Reading, State, Step

pytestmark = pytest.mark.anyio

NAME = "gateway.test"
HERE = ["127.0.0.1"]


async def outcomes_of(run):
    return [outcome async for outcome in run]


async def reset_after_send(visit):
    visit.accept()
    visit.reset()


async def close_after_send(visit):
    visit.accept()


async def close_without_accepting(visit):
    """Hang up, and do nothing."""


async def hang_after_send(visit):
    visit.accept()
    await visit.gone()


def saying(body=b"", status="200 OK", *, accept=False, headers=()):
    """Return a fault that answers like this, after taking the job or not."""

    async def say(visit):
        if accept:
            visit.accept()
        await visit.say(body, status, headers)
        return True

    return say


def gaps(visits):
    return [later.at - earlier.at for earlier, later in itertools.pairwise(visits)]


# Lost answers.


async def test_s01_a_reset_after_the_send_leaves_the_job_in_doubt_and_is_not_sent_again(trial):
    async with trial(seconds=1) as t:
        t.gateway.on("submit", reset_after_send)
        future, outcome = await t.one()
        assert_in_doubt(t, future, outcome, "reset")


async def test_s01_a_batch_keeps_what_was_sent_and_when_and_for_whom_and_sends_it_no_more(trial, tmp_path):
    path = tmp_path / "s01.db"
    async with trial(seconds=2) as t:
        t.gateway.on("submit", reset_after_send)
        begun = time.time()
        async with t.session.batch(path) as batch:
            request = TextToVideo("a paper boat that is lost", duration=7, negative_prompt="sharks")
            batch.add([("order-1", request)])
            (outcome,) = await outcomes_of(batch.run())
            assert (outcome.status, outcome.error.code, outcome.charged) == (Status.IN_DOUBT, "reset", "unknown")
            assert_silent(outcome.error)
            (entry,) = batch.entries(State.IN_DOUBT)
            assert (entry.key, entry.asked(), entry.attempt) == ("order-1", request, 1)
            assert begun - 1 <= entry.intent_at <= time.time()
            with Reading(path) as reading:
                (mark,) = [detail for step, _, detail in reading.steps(entry.id) if step is Step.SUBMITTING]
            assert mark
            assert KEY not in mark
        async with t.another() as session, session.batch(path) as batch:
            assert await outcomes_of(batch.run()) == []
            assert batch.summary().in_doubt == 1
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


async def test_s02_an_end_after_the_send_leaves_the_job_in_doubt(trial):
    async with trial(seconds=1) as t:
        t.gateway.on("submit", close_after_send)
        future, outcome = await t.one()
        assert_in_doubt(t, future, outcome, "disconnected", "reset")


async def test_s03_no_answer_leaves_the_job_in_doubt_at_the_deadline(trial):
    async with trial(seconds=1) as t:
        t.gateway.on("submit", hang_after_send)
        begun = time.monotonic()
        future, outcome = await t.one()
        assert_in_doubt(t, future, outcome, "timeout")
        assert 0.9 <= time.monotonic() - begun <= 2


async def test_s04_an_answer_after_the_deadline_is_not_read_and_its_connection_is_closed(trial):
    hung_up = asyncio.get_running_loop().create_future()

    async def late(visit):
        task = visit.accept()
        assert await visit.reader.read() == b""
        hung_up.set_result(asyncio.get_running_loop().time() - visit.at)
        await visit.say(taken(task))

    async with trial(seconds=0.4, timeouts=Timeouts(connect=1, submit=0.4, poll=1)) as t:
        t.gateway.on("submit", late)
        future, outcome = await t.one()
        assert 0.3 <= await hung_up <= 0.8
        await asyncio.sleep(0.1)
        assert_in_doubt(t, future, outcome, "timeout")
        assert t.ledger.polls == []


async def test_s05_a_request_that_was_dropped_is_told_from_one_that_was_taken_by_nothing(trial):
    def told(outcome):
        said = outcome.to_dict()
        return {**said, "key": None, "error": {**said["error"], "key": None}}

    async with trial(seconds=1) as t:
        t.gateway.on("submit", close_without_accepting, close_after_send)
        dropped, dropped_outcome = await t.one()
        assert_in_doubt(t, dropped, dropped_outcome, "disconnected", "reset", accepted=0)
        taken_, taken_outcome = await t.one()
        assert_in_doubt(t, taken_, taken_outcome, "disconnected", "reset", submits=2)
        assert told(dropped_outcome) == told(taken_outcome)


HALVES = {
    "nothing of the line": b"HTT",
    "half a status line": b"HTTP/1.1 20",
    "a status line": b"HTTP/1.1 200 OK\r\n",
    "half a header": b"HTTP/1.1 200 OK\r\nContent-Le",
    "headers without an end": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
    "half the headers of a refusal": b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n",
}


@pytest.mark.parametrize("half", HALVES)
async def test_s06_half_a_head_leaves_the_job_in_doubt(trial, half):
    async def answer(visit):
        visit.accept()
        await visit.send(HALVES[half])

    async with trial(seconds=1) as t:
        t.gateway.on("submit", answer)
        future, outcome = await t.one()
        assert_in_doubt(t, future, outcome, "disconnected", "protocol", "reset")


@pytest.mark.parametrize("size", [0, 500_000])
async def test_s07_a_reset_before_the_body_is_read_leaves_the_job_in_doubt(trial, size):
    async def greet(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        reset(writer)
        return True

    async with trial(seconds=1) as t:
        t.gateway.greeting = greet
        future = t.session.submit(TextToVideo("a boat", extra={"note": "x" * size}))
        outcome = await future.outcome()
        assert_in_doubt(t, future, outcome, "reset", "disconnected", accepted=0, submits=0)
        assert t.ledger.connections["api"] == 1


async def test_s07_a_reset_before_the_body_of_the_answer_leaves_the_job_in_doubt(trial):
    async def answer(visit):
        visit.accept()
        await visit.send(head(length=200))
        await asyncio.sleep(0.02)
        visit.reset()

    async with trial(seconds=1) as t:
        t.gateway.on("submit", answer)
        future, outcome = await t.one()
        assert_in_doubt(t, future, outcome, "cut", "reset")


# Connections that were used before.


async def test_s08_a_connection_that_turned_stale_costs_no_submit(trial):
    lost = []

    def stale_after(usual):
        """Answer, and reset the connection when the next request comes over it."""

        async def answer(visit):
            await usual(visit)
            if await visit.reader.read(1):
                lost.append(visit.path)
                visit.reset()

        return answer

    async with trial(seconds=3, running_looks=2) as t:
        t.gateway.on("submit", stale_after(take), times=0).on("status", stale_after(show), times=0)
        outcomes = [*await t.many(5), *await t.many(5)]
        assert [type(outcome) for outcome in outcomes] == [Success] * 10
        assert (t.ledger.accepted, len(t.ledger.submits)) == (10, 10)
        assert len(lost) > 3
        assert set(lost) == {"/api/status"}  # looks were lost, and made again


@pytest.mark.parametrize("end", ["close", "reset"])
async def test_s09_a_hundred_races_with_idle_connections_that_end_leave_no_job_in_doubt(trial, end):
    idle = asyncio.Event()
    delays = itertools.cycle([0.0, 0.001, 0.003])

    def ending(usual):
        async def answer(visit):
            await usual(visit)
            # A reset would overtake the answer: it comes once that was read.
            await asyncio.sleep(next(delays) + (0.001 if end == "reset" else 0))
            if end == "reset":
                visit.reset()
            else:
                visit.writer.close()
            idle.set()

        return answer

    async with trial(seconds=5) as t:
        t.gateway.on("submit", ending(take), times=0).on("status", ending(show), times=0)
        futures = []
        for _ in range(100):
            idle.clear()
            futures.append(t.submit())
            await futures[-1].accepted()
            await idle.wait()  # the next one is sent in the moment in which a connection ends
        outcomes = [await future.outcome() for future in futures]
        assert [type(outcome) for outcome in outcomes] == [Success] * 100
        assert {future.attempts for future in futures} == {1}
        assert (t.ledger.accepted, len(t.ledger.submits)) == (100, 100)


GHOST = "n75ghostkling3"


def ghost_of_submit(visit):
    return {"code": 200, "data": {"task_id": GHOST, "status": "IN_PROGRESS", "consumed_credits": 200}}


def ghost_of_look(visit):
    film = [f"{visit.gateway.canary}/ghost.mp4"]
    return {"code": 200, "data": {"task_id": GHOST, "status": "SUCCESS", "response": film}}


def nameless_ghost(visit):
    return {"code": 200, "data": {"status": "SUCCESS", "response": [f"{visit.gateway.canary}/ghost.mp4"]}}


def ghost_of_another(visit):
    """What is true of the job before."""
    task = visit.gateway.ledger.tasks[-2 if len(visit.gateway.ledger.tasks) > 1 else -1]
    return shown(task, "SUCCESS", [f"{visit.gateway.films}/{task.task_id}.mp4"])


@pytest.mark.parametrize("delay", [None, 0.0, 0.005], ids=["with the answer", "after it", "while idle"])
@pytest.mark.parametrize("ghost", [ghost_of_submit, ghost_of_look, nameless_ghost, ghost_of_another])
async def test_s10_an_answer_that_nobody_asked_for_is_nobodys(trial, tmp_path, ghost, delay):
    def haunted(usual):
        async def answer(visit):
            await usual(visit)
            if delay is not None:
                await asyncio.sleep(delay)
            with contextlib.suppress(ConnectionError):
                await visit.say(ghost(visit))
            return True

        return answer

    async with trial(seconds=3) as t:
        t.gateway.on("submit", haunted(take), times=0).on("status", haunted(show), times=0)
        async with t.session.batch(tmp_path / "s10.db", download_to=tmp_path / "films") as batch:
            batch.add([t.request() for _ in range(4)])
            outcomes = await outcomes_of(batch.run())
            entries = list(batch.entries(State.DOWNLOADED))
        assert [type(outcome) for outcome in outcomes] == [Success] * 4
        for outcome in outcomes:
            assert t.gateway.task(outcome.task_id).prompt == outcome.request.prompt
            assert outcome.file.read_bytes() == film_of(outcome.task_id)
        assert {entry.task_id for entry in entries} == {task.task_id for task in t.ledger.tasks}
        assert (t.ledger.accepted, len(t.ledger.submits)) == (4, 4)


@pytest.mark.parametrize("status", ["401 Unauthorized", "403 Forbidden"])
async def test_s10_a_key_that_is_refused_unasked_stops_nothing(trial, status):
    async def haunted(visit):
        await show(visit)
        await asyncio.sleep(0.005)
        with contextlib.suppress(ConnectionError):
            await visit.say({"code": int(status[:3]), "message": "no such key"}, status)
        return True

    async with trial(seconds=3, running_looks=3) as t:
        t.gateway.on("status", haunted, times=0)
        for _ in range(4):
            _, outcome = await t.one()
            assert outcome.ok
        assert (t.ledger.accepted, len(t.ledger.submits)) == (4, 4)


# Refusals.

HOSTILE = f"\x1b[2J\u202e<script>\r\nlog forged</script>\x00 your key {KEY} " + "x" * 10_000

REFUSALS = {
    400: InvalidRequestError,
    403: PermissionDeniedError,
    404: NotFoundError,
    405: InvalidRequestError,
    409: InvalidRequestError,
    413: InvalidRequestError,
    422: InvalidRequestError,
}


def assert_rejected(t, future, outcome, kind, code, *, http_status, charged="no", submits=1):
    """The gateway said no; that ended the job, which was sent once and not accepted."""
    error = outcome.error
    assert type(error) is kind
    assert (error.http_status, error.code, error.stage) == (http_status, code, "submit")
    assert (error.charged, outcome.charged, error.task_id, error.attempts) == (charged, charged, None, 1)
    assert (outcome.status, future.status) == (Status.FAILED, Status.FAILED)
    assert_silent(error)
    assert (t.ledger.accepted, len(t.ledger.submits), t.idle) == (0, submits, True)


@pytest.mark.parametrize("body", ["nothing", "a page", "hostile", "with a code"])
@pytest.mark.parametrize("status", REFUSALS)
async def test_s11_a_refused_request_fails_with_its_status_and_is_not_sent_again(trial, status, body):
    bodies = {
        "nothing": "",
        "a page": f"<html><h1>{status}</h1>{HOSTILE}</html>",
        "hostile": {"code": status, "message": HOSTILE, "data": None},
        "with a code": {"error": {"code": "INVALID_PROMPT", "message": "no boats"}},
    }
    async with trial(seconds=1) as t:
        t.gateway.on("submit", saying(bodies[body], f"{status} No"))
        future, outcome = await t.one()
        code = "INVALID_PROMPT" if body == "with a code" else f"HTTP_{status}"
        kind = InvalidRequestError if body == "with a code" else REFUSALS[status]
        charged = "unknown" if status == 422 else "no"
        assert_rejected(t, future, outcome, kind, code, http_status=status, charged=charged)


UNAUTHORIZED = {"code": "INVALID_API_KEY", "message": f"the key {KEY} is not known"}


async def test_s12_a_refused_key_stops_the_account_within_the_requests_that_were_under_way(trial):
    async with trial(seconds=1, concurrency=4) as t:
        t.gateway.on("submit", saying(UNAUTHORIZED, "401 Unauthorized"), times=0)
        futures = [t.submit() for _ in range(12)]
        outcomes = [await future.outcome() for future in futures]
        late, late_outcome = await t.one()
        for future, outcome in zip([*futures, late], [*outcomes, late_outcome], strict=True):
            error = outcome.error
            assert type(error) is AuthenticationError
            assert (error.http_status, error.code, error.charged) == (401, "INVALID_API_KEY", "no")
            assert (error.key, error.task_id, future.status) == (future.key, None, Status.FAILED)
            assert_silent(error)
        assert (t.ledger.accepted, len(t.ledger.submits), t.idle) == (0, 4, True)


async def test_s12_what_was_accepted_before_the_key_was_refused_is_still_made(trial):
    async with trial(seconds=2, concurrency=2) as t:
        t.gateway.on("submit", take, take, take).on("submit", saying(UNAUTHORIZED, "401 Unauthorized"), times=0)
        outcomes = await t.many(12)
        assert [outcome.ok for outcome in outcomes].count(True) == 3
        assert {type(outcome.error) for outcome in outcomes if not outcome.ok} == {AuthenticationError}
        assert (t.ledger.accepted, len(t.ledger.submits) <= 3 + 2 + 1) == (3, True)


async def test_s12_a_batch_stops_and_keeps_the_rest_for_a_key_that_works(trial, tmp_path):
    async with trial(seconds=3, concurrency=4) as t:
        t.gateway.on("submit", take, take, *[saying(UNAUTHORIZED, "401 Unauthorized")] * 5)
        async with t.session.batch(tmp_path / "s12.db") as batch:
            batch.add([t.request() for _ in range(12)])
            outcomes = await outcomes_of(batch.run())
            (refused,) = [outcome for outcome in outcomes if not outcome.ok]
            assert (type(refused.error), refused.status) == (AuthenticationError, Status.QUEUED)
            summary = batch.summary()
            assert (summary.succeeded, summary.planned, summary.rejected, summary.in_doubt) == (2, 10, 0, 0)
            assert isinstance(summary.stopped, AuthenticationError)
        sent = len(t.ledger.submits)
        assert sent <= 2 + 4 + 1
        t.gateway.heal()
        async with t.another() as session, session.batch(tmp_path / "s12.db") as batch:
            await outcomes_of(batch.run())
            assert batch.summary().succeeded == 12
        assert (t.ledger.accepted, len(t.ledger.submits)) == (12, sent + 10)


BROKE = {"code": "INSUFFICIENT_CREDITS", "message": "not enough credits"}


def balance(jobs):
    """Return a submit that takes so many jobs, and has no credits for more."""

    async def submit(visit):
        if visit.gateway.ledger.accepted < jobs:
            return await take(visit)
        await visit.say(BROKE, "402 Payment Required")
        return True

    return submit


@pytest.mark.parametrize("affordable", [0, 3, 5])
async def test_s13_an_account_without_credits_is_asked_no_more_than_is_under_way(trial, affordable):
    async with trial(seconds=2, concurrency=4) as t:
        t.gateway.on("submit", balance(affordable), times=0)
        futures = [t.submit() for _ in range(12)]
        outcomes = [await future.outcome() for future in futures]
        refused = [(f, o) for f, o in zip(futures, outcomes, strict=True) if not o.ok]
        assert len(refused) == 12 - affordable
        for future, outcome in refused:
            error = outcome.error
            assert type(error) is InsufficientCreditsError
            assert (error.http_status, error.code, error.charged) == (402, "INSUFFICIENT_CREDITS", "no")
            assert (error.key, error.task_id, future.status) == (future.key, None, Status.FAILED)
            assert_silent(error)
        assert (t.ledger.accepted, t.idle) == (affordable, True)
        assert 1 <= len(t.ledger.submits) - affordable <= 4


async def test_s13_in_a_batch_what_cannot_be_paid_stays_planned_until_there_is_money(trial, tmp_path):
    async with trial(seconds=3, concurrency=4) as t:
        t.gateway.on("submit", balance(3), times=0)
        async with t.session.batch(tmp_path / "s13.db") as batch:
            batch.add([t.request() for _ in range(12)])
            outcomes = await outcomes_of(batch.run())
            (refused,) = [outcome for outcome in outcomes if not outcome.ok]
            assert (type(refused.error), refused.status, refused.charged) == (
                InsufficientCreditsError,
                Status.QUEUED,
                "no",
            )
            summary = batch.summary()
            assert (summary.succeeded, summary.planned, summary.rejected, summary.in_doubt) == (3, 9, 0, 0)
            assert isinstance(summary.stopped, InsufficientCreditsError)
        sent = len(t.ledger.submits)
        assert 1 <= sent - 3 <= 4
        t.gateway.heal()
        async with t.another() as session, session.batch(tmp_path / "s13.db") as batch:
            await outcomes_of(batch.run())
            assert batch.summary().succeeded == 12
        assert (t.ledger.accepted, len(t.ledger.submits)) == (12, sent + 9)


# Too many requests.


def too_many(retry_after=None):
    headers = () if retry_after is None else (f"Retry-After: {retry_after}",)
    return saying({"code": "RATE_LIMITED", "message": "slow down"}, "429 Too Many Requests", headers=headers)


async def test_s14_a_second_that_a_gateway_asks_for_is_waited(trial):
    async with trial(seconds=2) as t:
        t.gateway.on("submit", too_many("1"))
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 2)
        assert 1.0 <= gaps(t.ledger.submits)[0] <= 2.0
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 2)


OWN_BACKOFF = RetryPolicy(initial=0.06, maximum=0.1, retry_after_cap=0.15)

JUNK = ["-5", "-0.5", "", "soon", "1 minute", "0x10", "nan", "-nan", "inf", "-inf", "1e400", "1e", "5,5", "\xb2"]


@pytest.mark.parametrize("asked", [None, *JUNK])
async def test_s15_without_a_wait_that_can_be_read_the_backoff_is_our_own(trial, asked):
    async with trial(seconds=1, retry=OWN_BACKOFF) as t:
        t.gateway.on("submit", *[too_many(asked)] * 2)
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 3)
        assert all(0.045 <= gap <= 1.0 for gap in gaps(t.ledger.submits))
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 3)


HUGE = {
    "seconds": "86400",
    "a decimal": "7200.5",
    "many digits": "9" * 300,
    "an exponent": "1e308",
    "beyond a date": str(10**12),
    "a padded number": "  3600  ",
    "an hour from now": lambda now: format_datetime(now + timedelta(hours=1), usegmt=True),
    "the last year": lambda now: "Fri, 31 Dec 9999 23:59:59 GMT",
    "rfc 850": lambda now: (now + timedelta(days=2)).strftime("%A, %d-%b-%y %H:%M:%S GMT"),
    "asctime": lambda now: (now + timedelta(days=2)).strftime("%a %b %d %H:%M:%S %Y"),
    "another zone": lambda now: format_datetime((now + timedelta(days=2)).replace(tzinfo=None)) + " +0200",
}


@pytest.mark.parametrize("asked", HUGE)
async def test_s16_a_wait_without_measure_is_cut_to_the_cap(trial, asked):
    said = HUGE[asked]
    said = said if isinstance(said, str) else said(datetime.now(UTC))
    async with trial(seconds=1, retry=OWN_BACKOFF) as t:
        t.gateway.on("submit", too_many(said))
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 2)
        assert 0.15 <= gaps(t.ledger.submits)[0] <= 1.0
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 2)


PAST = [
    "Thu, 01 Jan 1970 00:00:00 GMT",
    "Wed, 21 Oct 2015 07:28:00 GMT",
    "Mon, 01 Jan 0001 00:00:00 GMT",
    "Sat, 31 Feb 2099 00:00:00 GMT",
    "Fri, 31 Dec 9999 23:59:59 -2359",
    "Fri, 31 Dec 9999 23:59:59 -9999",
    "Fri, 31 Dec 99999 23:59:59 GMT",
]


@pytest.mark.parametrize("asked", PAST)
async def test_s16_a_date_that_is_past_or_none_at_all_overflows_nothing(trial, asked):
    async with trial(seconds=1, retry=OWN_BACKOFF) as t:
        t.gateway.on("submit", *[too_many(asked)] * 2)
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 3)
        assert all(0.045 <= gap <= 1.0 for gap in gaps(t.ledger.submits))
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 3)


@pytest.mark.parametrize("asked", [None, "0", "600"])
async def test_s17_refusals_without_end_fail_the_job_after_the_attempts_it_has(trial, asked):
    retry = RetryPolicy(attempts=4, initial=0.05, maximum=0.1, retry_after_cap=0.1)
    async with trial(seconds=1, retry=retry) as t:
        t.gateway.on("submit", too_many(asked), times=0)
        future, outcome = await t.one()
        error = outcome.error
        assert type(error) is RateLimitError
        assert (error.http_status, error.code, error.stage) == (429, "RATE_LIMITED", "submit")
        assert (error.charged, outcome.charged, error.attempts, future.status) == ("no", "no", 4, Status.FAILED)
        assert error.retry_after == (None if asked is None else float(asked))
        assert_silent(error)
        assert (t.ledger.accepted, len(t.ledger.submits), t.idle) == (0, 4, True)


async def test_s17_refusals_without_end_cost_the_budget_of_the_account_and_not_of_each_job(trial):
    retry = RetryPolicy(attempts=5, initial=0.02, maximum=0.05, budget=8)
    async with trial(seconds=2, retry=retry) as t:
        t.gateway.on("submit", too_many(), times=0)
        outcomes = await t.many(50)
        assert {type(outcome.error) for outcome in outcomes} == {RateLimitError}
        assert {outcome.charged for outcome in outcomes} == {"no"}
        assert (t.ledger.accepted, t.idle) == (0, True)
        assert len(t.ledger.submits) <= 8


async def test_s17_in_a_batch_what_was_refused_stays_planned(trial, tmp_path):
    retry = RetryPolicy(attempts=2, initial=0.02, maximum=0.05)
    async with trial(seconds=3, retry=retry) as t, t.session.batch(tmp_path / "s17.db", patience=0.1) as batch:
        t.gateway.on("submit", too_many(), times=0)
        batch.add([t.request() for _ in range(10)])
        (refused,) = await outcomes_of(batch.run())
        assert (type(refused.error), refused.status, refused.charged) == (RateLimitError, Status.QUEUED, "no")
        assert (batch.summary().planned, batch.summary().rejected) == (10, 0)
        t.gateway.heal()
        await outcomes_of(batch.run())
        assert (batch.summary().succeeded, t.ledger.accepted) == (10, 10)


# Troubles of the gateway.

TROUBLES = [500, 502, 503, 504, 520, 529, 408]


@pytest.mark.parametrize("status", TROUBLES)
@pytest.mark.parametrize("body", ["nothing", "a page", "a refusal"])
async def test_s18_a_gateway_in_trouble_leaves_the_job_in_doubt_whatever_it_says(trial, status, body):
    bodies = {"nothing": "", "a page": "<html>Bad Gateway</html>", "a refusal": {"code": "INVALID_PROMPT"}}
    async with trial(seconds=1) as t:
        t.gateway.on("submit", saying(bodies[body], f"{status} Trouble"))
        future, outcome = await t.one()
        code = "INVALID_PROMPT" if body == "a refusal" else f"HTTP_{status}"
        assert_in_doubt(t, future, outcome, code, f"HTTP_{status}", http_status=status, accepted=0)
        assert type(outcome.error.cause) is GatewayUnavailableError


@pytest.mark.parametrize("status", [503, 504])
async def test_s19_a_trouble_that_hides_a_job_is_told_from_one_that_does_not_by_nothing(trial, status):
    def told(outcome):
        said = outcome.to_dict()
        return {**said, "key": None, "error": {**said["error"], "key": None}}

    async with trial(seconds=1) as t:
        t.gateway.on("submit", saying("", f"{status} Trouble"), saying("", f"{status} Trouble", accept=True))
        first, nothing = await t.one()
        assert_in_doubt(t, first, nothing, f"HTTP_{status}", http_status=status, accepted=0)
        second, hidden = await t.one()
        assert_in_doubt(t, second, hidden, f"HTTP_{status}", http_status=status, submits=2)
        assert told(nothing) == told(hidden)


async def test_s20_two_slots_are_found_out_within_ten_answers_and_ten_jobs_are_made_over_them(trial):
    lasts, most = 0.3, []
    now = asyncio.get_running_loop().time
    seen = set()

    async with trial(seconds=4) as t:

        def running():
            return sum(now() < task.at + lasts for task in t.ledger.tasks)

        async def submit(visit):
            unseen = t.ledger.accepted - running() - len(seen)  # ended, and not looked at since
            most.append(t.session.stats.used - unseen)
            if running() < 2:
                return await take(visit)
            return await too_many()(visit)

        async def status(visit):
            task = visit.gateway.task(visit.query["task_id"])
            if now() < task.at + lasts:
                await visit.say(shown(task, "IN_PROGRESS"))
            else:
                seen.add(task.task_id)
                await visit.say(shown(task, "SUCCESS", [f"{visit.gateway.films}/{task.task_id}.mp4"]))
            return True

        t.gateway.on("submit", submit, times=0).on("status", status, times=0)
        outcomes = await t.many(10)
        assert [type(outcome) for outcome in outcomes] == [Success] * 10
        assert max(most[9:]) <= 3
        assert t.ledger.accepted == 10
        assert len(t.ledger.submits) <= 40


# An HTTP 200 that is none.

ENVELOPES = {
    "number": lambda status, code: {"code": status, "message": code, "data": None},
    "text": lambda status, code: {"code": code, "message": "no", "data": None},
    "both": lambda status, code: {"code": status, "error": code, "message": "no"},
    "inner": lambda status, code: {"error": {"code": code, "message": "no"}},
}


@pytest.mark.parametrize("shape", ENVELOPES)
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "INVALID_PROMPT", InvalidRequestError),
        (401, "INVALID_API_KEY", AuthenticationError),
        (402, "INSUFFICIENT_CREDITS", InsufficientCreditsError),
    ],
)
async def test_s21_a_refusal_in_an_envelope_is_a_refusal(trial, shape, status, code, kind):
    async with trial(seconds=1) as t:
        t.gateway.on("submit", saying(ENVELOPES[shape](status, code)))
        future, outcome = await t.one()
        assert_rejected(t, future, outcome, kind, code, http_status=200)


@pytest.mark.parametrize("status", [400, 401, 402])
async def test_s21_a_number_alone_in_an_envelope_is_a_refusal(trial, status):
    kinds = {400: InvalidRequestError, 401: AuthenticationError, 402: InsufficientCreditsError}
    async with trial(seconds=1) as t:
        t.gateway.on("submit", saying({"code": status, "message": "no", "data": None}))
        future, outcome = await t.one()
        assert_rejected(t, future, outcome, kinds[status], f"HTTP_{status}", http_status=200)


@pytest.mark.parametrize("shape", ENVELOPES)
async def test_s22_a_refusal_for_the_pace_in_an_envelope_is_sent_again(trial, shape):
    async with trial(seconds=1) as t:
        t.gateway.on("submit", saying(ENVELOPES[shape](429, "RATE_LIMITED")))
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 2)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 2)


@pytest.mark.parametrize("shape", ENVELOPES)
async def test_s23_trouble_in_an_envelope_leaves_the_job_in_doubt(trial, shape):
    async with trial(seconds=1) as t:
        t.gateway.on("submit", saying(ENVELOPES[shape](500, "INTERNAL_ERROR"), accept=True))
        future, outcome = await t.one()
        assert_in_doubt(t, future, outcome, "INTERNAL_ERROR", http_status=200)


def contradiction(status, code):
    """Refuse by one of status and code, and name the task that was made all the same."""

    async def answer(visit):
        await visit.say({**taken(visit.accept()), "code": code}, status)
        return True

    return answer


CONTRADICTIONS = [("400 Bad Request", 200), ("200 OK", 400), ("402 Payment Required", 200), ("429 Slow", 429)]


@pytest.mark.parametrize(("status", "code"), CONTRADICTIONS)
async def test_s24_a_refusal_that_names_a_task_leaves_the_job_in_doubt_with_its_id(trial, tmp_path, status, code):
    async with trial(seconds=2) as t:
        t.gateway.on("submit", contradiction(status, code))
        future, outcome = await t.one()
        (task,) = t.ledger.tasks
        assert_in_doubt(t, future, outcome, "contradiction", http_status=int(status[:3]), task_id=task.task_id)
        video = await t.session.attach(outcome.task_id)  # as the user may
        await t.film(video, tmp_path / "film.mp4")


async def test_s24_a_batch_keeps_the_id_that_a_contradiction_named(trial, tmp_path):
    async with trial(seconds=2) as t, t.session.batch(tmp_path / "s24.db") as batch:
        t.gateway.on("submit", contradiction("400 Bad Request", 200))
        batch.add([("order-1", t.request())])
        (outcome,) = await outcomes_of(batch.run())
        (task,) = t.ledger.tasks
        assert (outcome.status, outcome.task_id, outcome.error.code) == (
            Status.IN_DOUBT,
            task.task_id,
            "contradiction",
        )
        (kept,) = batch.outcomes()
        assert (kept.status, kept.task_id, kept.error.task_id) == (Status.IN_DOUBT, task.task_id, task.task_id)
        assert await outcomes_of(batch.run()) == []
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


@pytest.mark.parametrize("status", ["201 Created", "202 Accepted", "203 Non-Authoritative Information"])
async def test_s25_another_yes_is_a_yes(trial, tmp_path, status):
    async def accept(visit):
        await visit.say(taken(visit.accept()), status)
        return True

    async with trial(seconds=1) as t:
        t.gateway.on("submit", accept)
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "film.mp4")
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


# Redirects.


async def redirected(t, status, *headers, times=None):
    """A submit that is redirected stays where it is, and is in doubt."""
    t.gateway.on("submit", saying("", f"{status} Elsewhere", accept=True, headers=headers), times=times)
    future, outcome = await t.one()
    assert_in_doubt(t, future, outcome, f"HTTP_{status}", http_status=status)
    assert type(outcome.error.cause) is GatewayUnavailableError
    assert (t.ledger.polls, t.ledger.fetches, t.ledger.connections["api"]) == ([], [], 1)


@pytest.mark.parametrize("status", [307, 308])
async def test_s26_a_redirect_that_would_send_the_job_again_is_not_followed(trial, status):
    async with trial(seconds=1) as t:
        await redirected(t, status, "Location: /redirected")


@pytest.mark.parametrize("status", [300, 301, 302, 303])
async def test_s27_a_redirect_that_would_look_elsewhere_with_our_key_is_not_followed(trial, status):
    async with trial(seconds=1) as t:
        await redirected(t, status, "Location: /redirected")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_s28_a_redirect_to_another_origin_takes_no_prompt_there(trial, status):
    async with trial(seconds=1) as t:
        await redirected(t, status, f"Location: {t.gateway.canary}/api/generate")


@pytest.mark.parametrize("status", [302, 307, 308])
@pytest.mark.parametrize("form", ["path", "url"])
async def test_s29_a_redirect_to_itself_is_paid_for_once(trial, status, form):
    async with trial(seconds=1) as t:
        place = t.gateway.api if form == "url" else ""
        await redirected(t, status, f"Location: {place}/api/generate", times=0)


ODD_PLACES = {
    "file": "Location: file:///etc/passwd",
    "ftp": "Location: ftp://127.0.0.1/film",
    "script": "Location: javascript:alert(1)",
    "userinfo": "Location: http://user:pass@{host}/redirected",
    "empty": "Location: ",
    "none": None,
    "no host": "Location: http:///redirected",
    "no port": "Location: http://127.0.0.1:99999/",
    "half an address": "Location: http://[::1/",
    "no address": "Location: http://[nowhere]/",
    "no scheme": "Location: ://redirected",
    "bad escapes": "Location: /%zz%",
    "not ascii": "Location: /\xff\xfe",
    "long": "Location: /" + "x" * 7000,
}


@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("place", ODD_PLACES)
async def test_s30_a_redirect_to_something_odd_raises_nothing_odd(trial, status, place):
    async with trial(seconds=1) as t:
        header = ODD_PLACES[place]
        host = t.gateway.api.removeprefix("http://")
        await redirected(t, status, *([] if header is None else [header.replace("{host}", host)]))


async def test_s31_cookies_are_taken_from_nobody_and_sent_to_nobody(trial, names, tmp_path):
    names.say(NAME, HERE)
    names.say("films.test", HERE)
    cookies = [
        "Set-Cookie: session=gateway; Path=/",
        "Set-Cookie: wide=1; Domain=gateway.test; Path=/; Max-Age=9999",
        "Set-Cookie: cross=1; Domain=films.test; Path=/",
    ]

    downloads = DownloadPolicy(stall=0.5, minimum_speed=0, allow_private_hosts=("films.test",))
    async with trial(seconds=2, base_url=f"http://{NAME}:{{port}}", downloads=downloads, running_looks=2) as t:
        t.gateway.films = t.gateway.films.replace("127.0.0.1", "films.test")
        t.gateway.always = tuple(cookies)
        for number in range(2):
            _, outcome = await t.one()
            await t.film(outcome.video, tmp_path / f"{number}.mp4")
        visits = [*t.ledger.submits, *t.ledger.polls, *t.ledger.fetches]
        assert len(visits) >= 2 + 6 + 2
        assert [visit.headers["cookie"] for visit in visits if "cookie" in visit.headers] == []
        assert t.ledger.accepted == 2


# Who waits, and who does not wait any more.


def held():
    """Return a submit that is answered once it is let go, with the events "it is there" and "let it go"."""
    there, go = asyncio.Event(), asyncio.Event()

    async def submit(visit):
        there.set()
        await go.wait()
        return await take(visit)

    return submit, there, go


async def test_s32_who_stops_waiting_during_the_send_stops_nobody_else(trial):
    submit, there, go = held()
    async with trial(seconds=2) as t:
        t.gateway.on("submit", submit)
        future = t.submit()

        async def wait():
            return await future

        gone, other = asyncio.create_task(wait()), asyncio.create_task(wait())
        await there.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.05)
        assert (future.done(), other.done(), future.status) == (False, False, Status.SUBMITTING)
        go.set()
        video = await other
        assert (video.task_id, (await future).task_id) == (t.ledger.tasks[0].task_id,) * 2
        assert (t.ledger.accepted, len(t.ledger.submits), future.attempts) == (1, 1, 1)


async def test_s32_who_leaves_generate_during_the_send_loses_no_paid_job(trial):
    submit, there, go = held()
    async with trial(seconds=2) as t:
        t.gateway.on("submit", submit)
        request = t.request()
        gone = asyncio.create_task(t.session.generate(request, key="order-1"))
        await there.wait()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        go.set()
        video = await t.session.generate(request, key="order-1")
        assert video.task_id == t.ledger.tasks[0].task_id
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


async def test_s33_a_job_that_is_cancelled_during_the_send_keeps_the_id_it_is_given(trial):
    submit, there, go = held()
    async with trial(seconds=2) as t:
        t.gateway.on("submit", submit)
        future = t.submit()
        await there.wait()
        assert future.cancel()
        await asyncio.sleep(0.05)
        assert not future.done()
        go.set()
        outcome = await future.outcome()
        (task,) = t.ledger.tasks
        assert (type(outcome.error), future.status) == (TaskCancelledError, Status.CANCELLED)
        assert (outcome.task_id, future.task_id, outcome.charged) == (task.task_id, task.task_id, "yes")
        assert_silent(outcome.error)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)
        assert (await t.session.attach(outcome.task_id)).task_id == task.task_id


@pytest.mark.parametrize("how", ["stop", "leave", "close"])
async def test_s33_a_batch_that_is_ended_during_the_send_has_no_job_in_doubt(trial, tmp_path, how):
    submit, there, go = held()
    path = tmp_path / "s33.db"
    async with trial(seconds=3, concurrency=1) as t:
        t.gateway.on("submit", submit)
        async with t.session.batch(path) as batch:
            batch.add([t.request() for _ in range(3)])
            run = batch.run()
            reader = asyncio.create_task(outcomes_of(run))
            await there.wait()
            asyncio.get_running_loop().call_later(0.05, go.set)
            if how == "stop":
                batch.stop()
                assert [type(outcome) for outcome in await reader] == [Success]
            else:
                reader.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await reader
                if how == "leave":
                    await run.aclose()
                    (entry,) = batch.entries(State.ACCEPTED)
                    assert entry.task_id == t.ledger.tasks[0].task_id
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)
        async with t.session.batch(path) as batch:
            assert (batch.summary().in_doubt, batch.summary().planned) == (0, 2)
            await outcomes_of(batch.run())
            assert batch.summary().succeeded == 3
        assert (t.ledger.accepted, len(t.ledger.submits)) == (3, 3)


async def test_s34_a_key_that_is_used_twice_is_one_job(trial):
    async with trial(seconds=1) as t:
        request = t.request()
        first, second = (t.session.submit(request, key="order-1") for _ in range(2))
        other = t.submit(key="order-1")
        assert first is second
        refused = await other.outcome()
        assert (type(refused.error), refused.error.field, refused.charged) == (InvalidRequestError, "key", "no")
        assert_silent(refused.error)
        assert (await first.outcome()).ok
        assert t.session.submit(request, key="order-1") is first
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


async def test_s34_in_a_batch_a_key_that_is_added_twice_is_one_job(trial, tmp_path):
    async with trial(seconds=2) as t, t.session.batch(tmp_path / "s34.db") as batch:
        request = t.request()
        assert batch.add([("order-1", request)]) == 1
        assert batch.add([("order-1", request), ("order-1", request)]) == 0
        assert [outcome.ok for outcome in await outcomes_of(batch.run())] == [True]
        assert batch.add([("order-1", request)]) == 0
        with pytest.raises(InvalidRequestError) as caught:
            batch.add([("order-1", t.request())])
        assert_silent(caught.value)
        assert await outcomes_of(batch.run()) == []
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


RUNNER = Path(__file__).parents[1] / "durability" / "runner.py"


def another_process(url, journal):
    """Run the batch of three jobs `job-000` and so on in a process of its own; return its code and its last word."""
    program = [sys.executable, RUNNER, url, journal, "--jobs=3", f"--api-key={KEY}"]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=30, check=False)
    return ended.returncode, ended.stdout.splitlines()


async def test_s35_a_second_process_is_refused_and_told_who_drives_the_batch(trial, tmp_path):
    path = tmp_path / "s35.db"
    submit, there, go = held()
    async with trial(seconds=6, concurrency=1, timeouts=Timeouts(connect=1, submit=10, poll=1)) as t:
        t.gateway.on("submit", submit)
        async with t.session.batch(path) as batch:
            batch.add([(f"job-{number:03}", TextToVideo(f"job-{number:03} sails", duration=3)) for number in range(3)])
            reader = asyncio.create_task(outcomes_of(batch.run()))
            await there.wait()
            code, said = await asyncio.to_thread(another_process, t.gateway.api, path)
            assert (code, len(t.ledger.submits)) == (3, 1)
            assert '"refused": "locked"' in said[-1]
            assert f"process {os.getpid()} " in said[-1]
            go.set()
            assert [outcome.ok for outcome in await reader] == [True] * 3
        code, said = await asyncio.to_thread(another_process, t.gateway.api, path)
        assert code == 0
        assert '"succeeded": 3' in said[-1]
        assert (t.ledger.accepted, len(t.ledger.submits)) == (3, 3)


# A gateway that recognises a key.


async def test_s36_a_lost_answer_is_asked_for_again_under_the_same_key_and_paid_for_once(trial):
    async with trial(seconds=1, dialect="apimart") as t:
        t.gateway.on("submit", reset_after_send)
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 2)
        assert outcome.task_id == t.ledger.tasks[0].task_id
        keys = {visit.headers["idempotency-key"] for visit in t.ledger.submits}
        assert (t.ledger.accepted, len(t.ledger.submits), len(keys)) == (1, 2, 1)


async def test_s36_the_key_is_the_same_after_a_restart(trial, tmp_path):
    path = tmp_path / "s36.db"
    async with trial(seconds=2, dialect="apimart", retry=RetryPolicy(attempts=1)) as t:
        t.gateway.on("submit", reset_after_send)
        async with t.session.batch(path) as batch:
            batch.add([("order-1", t.request())])
            (lost,) = await outcomes_of(batch.run())
            assert (lost.status, lost.charged, lost.error.code) == (Status.IN_DOUBT, "unknown", "reset")
        async with t.another() as session, session.batch(path) as batch:
            (outcome,) = await outcomes_of(batch.run())
            assert (outcome.ok, outcome.task_id) == (True, t.ledger.tasks[0].task_id)
            assert (batch.summary().succeeded, batch.summary().in_doubt) == (1, 0)
        keys = {visit.headers["idempotency-key"] for visit in t.ledger.submits}
        assert (t.ledger.accepted, len(t.ledger.submits), len(keys)) == (1, 2, 1)
