"""P: what a gateway says, and does not say, of a job that it has."""

import asyncio
import itertools
import json
import logging
import shutil
import sys
from bisect import bisect_left
from pathlib import Path

import pytest
from hostile_answers import (
    CUT,
    DEEP,
    ENCODED,
    GARBLED,
    GONE,
    HALF,
    INTERIM,
    MALFORMED,
    MUTE,
    SHAPES,
    STALLED,
    TOO_LARGE,
    data,
    reset,
    say,
    to_look,
)
from hostile_gateway import Task, film_of, show, shown
from memory import growth_since, peak_from_here
from trials import KEY, assert_silent

from kling_async import (
    AuthenticationError,
    GatewayUnavailableError,
    GenerationFailedError,
    GenerationTimeoutError,
    InvalidRequestError,
    KlingSession,
    NotFoundError,
    PermissionDeniedError,
    PollPlan,
    ProtocolError,
    RateLimitError,
    ResponseLostError,
    Status,
    TextToVideo,
    Timeouts,
    looking,
)
from kling_async.batch import Reading, State
from kling_async.batch.states import replay
from kling_async.wire import HttpResponse

sys.path.append(str(Path(__file__).parents[1] / "session"))

from virtual import VirtualLoop

pytestmark = pytest.mark.anyio

PRICE = 200
QUICK = Timeouts(connect=1, submit=1, poll=0.15, generation=20)
OFTEN = PollPlan(0.01, 0.01, 0.1)
SHORT = Timeouts(connect=1, submit=1, poll=0.15, generation=0.1)
"""For jobs whose time runs out; the last look may take half a second more."""
LOST = {
    **GONE,
    **MUTE,
    **GARBLED,
    **DEEP,
    **TOO_LARGE,
    **ENCODED,
    **SHAPES,
    **CUT,
    **STALLED,
    **MALFORMED,
    **HALF,
    **INTERIM,
}
"""Answers to a look that say nothing of the job."""
STATUSES = {
    "500": "500 Internal Server Error",
    "502": "502 Bad Gateway",
    "503": "503 Service Unavailable",
    "504": "504 Gateway Timeout",
    "520": "520 Web Server Returned an Unknown Error",
    "529": "529 Site is overloaded",
    "408": "408 Request Timeout",
    "425": "425 Too Early",
}
REFUSED = {
    **{code: say(b'{"code": "INTERNAL_ERROR", "message": "later"}', line) for code, line in STATUSES.items()},
    **{f"{code}-html": say(b"<h1>later</h1>", line, "Content-Type: text/html") for code, line in STATUSES.items()},
}
"""Refusals of a look that say nothing of the job."""


async def done(t, outcome, tmp_path):
    """The one job of a trial was paid for once and has its own film."""
    assert outcome.ok, outcome
    task = t.ledger.tasks[0]
    assert outcome.task_id == outcome.video.task_id == task.task_id
    assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)
    assert outcome.timing.polls == len(t.ledger.polls)
    await t.film(outcome.video, tmp_path / "film.mp4")


def assert_pending(t, future, outcome, kind, charged="yes"):
    """The following of a job has ended and the job has not: its id is kept, and it was not sent again."""
    error = outcome.error
    task = t.ledger.tasks[0]
    assert type(error) is kind
    assert (error.stage, error.charged, outcome.charged) == ("poll", charged, charged)
    assert (outcome.status, future.status) == (Status.IN_PROGRESS, Status.IN_PROGRESS)
    assert (error.task_id, outcome.task_id, future.task_id) == (task.task_id,) * 3
    assert error.key == future.key
    assert_silent(error)
    assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


async def picked_up(t, task_id, path):
    """The gateway has come to its senses: `attach` brings the film, and nothing is submitted for it."""
    t.gateway.heal()
    submits = len(t.ledger.submits)
    video = await t.session.attach(task_id)
    await t.film(video, path)
    assert len(t.ledger.submits) == submits


def kept(path):
    """Return every job of a journal, by its key."""
    with Reading(path) as journal:
        return {entry.key: entry for entry in journal.each(State)}


async def ran(session, path, *requests, **options):
    """Run a durable batch and return its outcomes by key."""
    async with session.batch(path, **options) as batch:
        batch.add([(f"job {number}", request) for number, request in enumerate(requests, 1)])
        return {outcome.key: outcome async for outcome in batch.run()}


def reports(caplog, words):
    """Return the warnings that hold these words."""
    told = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    return [message for message in told if words in message]


