"""A: broken answers to submits that were accepted and charged."""

import asyncio
import contextlib
import json
import logging
import re
import sqlite3

import pytest
from hostile_answers import (
    CUT,
    DEEP,
    ENCODED,
    GARBLED,
    INTERIM,
    LENIENT,
    MALFORMED,
    MIB,
    MUTE,
    PAGE,
    SHAPES,
    STALLED,
    TOO_LARGE,
    bomb,
    change,
    data,
    literally,
    to_look,
    to_submit,
)
from hostile_gateway import film_of, take, taken
from trials import KEY, assert_in_doubt, assert_silent

from kling_async import (
    GatewayUnavailableError,
    GenerationFailedError,
    ProtocolError,
    ResponseLostError,
    Status,
    SubmissionInDoubtError,
    Timeouts,
)
from kling_async.batch import Reading, State

pytestmark = pytest.mark.anyio

PRICE = 200
"""Credits of a request of `Trial.request`."""
MOST_SENT = 16 * MIB
QUICK = Timeouts(connect=1, submit=0.3, poll=1, generation=20)
"""For answers that only a deadline ends."""


async def doubted(t, fault, *codes, **known):
    """Submit a job that is answered like this, then one that is answered soundly; return what the first comes to.

    The first is in doubt within a second of its deadline and is not sent again, however long the session goes on; the
    second is unharmed.
    """
    t.gateway.running_looks = 0
    t.gateway.on("submit", to_submit(fault))
    future, outcome = await t.one()
    took = asyncio.get_running_loop().time() - t.ledger.submits[0].at
    assert took <= t.session.timeouts.submit + 1.0
    assert_in_doubt(t, future, outcome, *codes, **known)
    _, after = await t.one()
    assert after.ok
    assert after.task_id == t.ledger.tasks[1].task_id
    assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)
    assert {look.query["task_id"] for look in t.ledger.polls} == {after.task_id}
    return outcome.error


async def done(t, fault, tmp_path):
    """Submit a job that is answered like this; it is made all the same, and the film is its own."""
    t.gateway.running_looks = 0
    t.gateway.on("submit", to_submit(fault))
    future, outcome = await t.one()
    assert outcome.ok
    assert (future.status, outcome.task_id) == (Status.SUCCEEDED, t.ledger.tasks[0].task_id)
    assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)
    await t.film(outcome.video, tmp_path / "film.mp4")
    return outcome


async def ran(t, path, jobs, **options):
    """Run a durable batch of so many jobs; return its outcomes by key, and its summary."""
    async with t.session.batch(path, **options) as batch:
        batch.add([(f"job {number}", t.request()) for number in range(1, jobs + 1)])
        outcomes = {outcome.key: outcome async for outcome in batch.run()}
        return outcomes, batch.summary()


def kept(path):
    """Return every job of a journal, by its key."""
    with Reading(path) as journal:
        return {entry.key: entry for entry in journal.each(State)}


