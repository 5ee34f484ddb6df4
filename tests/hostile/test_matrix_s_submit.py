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
from hostile_gateway import film_of, head, play, reset, show, shown, take, taken
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


@pytest.mark.parametrize("size", [0, 3_000_000])
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

    async with trial(seconds=3, running_looks=2) as t:
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
        assert 1.0 <= gaps(t.ledger.submits)[0] <= 1.5
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 2)


OWN_BACKOFF = RetryPolicy(initial=0.1, maximum=0.2, retry_after_cap=0.3)

JUNK = ["-5", "-0.5", "", "soon", "1 minute", "0x10", "nan", "-nan", "inf", "-inf", "1e400", "1e", "5,5", "\xb2"]


@pytest.mark.parametrize("asked", [None, *JUNK])
async def test_s15_without_a_wait_that_can_be_read_the_backoff_is_our_own(trial, asked):
    async with trial(seconds=1, retry=OWN_BACKOFF) as t:
        t.gateway.on("submit", *[too_many(asked)] * 2)
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 3)
        assert all(0.045 <= gap <= 0.5 for gap in gaps(t.ledger.submits))
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
        assert 0.3 <= gaps(t.ledger.submits)[0] <= 0.7
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
        assert all(0.045 <= gap <= 0.7 for gap in gaps(t.ledger.submits))
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