# Looks that bring nothing.


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("fault", LOST)
async def test_p01_a_look_whose_answer_says_nothing_is_a_missed_look(trial, fault, times, tmp_path):
    async with trial(seconds=1, timeouts=QUICK, poll=OFTEN) as t:
        t.gateway.on("status", to_look(LOST[fault]), times=times)
        _, outcome = await t.one()
        await done(t, outcome, tmp_path)
        assert len(t.ledger.polls) == times + 1


async def test_p01_after_missed_looks_the_gap_grows_and_no_two_jobs_keep_step(trial):
    async with trial(seconds=3, concurrency=2, poll=PollPlan(0.06, 0.06, 2.0)) as t:
        first, second = t.submit(), t.submit()
        await first.accepted()
        await second.accepted()
        t.gateway.on("status", to_look(reset), times=0)
        while len(t.ledger.polls) < 10:
            await asyncio.sleep(0.01)
        t.gateway.heal()
        assert (await first).task_id != (await second).task_id
        times = [
            [look.at for look in t.ledger.polls if look.query["task_id"] == each.task_id] for each in (first, second)
        ]
    for each in times:
        gaps = [after - before for before, after in itertools.pairwise(each)]
        assert all(after > 1.2 * before for before, after in itertools.pairwise(gaps[:4]))
    # The first look came when the user had set it, the second after the shortest gap; from there on chance has a say.
    assert all(abs(one - other) > 0.001 for one, other in itertools.product(*[each[2:] for each in times]))


@pytest.mark.parametrize("fault", REFUSED)
async def test_p02_a_look_that_is_refused_in_passing_is_a_missed_look(trial, fault, tmp_path):
    async with trial(seconds=1, poll=OFTEN) as t:
        t.gateway.on("status", to_look(REFUSED[fault]), times=2)
        _, outcome = await t.one()
        await done(t, outcome, tmp_path)
        assert len(t.ledger.polls) == 3


@pytest.mark.parametrize("fault", [*LOST, *REFUSED])
async def test_p03_looks_that_never_bring_anything_end_by_the_clock_and_the_job_can_be_picked_up(
    trial, fault, tmp_path
):
    async with trial(seconds=1, timeouts=SHORT) as t:
        t.gateway.on("status", to_look({**LOST, **REFUSED}[fault]), times=0)
        future, outcome = await t.one()
        assert_pending(t, future, outcome, GenerationTimeoutError)
        assert 0.1 <= outcome.timing.ran <= 0.1 + 1.0
        last = outcome.error.cause
        assert isinstance(last, (ResponseLostError, ProtocolError, GatewayUnavailableError, InvalidRequestError))
        assert (last.stage, last.task_id) == ("poll", future.task_id)
        assert last.http_status in (None, 101, 200, 204, int(fault[:3]) if fault[:3].isdigit() else None)
        assert_silent(last)
        await picked_up(t, future.task_id, tmp_path / "film.mp4")


@pytest.mark.parametrize("fault", ["html", "hang", "500"])
async def test_p03_the_next_run_of_a_batch_goes_on_with_a_job_whose_looks_brought_nothing(trial, fault, tmp_path):
    path, films = tmp_path / "night.db", tmp_path / "films"
    async with trial(seconds=2, timeouts=SHORT) as t:
        t.gateway.on("status", to_look({**LOST, **REFUSED}[fault]), times=0)
        request = t.request()
        outcomes = await ran(t.session, path, request, download_to=films)
        assert type(outcomes["job 1"].error) is GenerationTimeoutError
        job = kept(path)["job 1"]
        assert (job.state, job.task_id, job.reserved) == (State.ACCEPTED, t.ledger.tasks[0].task_id, PRICE * 10**6)
        t.gateway.heal()
        async with t.another() as session:
            outcomes = await ran(session, path, request, download_to=films)
        assert outcomes["job 1"].file.read_bytes() == film_of(job.task_id)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)
    assert kept(path)["job 1"].state is State.DOWNLOADED


async def test_p04_one_429_holds_back_every_job_of_the_key_for_as_long_as_it_says(trial):
    answered = []

    async def slow_down(visit):
        await visit.say({"code": 429, "message": "RATE_LIMITED"}, "429 Too Many Requests", ["Retry-After: 1"])
        answered.append(visit.at)
        return True

    async with trial(seconds=3, concurrency=5, running_looks=3) as t:
        futures = [t.submit() for _ in range(4)]
        for future in futures:
            await future.accepted()
        t.gateway.on("status", slow_down)
        while not answered:
            await asyncio.sleep(0.01)
        futures.append(t.submit())
        for future in futures:
            assert (await future).task_id == future.task_id
        visits = [visit.at for visit in (*t.ledger.polls, *t.ledger.submits)]
        assert [at - answered[0] for at in visits if 0.05 < at - answered[0] < 1.0] == []
        assert (t.ledger.accepted, len(t.ledger.submits)) == (5, 5)