def everything(path):
    """Return every value that stands in a journal, as text; what is NULL is none."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = [row for name in ("batch", "job", "event") for row in connection.execute(f"SELECT * FROM {name}")]
    return [str(value) for row in rows for value in row if value is not None]


def reports(caplog):
    """Return what was reported of prices, each once."""
    told = [record for record in caplog.records if record.levelno >= logging.WARNING]
    return [record.getMessage() for record in told if "the gateway says" in record.getMessage()]


# Answers that say nothing, or nothing that is certain.


@pytest.mark.parametrize("fault", MUTE)
async def test_a01_an_answer_that_is_no_json_leaves_the_job_in_doubt_and_is_kept_as_far_as_it_helps(trial, fault):
    async with trial(seconds=1) as t:
        error = await doubted(t, MUTE[fault], "not_json", http_status=204 if fault == "204" else 200)
    assert type(error.cause) is ProtocolError
    begins = {
        "html": PAGE.decode()[:200].replace("\t", "\\t").replace("\r", "\\r"),
        "not-json": "OK, queued\\x1b[2J\\x00",
        "json-cut": '{"code": 200, "message": "success", "data": {"task_id": "n75task0001kling3"',
    }
    assert error.raw.replace("\\n", "\n").startswith(begins.get(fault, ""))
    assert len(error.raw) <= 256
    assert len(error.raw) >= 240 or fault not in ("html", "not-json")
    assert error.raw.replace("\n", "").isprintable()


@pytest.mark.parametrize("fault", LENIENT)
async def test_a02_a_sloppy_answer_whose_meaning_is_certain_is_taken(trial, fault, tmp_path):
    async with trial(seconds=1) as t:
        outcome = await done(t, LENIENT[fault], tmp_path)
    assert outcome.credits == PRICE


@pytest.mark.parametrize("fault", GARBLED)
async def test_a03_an_answer_in_another_alphabet_leaves_the_job_in_doubt(trial, fault):
    async with trial(seconds=1) as t:
        error = await doubted(t, GARBLED[fault], "not_json", http_status=200)
    assert type(error.cause) is ProtocolError


@pytest.mark.parametrize("fault", DEEP)
async def test_a04_an_answer_of_great_depth_leaves_the_job_in_doubt_in_no_time(trial, fault):
    async with trial(seconds=1) as t:
        error = await doubted(t, DEEP[fault], "too_deep", http_status=200)
        quickest = 1.0
        for _ in range(3):
            t.gateway.on("submit", to_submit(DEEP[fault]))
            future, _ = await t.one()
            quickest = min(quickest, asyncio.get_running_loop().time() - t.ledger.submits[-1].at)
            assert future.status is Status.IN_DOUBT
    assert type(error.cause) is ProtocolError
    assert quickest <= 0.1


@pytest.mark.parametrize("fault", ["json-huge", "endless", "extensions"])
async def test_a05_an_answer_without_an_end_is_cut_off_and_leaves_the_job_in_doubt(trial, fault):
    async with trial(seconds=1) as t:
        error = await doubted(t, TOO_LARGE[fault], "too_large", http_status=200)
        assert MIB < t.ledger.sent["api"] <= MOST_SENT
    assert type(error.cause) is ProtocolError


async def test_a06_a_compressed_bomb_is_cut_off_and_leaves_the_job_in_doubt(trial):
    assert MIB < len(bomb()) < 1.05 * MIB  # it stands for a thousand times as much
    async with trial(seconds=1, timeouts=QUICK) as t:
        error = await doubted(t, TOO_LARGE["gzip-bomb"], "too_large", http_status=200)
        assert t.ledger.sent["api"] <= MOST_SENT
    assert type(error.cause) is ProtocolError


@pytest.mark.parametrize("fault", ENCODED)
async def test_a07_an_answer_that_cannot_be_decoded_leaves_the_job_in_doubt(trial, fault):
    code, status = ("cut", None) if fault == "gzip-corrupt" else ("encoding", 200)
    async with trial(seconds=1) as t:
        error = await doubted(t, ENCODED[fault], code, http_status=status)
    assert isinstance(error.cause, (ProtocolError, ResponseLostError))


# Numbers that are none, or are not what was agreed.

CREDITS = b'"consumed_credits": 200'
ABSURD = {
    "json-nan": (b"NaN", "null, or a number that is none"),
    "json-infinity": (b"-Infinity", "null, or a number that is none"),
    "json-1e999": (b"1e999", "null, or a number that is none"),
    "json-bigint": (b"9" * 5000, "null, or a number that is none"),
    "json-1e30": (b"1e30", "1e+30"),
    "json-text": (b'"many"', "a text"),
    "json-true": (b"true", "true or false"),
    "json-list": (b"[200]", "a list"),
}
NOT_JSON = {"nan": b"nan", "inf": b"inf", "hexadecimal": b"0xc8", "plus": b"+200", "no-digits": b"2e"}


def priced(number):
    """Answer as documented, with this for a price."""
    return literally(CREDITS, b'"consumed_credits": ' + number)


@pytest.mark.parametrize("fault", ABSURD)
async def test_a08_a_sound_id_beside_an_absurd_price_is_kept_and_the_price_is_dropped_and_reported(
    trial, fault, tmp_path, caplog
):
    number, shown = ABSURD[fault]
    path = tmp_path / "night.db"
    async with trial(seconds=2) as t:
        t.gateway.on("status", to_look(priced(number)), times=0)
        outcome = await done(t, priced(number), tmp_path)
        assert (outcome.credits, outcome.video.credits) == (None, None)
        (said,) = reports(caplog)
        assert outcome.key in said
        assert outcome.task_id in said
        assert "200 credits" in said
        assert f"the gateway says {shown}" in said
        t.gateway.on("submit", to_submit(priced(number)))
        outcomes, summary = await ran(t, path, 1, budget=2 * PRICE, download_to=tmp_path / "films")
    assert outcomes["job 1"].ok
    job = kept(path)["job 1"]
    assert (job.state, job.task_id) == (State.DOWNLOADED, t.ledger.tasks[1].task_id)
    assert (job.spent, job.reserved) == (0, PRICE * 10**6)  # what it was thought to cost stays held
    assert summary.downloaded == 1
    absurd = re.compile(r"\b(nan|inf(inity)?|1e999|9{31,})\b", re.IGNORECASE)
    assert [value for value in everything(path) if absurd.search(value)] == []


@pytest.mark.parametrize("fault", NOT_JSON)
async def test_a08_a_price_that_makes_the_whole_answer_unreadable_leaves_the_job_in_doubt(trial, fault):
    async with trial(seconds=1) as t:
        await doubted(t, priced(NOT_JSON[fault]), "not_json", http_status=200)


async def test_a09_a_price_below_nothing_is_dropped_and_reported_and_frees_no_budget(trial, tmp_path, caplog):
    async def take_for_less(visit):
        task = visit.accept()
        task.credits = -400
        await visit.say(taken(task))
        return True

    async with trial(seconds=2, concurrency=1) as t:
        t.gateway.on("submit", take_for_less, times=0)
        outcomes, summary = await ran(t, tmp_path / "night.db", 5, budget=3 * PRICE)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (3, 3)
    made = [outcome for outcome in outcomes.values() if outcome.ok]
    assert [outcome.credits for outcome in made] == [None] * 3
    assert (summary.succeeded, summary.planned, summary.stopped.code) == (3, 2, "budget")
    assert (summary.spent, summary.reserved) == (0, 3 * PRICE)
    (said,) = reports(caplog)  # what is said again of other jobs is no news
    assert "job 1" in said
    assert "the gateway says -400" in said


async def test_a09_a_price_above_the_estimate_is_reported_and_takes_its_share_of_the_budget(trial, tmp_path, caplog):
    async def take_for_more(visit):
        task = visit.accept()
        task.credits = 700
        await visit.say(taken(task))
        return True

    async with trial(seconds=3, concurrency=1) as t:
        t.gateway.on("submit", take_for_more, times=0)
        outcomes, summary = await ran(t, tmp_path / "night.db", 5, budget=1000)
        # The first took 700 of 1000 and not its estimate of 200: there was room for one more, and not for four.
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)
    assert [outcome.credits for outcome in outcomes.values() if outcome.ok] == [700, 700]
    assert (summary.succeeded, summary.planned, summary.stopped.code) == (2, 3, "budget")
    assert summary.spent == 1400
    (said,) = reports(caplog)
    assert "job 1" in said
    assert "200 credits" in said
    assert "the gateway says 700 credits" in said


async def test_a09_what_a_running_job_claims_is_held_in_the_budget_until_it_ends(trial, tmp_path):
    async def take_for_more(visit):
        task = visit.accept()
        task.credits = 700
        await visit.say(taken(task))
        return True

    path = tmp_path / "night.db"
    soon = Timeouts(connect=1, submit=1, poll=1, generation=0.1)
    async with trial(seconds=2, concurrency=5, running_looks=10**6, timeouts=soon) as t:
        t.gateway.on("submit", take_for_more, times=0)
        await ran(t, path, 1, budget=1000)
        assert kept(path)["job 1"].reserved == 700 * 10**6
        async with t.another() as session, session.batch(path, budget=1000) as batch:
            batch.add([(f"job {number}", t.request()) for number in range(2, 6)])
            outcomes = [outcome async for outcome in batch.run()]
        # 300 of 1000 are left: enough for one more estimate of 200, and not for two.
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)
    assert not any(outcome.ok for outcome in outcomes)
    assert sorted(str(job.state) for job in kept(path).values()) == ["accepted"] * 2 + ["planned"] * 3


async def test_a10_of_two_members_of_one_name_the_last_counts(trial, tmp_path):
    def twice(truth):
        task_id = truth["data"]["task_id"]
        inner = f'{{"task_id": "n75nobody", "task_id": "{task_id}", "status": "FAILED", "status": "IN_PROGRESS"}}'
        return f'{{"code": 500, "data": null, "code": 200, "data": {inner}}}'.encode()

    async with trial(seconds=1) as t:
        await done(t, change(twice), tmp_path)
        assert {look.query["task_id"] for look in t.ledger.polls} == {t.ledger.tasks[0].task_id}


# Answers of another form, and answers that do not come to their end.


@pytest.mark.parametrize("fault", SHAPES)
async def test_a11_json_that_is_not_the_documented_answer_leaves_the_job_in_doubt(trial, fault):
    async with trial(seconds=1) as t:
        error = await doubted(t, SHAPES[fault], "bad_shape", "no_task_id", http_status=200)
    assert type(error.cause) is ProtocolError


@pytest.mark.parametrize("fault", [*CUT, *STALLED])
async def test_a12_an_answer_that_is_cut_off_or_stalls_leaves_the_job_in_doubt_by_its_deadline(trial, fault):
    codes = {"body-reset": ("cut", "reset"), **dict.fromkeys(STALLED, ("timeout",))}
    async with trial(seconds=0.5, timeouts=QUICK) as t:
        error = await doubted(t, {**CUT, **STALLED}[fault], *codes.get(fault, ("cut",)))
    assert type(error.cause) is ResponseLostError


@pytest.mark.parametrize("fault", ["html", "body-reset", "hang", "bad-status-line"])
async def test_a12_the_next_run_of_a_batch_leaves_a_job_in_doubt_where_it_is(trial, fault, tmp_path):
    path = tmp_path / "night.db"
    async with trial(seconds=1, timeouts=QUICK) as t:
        t.gateway.on("submit", to_submit({**MUTE, **CUT, **STALLED, **MALFORMED}[fault]))
        outcomes, _ = await ran(t, path, 1)
        assert type(outcomes["job 1"].error) is SubmissionInDoubtError
        async with t.another() as session, session.batch(path) as batch:
            assert [outcome async for outcome in batch.run()] == []
        assert (t.ledger.accepted, len(t.ledger.submits), t.ledger.polls) == (1, 1, [])
    job = kept(path)["job 1"]
    assert (job.state, job.charged, job.task_id) == (State.IN_DOUBT, "unknown", None)
    assert (job.reserved, job.spent) == (PRICE * 10**6, 0)
    assert job.problem().to_dict() == outcomes["job 1"].error.to_dict()


@pytest.mark.parametrize("fault", MALFORMED)
async def test_a13_an_answer_that_is_not_http_leaves_the_job_in_doubt_and_is_no_status_400(trial, fault):
    async with trial(seconds=0.5, timeouts=QUICK) as t:
        error = await doubted(t, MALFORMED[fault], "protocol", http_status=None)
    assert (type(error.cause), error.cause.http_status) == (ResponseLostError, None)


GIVEN_UP = {
    "1xx-flood": (ResponseLostError, "timeout", None),
    "1xx-torrent": (ProtocolError, "too_large", None),
    "101": (GatewayUnavailableError, "HTTP_101", 101),
}


@pytest.mark.parametrize("fault", INTERIM)
async def test_a14_interim_answers_leave_the_job_in_doubt_by_its_deadline(trial, fault):
    cause, code, status = GIVEN_UP[fault]
    async with trial(seconds=0.5, timeouts=QUICK) as t:
        error = await doubted(t, INTERIM[fault], code, http_status=status)
        assert t.ledger.sent["api"] <= MOST_SENT
    assert type(error.cause) is cause


# Task ids.

NO_ID = {"task-id-missing": ..., "task-id-empty": "", "task-id-null": None}
BAD_ID = {
    "task-id-list": ["n75abc"],
    "task-id-object": {"id": "n75abc"},
    "task-id-true": True,
    "task-id-fraction": 75.5,
    "task-id-traversal": "../../admin/keys",
    "task-id-dots": "..",
    "task-id-encoded": "..%2f..%2fadmin",
    "task-id-query": "n75abc&task_id=n75other?x=1#y",
    "task-id-crlf": "n75abc\r\nX-Evil: 1",
    "task-id-nul": "n75abc\0",
    "task-id-blank": "n75 abc",
    "task-id-ansi": "\x1b]0;evil\x07\x1b[2Jn75abc",
    "task-id-bidi": "n75\u202ecba\u2066",
    "task-id-huge": "n" * 100_000,
    "task-id-surrogate": "n75\ud800abc",
    "task-id-fullwidth": "\uff4e\uff17\uff15",
}


def assert_harmless(error):
    """What an error shows is short, and can be printed anywhere."""
    for known in (error, error.cause):
        assert len(known.raw or "") <= 200
        assert len(repr(known)) <= 2000
        for form in (str(known), repr(known), json.dumps(known.to_dict(), ensure_ascii=False), known.raw or ""):
            form.encode()
            assert form.isprintable()


@pytest.mark.parametrize("fault", [*NO_ID, "task-id-int"])
async def test_a15_without_an_id_in_text_the_job_is_in_doubt_and_no_word_is_taken_for_one(trial, fault, tmp_path):
    number = 7_512_345
    said = {**NO_ID, "task-id-int": number}[fault]
    known = str(number) if fault == "task-id-int" else None
    code = "bad_task_id" if known else "no_task_id"
    async with trial(seconds=2) as t:
        error = await doubted(t, data(task_id=said), code, http_status=200, task_id=known)
        t.gateway.on("submit", to_submit(data(task_id=said)))
        outcomes, _ = await ran(t, tmp_path / "night.db", 1)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (3, 3)
    assert type(error.cause) is ProtocolError
    outcome = outcomes["job 1"]
    assert (type(outcome.error), outcome.error.task_id) == (SubmissionInDoubtError, known)
    job = kept(tmp_path / "night.db")["job 1"]
    assert (job.state, job.task_id, job.problem().task_id) == (State.IN_DOUBT, None, known)
    assert not any("None" in value for value in everything(tmp_path / "night.db"))


@pytest.mark.parametrize("fault", BAD_ID)
async def test_a16_an_id_that_is_a_weapon_leaves_the_job_in_doubt_and_is_shown_without_harm(trial, fault, tmp_path):
    async with trial(seconds=2) as t:
        error = await doubted(t, data(task_id=BAD_ID[fault]), "bad_task_id", http_status=200)
        t.gateway.on("submit", to_submit(data(task_id=BAD_ID[fault])))
        outcomes, _ = await ran(t, tmp_path / "night.db", 1, download_to=tmp_path / "films")
        assert (t.ledger.accepted, len(t.ledger.submits), t.ledger.astray) == (3, 3, [])
    assert error.raw.replace("\\\\u", "\\u")[:12] == ascii(BAD_ID[fault])[:12]  # kept, escaped
    assert_harmless(error)
    assert type(outcomes["job 1"].error) is SubmissionInDoubtError
    job = kept(tmp_path / "night.db")["job 1"]
    assert (job.state, job.task_id, job.reserved) == (State.IN_DOUBT, None, PRICE * 10**6)
    assert_harmless(job.problem())
    assert all(len(value) <= 5000 and value.isprintable() for value in everything(tmp_path / "night.db"))
    assert list(tmp_path.glob("films/*")) == []


async def test_a16_the_key_as_an_id_leaves_the_job_in_doubt_and_is_kept_nowhere(trial, tmp_path):
    async with trial(seconds=2) as t:
        await doubted(t, data(task_id=KEY), "bad_task_id")
        t.gateway.on("submit", to_submit(data(task_id=f"n75-{KEY}")))
        outcomes, _ = await ran(t, tmp_path / "night.db", 1)
    assert_silent(outcomes["job 1"].error)
    assert not any(KEY in value for value in everything(tmp_path / "night.db"))


async def test_a17_the_same_id_for_two_jobs_leaves_the_second_in_doubt_and_the_first_untouched(trial, tmp_path):
    async def take_again(visit):
        visit.accept(t.ledger.tasks[0].task_id)
        await visit.say(taken(t.ledger.tasks[0]))
        return True

    async with trial(seconds=2, concurrency=1) as t:
        t.gateway.on("submit", take, take_again)
        first, second = t.submit(key="one"), t.submit(key="two")
        outcome = await second.outcome()
        assert_in_doubt(t, second, outcome, "duplicate_task_id", accepted=2, submits=2)
        assert "job one" in outcome.error.message
        assert "job two" in outcome.error.message
        assert t.ledger.tasks[0].task_id in outcome.error.message
        video = await first
        assert video.task_id == t.ledger.tasks[0].task_id
        await t.film(video, tmp_path / "one.mp4")


@pytest.mark.parametrize("again", ["in one run", "in the next run"])
async def test_a17_two_jobs_of_a_batch_never_share_a_task_or_a_file(trial, again, tmp_path):
    async def take_again(visit):
        visit.accept(t.ledger.tasks[0].task_id)
        await visit.say(taken(t.ledger.tasks[0]))
        return True

    path, films = tmp_path / "night.db", tmp_path / "films"
    async with trial(seconds=2, concurrency=1) as t:
        t.gateway.on("submit", take, take_again)
        if again == "in one run":
            outcomes, _ = await ran(t, path, 2, download_to=films)
        else:
            await ran(t, path, 1, download_to=films)
            async with t.another() as session, session.batch(path, download_to=films) as batch:
                batch.add([("job 2", t.request())])
                outcomes = {outcome.key: outcome async for outcome in batch.run()}
        assert (t.ledger.accepted, len(t.ledger.submits)) == (2, 2)
    error = outcomes["job 2"].error
    assert (type(error), error.code) == (SubmissionInDoubtError, "duplicate_task_id")
    jobs = kept(path)
    assert (jobs["job 1"].state, jobs["job 1"].task_id) == (State.DOWNLOADED, t.ledger.tasks[0].task_id)
    assert (jobs["job 2"].state, jobs["job 2"].task_id, jobs["job 2"].file) == (State.IN_DOUBT, None, None)
    (film,) = films.iterdir()
    assert film.read_bytes() == film_of(t.ledger.tasks[0].task_id)


@pytest.mark.parametrize(("price", "charged"), [(0, "no"), (200, "yes"), (..., "unknown")])
async def test_a18_a_job_that_has_failed_already_is_a_failed_job(trial, price, charged):
    said = data(status="FAILED", consumed_credits=price, error_message="no model is free")
    async with trial(seconds=1) as t:
        t.gateway.on("submit", to_submit(said))
        future, outcome = await t.one()
        error = outcome.error
        assert type(error) is GenerationFailedError
        assert (error.message, error.code, error.charged) == ("no model is free", "FAILED", charged)
        assert (future.status, outcome.task_id) == (Status.FAILED, t.ledger.tasks[0].task_id)
        assert_silent(error)
        assert (t.ledger.accepted, len(t.ledger.submits), t.ledger.polls) == (1, 1, [])


async def test_a19_a_slow_answer_is_waited_for_until_its_deadline(trial, tmp_path):
    async def slowly(visit, truth):
        await asyncio.sleep(0.7)
        await visit.say(truth)
        return True

    async with trial(seconds=2) as t:
        outcome = await done(t, slowly, tmp_path)
    assert outcome.timing.queued >= 0.7