async def test_p04_429_for_ever_is_no_storm_and_leaves_the_job_to_be_picked_up(trial, tmp_path):
    timeouts = Timeouts(connect=1, submit=1, poll=1, generation=0.6)
    async with trial(seconds=2, timeouts=timeouts) as t:
        t.gateway.on("status", to_look(say(b'{"code": 429}', "429 Too Many Requests")), times=0)
        future, outcome = await t.one()
        assert_pending(t, future, outcome, GenerationTimeoutError)
        assert type(outcome.error.cause) is RateLimitError
        assert len(t.ledger.polls) <= 0.6 / 0.02
        await picked_up(t, future.task_id, tmp_path / "film.mp4")


# Tasks that the gateway does not find, keys that it does not take, jobs without an end.

UNKNOWN = {
    "404": say(b'{"code": 404, "message": "task not found"}', "404 Not Found"),
    "404-html": say(b"<h1>Not Found</h1>", "404 Not Found", "Content-Type: text/html"),
    "404-in-200": say(b'{"code": 404, "message": "task not found", "data": null}'),
}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("fault", UNKNOWN)
async def test_p05_a_task_that_is_not_found_at_first_is_found_later(trial, fault, times, tmp_path):
    assert looking.NOT_FOUND_GRACE >= 30
    async with trial(seconds=1) as t:
        t.gateway.on("status", to_look(UNKNOWN[fault]), times=times)
        _, outcome = await t.one()
        await done(t, outcome, tmp_path)
        assert len(t.ledger.polls) == times + 1


@pytest.mark.parametrize("fault", UNKNOWN)
async def test_p06_a_task_that_is_never_found_is_not_submitted_again_and_keeps_its_id(
    trial, fault, tmp_path, monkeypatch
):
    assert looking.NOT_FOUND_GRACE == 60  # which virtual time holds it to, among the tests of the session
    monkeypatch.setattr(looking, "NOT_FOUND_GRACE", 0.3)
    path = tmp_path / "night.db"
    async with trial(seconds=3) as t:
        t.gateway.on("status", to_look(UNKNOWN[fault]), times=0)
        future, outcome = await t.one()
        assert_pending(t, future, outcome, NotFoundError)
        assert 0.3 <= outcome.timing.ran <= 1.3
        assert outcome.error.http_status == (200 if fault == "404-in-200" else 404)
        request = t.request()
        outcomes = await ran(t.session, path, request)
        assert type(outcomes["job 1"].error) is NotFoundError
        job = kept(path)["job 1"]
        assert (job.state, job.task_id, job.reserved) == (State.ACCEPTED, t.ledger.tasks[1].task_id, PRICE * 10**6)
        await picked_up(t, future.task_id, tmp_path / "film.mp4")
        async with t.another() as session:
            assert (await ran(session, path, request))["job 1"].task_id == job.task_id
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        ("401 Unauthorized", "INVALID_API_KEY", AuthenticationError),
        ("403 Forbidden", "FORBIDDEN", PermissionDeniedError),
    ],
)
async def test_p07_a_key_refused_midway_ends_all_looks_at_once_and_no_id_is_lost(trial, status, code, kind, tmp_path):
    async def refuse(visit):
        await visit.say({"code": code, "message": f"the key {KEY} is not valid"}, status)
        refused.append(visit)
        return True

    refused = []
    async with trial(seconds=3, concurrency=10, running_looks=10**6) as t:
        futures = [t.submit() for _ in range(12)]
        while len(t.ledger.polls) < 30:
            await asyncio.sleep(0.01)
        t.gateway.on("status", refuse, times=0)
        outcomes = [await future.outcome() for future in futures]
        assert {type(outcome.error) for outcome in outcomes} == {kind}
        for future, outcome in zip(futures[:10], outcomes[:10], strict=True):
            assert (outcome.status, future.status, outcome.charged) == (*[Status.IN_PROGRESS] * 2, "yes")
            assert outcome.task_id == outcome.error.task_id == future.task_id
            assert (outcome.error.stage, outcome.error.http_status) == ("poll", int(status[:3]))
            assert_silent(outcome.error)
        for outcome in outcomes[10:]:
            assert (outcome.status, outcome.task_id, outcome.charged) == (Status.FAILED, None, "no")
        assert len(refused) <= 10
        await asyncio.sleep(0.1)  # what was under way arrives
        looks = len(t.ledger.polls)
        await asyncio.sleep(0.3)
        assert len(t.ledger.polls) == looks
        assert (t.ledger.accepted, len(t.ledger.submits)) == (10, 10)
        t.gateway.heal()
        t.gateway.running_looks = 0
        async with t.another() as session:
            video = await session.attach(futures[0].task_id)
            await session.download(video, tmp_path / "film.mp4")
    assert (tmp_path / "film.mp4").read_bytes() == film_of(futures[0].task_id)


async def test_p07_a_batch_goes_on_with_its_jobs_once_the_key_is_mended(trial, tmp_path):
    path = tmp_path / "night.db"
    async with trial(seconds=3, concurrency=3) as t:
        t.gateway.on("status", to_look(say(b'{"code": "INVALID_API_KEY"}', "401 Unauthorized")), times=0)
        requests = [t.request() for _ in range(5)]
        outcomes = await ran(t.session, path, *requests)
        assert {type(outcome.error) for outcome in outcomes.values()} == {AuthenticationError}
        jobs = kept(path).values()
        accepted = [job for job in jobs if job.state is State.ACCEPTED]
        assert {job.task_id for job in accepted} == {task.task_id for task in t.ledger.tasks}
        assert {job.state for job in jobs} <= {State.ACCEPTED, State.PLANNED}
        assert len(t.ledger.polls) <= len(accepted)
        t.gateway.heal()
        async with t.another() as session:
            again = await ran(session, path, *requests)
        assert all(outcome.ok for outcome in again.values())
        assert (len(again), t.ledger.accepted, len(t.ledger.submits)) == (5, 5, 5)


async def test_p08_a_job_that_never_ends_is_left_to_be_picked_up(trial, tmp_path):
    async with trial(seconds=1, running_looks=10**6) as t:
        future, outcome = await t.one(timeout=0.3)
        assert_pending(t, future, outcome, GenerationTimeoutError)
        assert outcome.error.cause is None
        assert 0.3 <= outcome.timing.ran <= 0.5
        assert len(t.ledger.polls) >= 2
        t.gateway.running_looks = 0
        await picked_up(t, future.task_id, tmp_path / "film.mp4")


# Words.


@pytest.mark.parametrize("word", ["PONDERING", "", None, 7, "\x1b[2J\u202e", "x" * 100_000])
async def test_p09_an_unknown_word_is_no_end_and_is_told_to_those_who_watch(trial, word, tmp_path):
    async with trial(seconds=1, poll=PollPlan(0.02, 0.02, 0.04)) as t:
        t.gateway.on("status", to_look(data(status=word, response=None)), times=2)
        future = t.submit()
        seen = [update.raw_status async for update in future.updates()]
        await done(t, await future.outcome(), tmp_path)
        assert len(t.ledger.polls) == 3
    assert all(len(said) <= 100 and said.isprintable() for said in seen)
    assert word != "PONDERING" or word in seen


@pytest.mark.parametrize("word", ["success", "Succeed", "COMPLETED", " finished "])
async def test_p09_a_word_in_another_spelling_is_understood(trial, word, tmp_path):
    async with trial(seconds=1, running_looks=0) as t:
        t.gateway.on("status", to_look(data(status="in_progress", response=None)), to_look(data(status=word)))
        _, outcome = await t.one()
        await done(t, outcome, tmp_path)
        assert len(t.ledger.polls) == 2


HOSTILE = {
    "hostile-error": "no\x1b[2J\x1b]0;evil\x07 \u202egnp.exe\u2066 [/nope] [link=file:///]x[/link] <script>x</script>",
    "hostile-error-lines": "no\r\nERROR kling_async job x: accepted\n\x0b\x85\u2028more",
    "hostile-error-nul": "no\0more\x9b31m\ud800",
    "hostile-error-huge": "no " + "\x1b" * 100_000,
    "hostile-error-key": f"no: Bearer {KEY}",
    "hostile-error-object": {"message": "no\x1b[0m", "code": ["\x1b"]},
    "hostile-error-list": [["no", {"message": "x"}], 7],
}


@pytest.mark.parametrize(("price", "charged"), [(0, "no"), (PRICE, "yes"), (..., "unknown"), ("much", "unknown")])
async def test_p10_a_job_that_failed_says_why_and_who_pays(trial, price, charged):
    said = data(status="FAILED", response=None, error_message="no model is free", consumed_credits=price)
    async with trial(seconds=1) as t:
        t.gateway.on("status", to_look(said))
        future, outcome = await t.one()
        error = outcome.error
        assert type(error) is GenerationFailedError
        assert (error.message, error.code, error.stage) == ("no model is free", "FAILED", "poll")
        assert (error.charged, outcome.charged) == (charged, charged)
        assert (future.status, outcome.task_id) == (Status.FAILED, t.ledger.tasks[0].task_id)
        assert_silent(error)
        await asyncio.sleep(0.1)
        assert (t.ledger.accepted, len(t.ledger.submits), len(t.ledger.polls)) == (1, 1, 1)


@pytest.mark.parametrize("silence", [..., None, "", "success", [], {}])
async def test_p10_a_job_that_failed_without_a_word_failed_all_the_same(trial, silence):
    async with trial(seconds=1) as t:
        t.gateway.on("status", to_look(data(status="FAILED", response=None, error_message=silence)))
        future, outcome = await t.one()
        assert type(outcome.error) is GenerationFailedError
        assert (outcome.error.message, future.status) == ("the gateway ended the job as FAILED", Status.FAILED)
        assert_silent(outcome.error)


@pytest.mark.parametrize("fault", HOSTILE)
async def test_p10_a_hostile_reason_is_shown_in_one_short_harmless_line(trial, fault, tmp_path):
    path = tmp_path / "night.db"
    async with trial(seconds=2) as t:
        t.gateway.on("status", to_look(data(status="FAILED", response=None, error_message=HOSTILE[fault])), times=2)
        _, outcome = await t.one()
        outcomes = await ran(t.session, path, t.request())
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)
    job = kept(path)["job 1"]
    assert job.state is State.FAILED
    for error in (outcome.error, outcomes["job 1"].error, job.problem()):
        assert type(error) is GenerationFailedError
        assert error.message.startswith("no") or fault == "hostile-error-list"
        assert len(error.message) <= 2048
        for form in (error.message, str(error), repr(error), json.dumps(error.to_dict(), ensure_ascii=False)):
            form.encode()
            assert form.isprintable()
        assert_silent(error)
    assert KEY.encode() not in path.read_bytes()


# Contradictions.


async def test_p11_of_a_failure_and_a_later_success_the_first_word_stands(trial, tmp_path):
    failed = to_look(data(status="FAILED", response=None, error_message="no", consumed_credits=0))
    path = tmp_path / "night.db"
    async with trial(seconds=2, running_looks=0) as t:
        t.gateway.on("status", failed)
        future, outcome = await t.one()
        assert type(outcome.error) is GenerationFailedError
        await asyncio.sleep(0.2)
        assert len(t.ledger.polls) == 1  # nobody looks again by himself
        assert (await future.outcome(), future.status) == (outcome, Status.FAILED)
        request = t.request()
        t.gateway.on("status", failed)
        await ran(t.session, path, request)
        assert await ran(t.session, path, request) == {}
        assert kept(path)["job 1"].state is State.FAILED
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)
        await picked_up(t, future.task_id, tmp_path / "film.mp4")  # who wants to know looks again
        assert type(future.exception()) is GenerationFailedError


async def test_p12_after_a_success_nobody_looks_again(trial, tmp_path):
    async with trial(seconds=1, running_looks=0) as t:
        t.gateway.on("status", show, to_look(data(status="IN_PROGRESS", response=None)))
        future, outcome = await t.one()
        await asyncio.sleep(0.3)
        assert len(t.ledger.polls) == 1
        assert (future.status, await future.outcome()) == (Status.SUCCEEDED, outcome)
        await done(t, outcome, tmp_path)


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("whose", ["another job's", "a stranger's", "a number", "its own in capitals"])
async def test_p13_an_answer_about_another_task_is_ignored_and_reported(trial, whose, times, tmp_path, caplog):
    async def of_another(visit):
        mine, other = t.ledger.tasks[1], t.ledger.tasks[0]
        named = {"a stranger's": "n75stranger", "a number": 75, "its own in capitals": mine.task_id.upper()}
        film = [f"{t.gateway.films}/{other.task_id}.mp4"]
        await visit.say(shown(other, "SUCCESS", film, task_id=named.get(whose, other.task_id)))
        return True

    async with trial(seconds=2, concurrency=1, running_looks=0) as t:
        first = await t.session.generate(t.request())
        t.gateway.on("status", of_another, times=times)
        future, outcome = await t.one()
        assert outcome.task_id == t.ledger.tasks[1].task_id != first.task_id
        assert len(t.ledger.polls) == 1 + times + 1
        await t.film(first, tmp_path / "one.mp4")
        await t.film(outcome.video, tmp_path / "two.mp4")
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)
    (said,) = reports(caplog, "another task")
    assert future.key in said
    assert outcome.task_id in said


async def test_p13_answers_about_another_task_for_ever_end_by_the_clock(trial, tmp_path):
    async with trial(seconds=1, timeouts=SHORT) as t:
        t.gateway.on("status", to_look(data(task_id="n75stranger", status="SUCCESS")), times=0)
        future, outcome = await t.one()
        assert_pending(t, future, outcome, GenerationTimeoutError)
        assert (type(outcome.error.cause), outcome.error.cause.code) == (ProtocolError, "other_task")
        await picked_up(t, future.task_id, tmp_path / "film.mp4")


@pytest.mark.parametrize(
    ("echo", "warned"),
    [
        ("a paper boat, number 1", False),
        ("  A paper boat,\nnumber 1 ", False),
        ("a paper b", False),
        ("", False),
        (None, False),
        (["a paper boat"], False),
        ("a cat on a roof", True),
        ("a paper boat, number 2", True),
    ],
)
async def test_p13_a_film_that_is_shown_with_another_prompt_is_reported_and_kept(trial, tmp_path, caplog, echo, warned):
    async with trial(seconds=2) as t:
        t.gateway.on("status", to_look(data(status="SUCCESS", request={"prompt": echo})), times=0)
        future, outcome = await t.one()
        assert outcome.ok
        await t.film(outcome.video, tmp_path / "film.mp4")
    said = reports(caplog, "another prompt")
    assert [future.key in line for line in said] == [True] * warned
    assert "cat" not in caplog.text


# Journals of earlier versions.

GOLDEN = sorted((Path(__file__).parents[1] / "journal" / "golden").glob("v*.db"))


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
async def test_p14_a_journal_of_an_older_version_stands_where_it_stood_and_is_gone_on_with(trial, golden, tmp_path):
    path = Path(shutil.copy(golden, tmp_path / "night.db"))
    before = kept(path)
    assert {str(job.state) for job in before.values()} == {key.replace(" ", "_") for key in before} == set(State)
    async with trial(seconds=3) as t:
        running = before["accepted"]
        t.ledger.tasks.append(Task(running.task_id, running.asked().prompt, {}, 0.0))
        async with t.session.batch(path) as batch:
            outcomes = {outcome.key: outcome async for outcome in batch.run()}
        assert [task.prompt for task in t.ledger.tasks[1:]] == [before["planned"].asked().prompt]
        assert len(t.ledger.submits) == 1
    assert outcomes.keys() == {"accepted", "submitting", "planned"}
    assert outcomes["accepted"].video.task_id == running.task_id
    assert outcomes["submitting"].status is Status.IN_DOUBT
    assert outcomes["planned"].ok
    after = kept(path)
    moved = {"accepted": State.SUCCEEDED, "submitting": State.IN_DOUBT, "planned": State.SUCCEEDED}
    assert {key: job.state for key, job in after.items()} == {
        key: moved.get(key, job.state) for key, job in before.items()
    }
    for key in before.keys() - moved.keys():
        assert after[key] == before[key]
    with Reading(path) as journal:
        for job in after.values():
            assert replay(step for step, _, _ in journal.steps(job.id)) == (job.state, job.attempt)


# Successes of odd shapes.

NO_VIDEO = {
    "success-no-url": ...,
    "success-null": None,
    "success-number": 7,
    "success-true": True,
    "success-nested": [[[[[["https://films.example/deep.mp4"]]]]]],
    "success-object": {"film": "somewhere"},
    "success-empty-string": "",
    "success-empty-list": [],
    "success-null-item": [None],
    "success-empty-item": ["", " "],
    "success-sentence": "the video will be here soon",
    "success-control": ["https://films.example/\x1b[2J\r\nx.mp4"],
    "success-huge": ["https://films.example/" + "x" * 100_000],
    "success-flood": ["no film here"] * 20_000,
}


@pytest.mark.parametrize("fault", NO_VIDEO)
async def test_p15_a_success_without_a_film_is_looked_at_twice_more_and_can_be_picked_up(trial, fault, tmp_path):
    path, films = tmp_path / "night.db", tmp_path / "films"
    said = data(status="SUCCESS", response=NO_VIDEO[fault])
    async with trial(seconds=2) as t:
        t.gateway.on("status", to_look(said), times=6)
        future, outcome = await t.one()
        error = outcome.error
        assert (type(error), error.code, error.stage, error.charged) == (ProtocolError, "no_video", "poll", "yes")
        assert (error.task_id, outcome.task_id, outcome.charged) == (*[t.ledger.tasks[0].task_id] * 2, "yes")
        assert_silent(error)
        assert "SUCCESS" in error.raw
        assert len(error.raw) <= 512
        assert error.raw.isprintable()
        answer = future.snapshot().raw
        large = fault in ("success-huge", "success-flood")
        assert large or answer.get("response", ...) == NO_VIDEO[fault]  # what the gateway said is kept
        assert len(json.dumps(dict(answer))) <= 40_000
        assert len(t.ledger.polls) == 3
        request = t.request()
        outcomes = await ran(t.session, path, request, download_to=films)
        assert (type(outcomes["job 1"].error), outcomes["job 1"].error.code) == (ProtocolError, "no_video")
        job = kept(path)["job 1"]
        assert (job.state, job.task_id, job.reserved) == (State.ACCEPTED, t.ledger.tasks[1].task_id, PRICE * 10**6)
        await picked_up(t, future.task_id, tmp_path / "film.mp4")
        async with t.another() as session:
            outcomes = await ran(session, path, request, download_to=films)
        assert outcomes["job 1"].file.read_bytes() == film_of(job.task_id)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)


async def test_p15_a_success_that_comes_before_its_film_is_waited_for(trial, tmp_path):
    async with trial(seconds=1) as t:
        t.gateway.on("status", to_look(data(status="SUCCESS", response=None)), times=2)
        _, outcome = await t.one()
        await done(t, outcome, tmp_path)
        assert len(t.ledger.polls) == 3


ODD = {
    "success-bare-string": lambda film: film,
    "success-many": lambda film: [film, film, film + "?again", film],
    "success-flood-of-films": lambda film: [film] + [f"{film}?{number}" for number in range(10_000)],
    "success-json-in-a-string": lambda film: json.dumps([film]),
    "success-list-of-objects": lambda film: [{"url": film, "kind": "video"}],
    "success-object-with-a-url": lambda film: {"video_url": film},
    "success-nested-once": lambda film: [[film]],
    "success-blank-around": lambda film: [f" {film}\n"],
    "success-null-beside": lambda film: [None, "", film],
}


@pytest.mark.parametrize("fault", ODD)
async def test_p16_a_film_in_an_odd_place_is_found_and_fetched_once(trial, fault, tmp_path):
    path, films = tmp_path / "night.db", tmp_path / "films"
    async with trial(seconds=2, running_looks=0) as t:

        async def oddly(visit):
            task = t.gateway.task(visit.query["task_id"])
            await visit.say(shown(task, "SUCCESS", ODD[fault](f"{t.gateway.films}/{task.task_id}.mp4")))
            return True

        t.gateway.on("status", oddly, times=0)
        outcomes = await ran(t.session, path, t.request(), download_to=films)
        outcome = outcomes["job 1"]
        assert outcome.ok, outcome
        assert outcome.file.read_bytes() == film_of(t.ledger.tasks[0].task_id)
        assert (len(t.ledger.fetches), len(t.ledger.polls), len(t.ledger.submits)) == (1, 1, 1)
        assert len(list(films.iterdir())) == 1
    assert outcome.video.url == outcome.video.urls[0]
    assert len(set(outcome.video.urls)) == len(outcome.video.urls) <= 64
    assert (outcome.video.urls == (outcome.video.url, f"{outcome.video.url}?again")) == (fault == "success-many")


# Facts that are none.

DATES = [
    "yesterday",
    "2026-02-30T99:99:99Z",
    "0001-01-01T00:00:00Z",
    0,
    -1,
    1e300,
    10**17,
    "",
    None,
    [],
    {"at": 1},
    True,
]


@pytest.mark.parametrize("date", DATES, ids=repr)
async def test_p17_a_date_that_is_none_is_dropped(trial, date, tmp_path):
    async with trial(seconds=1, running_looks=0) as t:
        t.gateway.on("status", to_look(data(created_at=date)), times=0)
        future, outcome = await t.one()
        await done(t, outcome, tmp_path)
    assert future.snapshot().created_at is None


async def test_p17_fields_that_nobody_knows_are_kept_with_the_answer(trial, tmp_path):
    more = {"queue": {"place": [1, None]}, "progress": "NaN%", "expires": -1, "\u202eid": "\x1b", "x" * 5000: {}}
    async with trial(seconds=1, running_looks=0) as t:
        t.gateway.on("status", to_look(data(**more)), times=0)
        _, outcome = await t.one()
        await done(t, outcome, tmp_path)
    assert outcome.video.raw["queue"] == {"place": [1, None]}


@pytest.mark.parametrize("claim", [7, 2000, "350"])
async def test_p17_a_price_that_differs_is_taken_down_and_reported(trial, claim, tmp_path, caplog):
    path = tmp_path / "night.db"
    async with trial(seconds=1, running_looks=0) as t:
        t.gateway.on("status", to_look(data(consumed_credits=claim)), times=0)
        outcomes = await ran(t.session, path, t.request())
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)
    assert outcomes["job 1"].credits == int(claim)
    assert (kept(path)["job 1"].spent, kept(path)["job 1"].reserved) == (int(claim) * 10**6, 0)
    (said,) = reports(caplog, "the gateway says")
    assert said.startswith(f"job job 1 (task {t.ledger.tasks[0].task_id}) should cost 200 credits")
    assert said.endswith(f"{claim} credits")


# Redirects.

CODES = {
    "301": "301 Moved Permanently",
    "302": "302 Found",
    "303": "303 See Other",
    "307": "307 Temporary Redirect",
    "308": "308 Permanent Redirect",
}
PLACES = ["same", "cross", "loop", "file", "userinfo", "empty", "bad-url"]


@pytest.mark.parametrize(
    ("code", "place"),
    [*itertools.product(CODES, ["same", "cross"]), *itertools.product(["302", "307"], PLACES[2:])],
)
async def test_p18_a_redirect_of_a_look_is_never_followed(trial, code, place, tmp_path):
    async with trial(seconds=1, timeouts=SHORT) as t:
        where = {
            "same": "/redirected",
            "cross": f"{t.gateway.canary}/api/status",
            "loop": "/api/status?task_id=n75loop",
            "file": "file:///etc/passwd",
            "userinfo": t.gateway.api.replace("http://", "http://user:word@") + "/api/status",
            "empty": "",
            "bad-url": "http://[::1/api",
        }[place]
        t.gateway.on("status", to_look(say(b"", CODES[code], f"Location: {where}")), times=0)
        future, outcome = await t.one()
        assert_pending(t, future, outcome, GenerationTimeoutError)
        assert (type(outcome.error.cause), outcome.error.cause.http_status) == (GatewayUnavailableError, int(code))
        assert {look.query["task_id"] for look in t.ledger.polls} == {future.task_id}
        assert (t.ledger.astray, t.ledger.connections["canary"]) == ([], 0)
        await picked_up(t, future.task_id, tmp_path / "film.mp4")


# A crowd.


def most_in(times, seconds):
    """Return the most of these moments that any window of so many seconds holds."""
    times = sorted(times)
    return max(number + 1 - bisect_left(times, at - seconds) for number, at in enumerate(times))


async def test_p19_three_hundred_running_jobs_keep_to_the_rate_of_their_key(trial):
    rate = 300
    async with trial(seconds=8, concurrency=None, rate=f"{rate}/s", poll=PollPlan(0.8, 0.4, 1.0)) as t:
        outcomes = await t.many(300)
        assert all(outcome.ok for outcome in outcomes)
        assert {outcome.task_id for outcome in outcomes} == {task.task_id for task in t.ledger.tasks}
        assert (t.ledger.accepted, len(t.ledger.submits)) == (300, 300)
        visits = [visit.at for visit in (*t.ledger.submits, *t.ledger.polls)]
    # At the gateway requests may bunch up a little on their way.
    assert most_in(visits, 1.0) <= 1.1 * (rate + rate / 10)


class Crowd:
    """A gateway in memory that keeps a number of each job: when it was accepted."""

    LASTS = 300.0

    def __init__(self):
        self.accepted = []
        self.sent = []

    async def send(self, request, *, timeout, fence, fresh):
        loop = asyncio.get_running_loop()
        if fence is not None:
            await fence.pass_through()
        now = loop.time()
        self.sent.append(now)
        if request.method == "POST":
            self.accepted.append(now)
            told = {"task_id": f"n75{len(self.accepted)}kling3", "status": "IN_PROGRESS", "consumed_credits": PRICE}
        else:
            task_id = request.query["task_id"]
            done = now - self.accepted[int(task_id[3:-6]) - 1] >= self.LASTS
            told = {"task_id": task_id, "status": "SUCCESS" if done else "IN_PROGRESS", "consumed_credits": PRICE}
            told["response"] = [f"https://films.example/{task_id}.mp4"] if done else None
        await asyncio.sleep(0.05)
        return HttpResponse(200, {}, json.dumps({"code": 200, "data": told}).encode())

    async def close(self):
        """Nothing is open."""


class CrowdSession(KlingSession):
    def __init__(self, **settings):
        super().__init__("kling3api", api_key=KEY, **settings)
        self.wire = Crowd()

    def _transport(self):
        return self.wire


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"loop_factory": VirtualLoop})], ids=["virtual"])
async def test_p19_ten_thousand_running_jobs_keep_to_the_rate_and_to_little_memory(anyio_backend, figures):
    jobs, rate = 10_000, 100
    async with CrowdSession(concurrency=None, rate=f"{rate}/s", poll=PollPlan(280, 30, 300)) as session:
        before = peak_from_here()
        futures = [session.submit(TextToVideo(f"clip {number}")) for number in range(jobs)]
        for future in futures:
            await future.accepted()
        assert session.stats.used == jobs
        assert growth_since(before) / jobs <= 5 * 1024
        outcomes = [await future.outcome() for future in futures]
    assert all(outcome.ok for outcome in outcomes)
    assert len({outcome.task_id for outcome in outcomes}) == len(session.wire.accepted) == jobs
    assert most_in(session.wire.sent, 1.0 - 1e-6) <= rate + rate / 10
