"""N: what happens below HTTP. Where no byte left a job may be sent again; where one may have left it never is."""

import asyncio
import contextlib
import errno
import inspect
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from certificates import Authority
from hostile_gateway import reset, shown, take
from stand_ins import black_hole, closed_port
from trials import KEY, assert_in_doubt, assert_not_sent, assert_silent

from kling_async import (
    ConnectionFailedError,
    DownloadError,
    DownloadPolicy,
    KlingSession,
    RetryPolicy,
    Status,
    Success,
    Timeouts,
)

pytestmark = pytest.mark.anyio

NAME = "gateway.test"
BY_NAME = f"http://{NAME}:{{port}}"
FOUR = RetryPolicy(attempts=4, initial=0.02, maximum=0.05)
HERE = ["127.0.0.1"]


async def outcomes_of(run):
    return [outcome async for outcome in run]


async def stays_planned(t, path, code, repair):
    """A batch keeps what could not be sent, says why, and the next run sends it."""
    async with t.session.batch(path) as batch:
        batch.add([t.request() for _ in range(3)])
        (first,) = await outcomes_of(batch.run())
        assert (first.status, first.charged, first.error.code) == (Status.QUEUED, "no", code)
        assert_silent(first.error)
        summary = batch.summary()
        assert (summary.planned, summary.in_doubt, summary.rejected) == (3, 0, 0)
        assert isinstance(summary.stopped, ConnectionFailedError)
        assert t.ledger.submits == []
        repair()
        assert [type(outcome) for outcome in await outcomes_of(batch.run())] == [Success] * 3
    assert (t.ledger.accepted, len(t.ledger.submits)) == (3, 3)


NO_SUCH_NAME = {
    "no such host": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "no answer now": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "no address": socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"),
}


@pytest.mark.parametrize("answer", NO_SUCH_NAME)
async def test_n01_a_name_without_an_address_is_tried_four_times_and_nothing_is_sent(trial, names, answer):
    names.say(NAME, NO_SUCH_NAME[answer])
    async with trial(seconds=1, base_url=BY_NAME, retry=FOUR) as t:
        future, outcome = await t.one()
        assert_not_sent(future, outcome, "dns", 4)
        assert names.asked[NAME] == 4
        assert (t.ledger.connections["api"], t.idle) == (0, True)


async def test_n01_a_name_that_comes_back_is_used_and_paid_for_once(trial, names):
    names.say(NAME, NO_SUCH_NAME["no such host"], NO_SUCH_NAME["no answer now"], HERE)
    async with trial(seconds=1, base_url=BY_NAME) as t:
        future, outcome = await t.one()
        assert (outcome.ok, future.attempts) == (True, 3)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


async def test_n01_in_a_batch_the_jobs_stay_planned_until_there_is_an_address(trial, names, tmp_path):
    names.say(NAME, NO_SUCH_NAME["no such host"])
    async with trial(seconds=2, base_url=BY_NAME, retry=FOUR) as t:
        await stays_planned(t, tmp_path / "n01.db", "dns", lambda: names.say(NAME, HERE))


async def test_n02_a_refused_connection_is_tried_four_times_and_nothing_is_sent(trial, routes):
    with closed_port() as (host, port):
        async with trial(seconds=1, base_url=f"http://{host}:{port}", retry=FOUR) as t:
            future, outcome = await t.one()
            assert_not_sent(future, outcome, "refused", 4)
            assert (routes.tries[host, port], t.idle) == (4, True)


async def test_n02_in_a_batch_the_jobs_stay_planned_until_somebody_listens(trial, routes, tmp_path):
    with closed_port() as nobody:
        async with trial(seconds=2, retry=FOUR) as t:
            routes.detours["127.0.0.1", t.port] = nobody
            await stays_planned(t, tmp_path / "n02.db", "refused", routes.detours.clear)


async def test_n03_a_connect_without_an_answer_ends_within_its_time_and_nothing_is_sent(trial, routes):
    timeouts = Timeouts(connect=0.3, submit=1, poll=1)
    with black_hole() as (host, port):
        async with trial(seconds=4 * 0.3, base_url=f"http://{host}:{port}", retry=FOUR, timeouts=timeouts) as t:
            future, outcome = await t.one()
            assert_not_sent(future, outcome, "timeout", 4)
            assert (routes.tries[host, port], t.idle) == (4, True)


async def test_n03_in_a_batch_the_jobs_stay_planned_until_there_is_an_answer(trial, routes, tmp_path):
    timeouts = Timeouts(connect=0.2, submit=1, poll=1)
    with black_hole() as nowhere:
        async with trial(seconds=2, retry=RetryPolicy(attempts=1), timeouts=timeouts) as t:
            routes.detours["127.0.0.1", t.port] = nowhere
            await stays_planned(t, tmp_path / "n03.db", "timeout", routes.detours.clear)


def greeting(*pieces, end=None, after=0.0):
    """Return what meets a connection before a request is read: some bytes, then perhaps an end."""

    async def greet(reader, writer):
        await asyncio.sleep(after)
        for piece in pieces:
            writer.write(piece)
        if end is not None:
            end(writer)
        else:
            while await reader.read(65536):
                pass
        return True

    return greet


async def in_doubt_after_one_connection(t, *codes):
    """What was greeted like this may have been read: the job is in doubt after its only connection."""
    future, outcome = await t.one()
    assert_in_doubt(t, future, outcome, *codes, accepted=0, submits=0)
    assert t.ledger.connections["api"] == 1


@pytest.mark.parametrize("after", [0.0, 0.02])
async def test_n04_a_reset_right_after_the_accept_leaves_the_job_in_doubt(trial, after):
    async with trial(seconds=1) as t:
        t.gateway.greeting = greeting(end=reset, after=after)
        await in_doubt_after_one_connection(t, "reset", "disconnected", "lost")


@pytest.mark.parametrize("after", [0.0, 0.02])
async def test_n05_an_end_right_after_the_accept_leaves_the_job_in_doubt(trial, after):
    async with trial(seconds=1) as t:
        t.gateway.greeting = greeting(end=lambda writer: writer.close(), after=after)
        await in_doubt_after_one_connection(t, "reset", "disconnected", "lost")


async def test_n06_a_host_that_never_answers_leaves_the_job_in_doubt_at_the_deadline(trial):
    async with trial(seconds=1) as t:
        t.gateway.greeting = greeting()
        begun = time.monotonic()
        await in_doubt_after_one_connection(t, "timeout")
        assert 0.9 <= time.monotonic() - begun <= 2


GARBAGE = {
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "smtp": b"220 mail.test ESMTP\r\n",
    "tls alert": bytes.fromhex("15030100020246"),
    "http2": bytes.fromhex("000012040000000000000300000064000400100000000600004000"),
    "http0.9": b"<html>it works</html>\n",
    "zeros": bytes(4096),
    "noise": bytes(range(256)) * 16,
    "a refusal without a protocol": b"400 Bad Request\r\n\r\n",
}


@pytest.mark.parametrize("spoken", GARBAGE)
@pytest.mark.parametrize("end", [None, lambda writer: writer.close()], ids=["open", "closed"])
async def test_n07_bytes_that_are_not_http_leave_the_job_in_doubt_and_are_no_refusal(trial, spoken, end):
    async with trial(seconds=1, timeouts=Timeouts(connect=1, submit=0.5, poll=1)) as t:
        t.gateway.greeting = greeting(GARBAGE[spoken], end=end)
        await in_doubt_after_one_connection(t, "protocol", "disconnected", "reset", "timeout", "lost")


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def trusting(authority, monkeypatch):
    """Let the library trust our authority as it trusts the system's."""
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", authority.trusted())


def assert_refused_at_once(t, future, outcome, routes):
    """TLS that fails is no matter of trying again, and its error teaches nobody to look away."""
    assert_not_sent(future, outcome, "tls", 1)
    assert (routes.tries["127.0.0.1", t.port], t.idle) == (1, True)
    said = f"{outcome.error} {outcome.error.to_dict()}".lower()
    assert not any(hint in said for hint in ("verify", "ssl=", "insecure", "ignore", "disable", "skip", "unsafe"))


async def test_n08_a_good_certificate_is_taken(trial, names, trusting, authority):
    """Otherwise the tests below would show nothing."""
    names.say(NAME, HERE)
    async with trial(seconds=1, tls=authority.server("good", NAME), base_url=f"https://{NAME}:{{port}}") as t:
        _, outcome = await t.one()
        assert (outcome.ok, t.ledger.accepted) == (True, 1)


BAD = {
    "expired": ("expired", NAME),
    "not yet valid": ("not yet valid", NAME),
    "wrong name": ("good", "other.test"),
    "self-signed": ("self-signed", NAME),
}


@pytest.mark.parametrize("certificate", BAD)
async def test_n08_a_bad_certificate_is_refused_at_once_and_nothing_is_sent(
    trial, names, routes, trusting, authority, certificate
):
    names.say(NAME, HERE)
    tls = authority.server(*BAD[certificate])
    async with trial(seconds=1, tls=tls, base_url=f"https://{NAME}:{{port}}") as t:
        future, outcome = await t.one()
        assert_refused_at_once(t, future, outcome, routes)
        assert t.ledger.submits == []


async def test_n08_a_certificate_of_an_unknown_authority_is_refused_at_once(trial, names, routes, authority):
    names.say(NAME, HERE)
    async with trial(seconds=1, tls=authority.server("good", NAME), base_url=f"https://{NAME}:{{port}}") as t:
        future, outcome = await t.one()
        assert_refused_at_once(t, future, outcome, routes)
        assert t.ledger.submits == []


async def test_n08_tls_to_a_port_that_speaks_plainly_is_refused_at_once(trial, routes):
    async with trial(seconds=1, base_url="https://127.0.0.1:{port}") as t:
        t.gateway.greeting = greeting(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        future, outcome = await t.one()
        assert_refused_at_once(t, future, outcome, routes)


async def test_n08_in_a_batch_the_run_ends_at_once_and_everything_stays_planned(trial, routes, tmp_path):
    async with (
        trial(seconds=1, base_url="https://127.0.0.1:{port}") as t,
        t.session.batch(tmp_path / "n08.db") as batch,
    ):
        t.gateway.greeting = greeting(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
        batch.add([t.request() for _ in range(5)])
        (first,) = await outcomes_of(batch.run())
        assert (first.error.code, first.charged, first.status) == ("tls", "no", Status.QUEUED)
        assert (batch.summary().planned, batch.summary().stopped.code) == (5, "tls")
        assert routes.tries["127.0.0.1", t.port] == 1


async def test_n09_more_jobs_than_connections_wait_for_one_and_none_fails(trial):
    async def slowly(visit):
        await asyncio.sleep(0.05)
        return await take(visit)

    timeouts = Timeouts(connect=4, submit=4, poll=4)
    async with trial(seconds=4, concurrency=None, timeouts=timeouts) as t:
        t.gateway.on("submit", slowly, times=0)
        outcomes = await t.many(200)
        assert all(outcome.ok for outcome in outcomes)
        assert {outcome.timing.attempts for outcome in outcomes} == {1}
        assert (t.ledger.accepted, len(t.ledger.submits)) == (200, 200)
        assert t.ledger.most_open["api"] <= 128  # of each kind of request 64


async def test_n09_a_job_that_waits_in_vain_for_a_connection_was_not_sent_and_is_sent_later(trial, monkeypatch):
    monkeypatch.setattr("kling_async.session.CONNECTIONS", 2)

    async def slowly(visit):
        await asyncio.sleep(0.3)
        return await take(visit)

    timeouts = Timeouts(connect=0.1, submit=2, poll=1)
    async with trial(seconds=4, concurrency=None, timeouts=timeouts, retry=RetryPolicy(50, 0.02, 0.05)) as t:
        t.gateway.on("submit", slowly, times=0)
        outcomes = await t.many(8)
        assert all(outcome.ok for outcome in outcomes)
        assert max(outcome.timing.attempts for outcome in outcomes) > 1
        assert (t.ledger.accepted, len(t.ledger.submits)) == (8, 8)


async def test_n09_a_program_that_stalls_before_the_first_byte_has_sent_nothing_and_sends_again(trial):
    async with trial(seconds=3, timeouts=Timeouts(connect=1, submit=0.3, poll=1)) as t:
        usual, stalls = t.session.gateway.submit, [0.4]

        def stalling(request, key):
            time.sleep(stalls.pop() if stalls else 0.0)
            yield from ()
            return (yield from usual(request, key))

        t.session._engine.gateway = Stalling(t.session.gateway, stalling)
        _, outcome = await t.one()
        assert outcome.ok
        assert outcome.timing.attempts == 2
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


class Stalling:
    """A gateway whose submits are another's."""

    def __init__(self, gateway, submit):
        self._gateway, self.submit = gateway, submit

    def __getattr__(self, name):
        return getattr(self._gateway, name)


async def test_n09_where_no_connection_becomes_free_the_job_ends_as_not_sent(trial, monkeypatch):
    monkeypatch.setattr("kling_async.session.CONNECTIONS", 1)
    held = asyncio.Event()

    async def hold(visit):
        await held.wait()
        return await take(visit)

    timeouts = Timeouts(connect=0.1, submit=5, poll=1)
    retry = RetryPolicy(attempts=2, initial=0.02, maximum=0.05)
    async with trial(seconds=2, concurrency=None, timeouts=timeouts, retry=retry) as t:
        t.gateway.on("submit", hold)
        first = t.submit()
        await asyncio.sleep(0.1)
        future, outcome = await t.one()
        assert_not_sent(future, outcome, "timeout", 2)
        held.set()
        assert (await first.outcome()).ok
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)


async def accepted(futures):
    for future in futures:
        await future.accepted()


async def gone(visit):
    visit.reset()


async def test_n10_a_network_that_goes_away_costs_a_few_tries_of_the_account_and_not_of_each_job(trial, routes):
    retry = RetryPolicy(attempts=3, initial=0.02, maximum=0.05, budget=8)
    async with trial(seconds=3, concurrency=None, retry=retry) as t:
        before = [t.submit() for _ in range(10)]
        await accepted(before)
        tried = routes.tries["127.0.0.1", t.port]
        t.gateway.on("status", gone, times=5)
        routes.missing = errno.ENETUNREACH
        later = [t.submit() for _ in range(100)]
        outcomes = [await future.outcome() for future in later]
        # One round may be on its way when the network goes; from then on it is one try at a time.
        submits = sum(future.attempts for future in later)
        assert submits <= 64 + 8
        for future, outcome in zip(later, outcomes, strict=True):
            assert_silent(outcome.error)
            assert isinstance(outcome.error, ConnectionFailedError)
            assert (outcome.charged, outcome.error.code, future.status) == ("no", "unreachable", Status.FAILED)
        assert routes.tries["127.0.0.1", t.port] - tried <= submits + 30
        routes.missing = None
        assert all([(await future.outcome()).ok for future in before])
        assert (t.ledger.accepted, len(t.ledger.submits)) == (10, 10)


async def test_n10_once_the_network_is_known_to_be_away_one_job_at_a_time_tries(trial, routes):
    async with trial(
        seconds=3, concurrency=None, retry=RetryPolicy(attempts=3, initial=0.02, maximum=0.05, budget=8)
    ) as t:
        routes.missing = errno.ENETUNREACH
        _, first = await t.one()
        assert first.error.code == "unreachable"
        tried = routes.tries["127.0.0.1", t.port]
        outcomes = await t.many(100)
        assert {type(outcome.error) for outcome in outcomes} == {ConnectionFailedError}
        assert routes.tries["127.0.0.1", t.port] - tried <= 8
        assert t.idle


async def test_n10_in_a_batch_all_that_is_unsent_stays_planned_and_the_next_run_sends_it(trial, routes, tmp_path):
    async def take_and_lose_the_network(visit):
        kept = await take(visit)
        routes.missing = errno.ENETUNREACH
        asyncio.get_running_loop().call_later(2, setattr, routes, "missing", None)
        return kept

    retry = RetryPolicy(attempts=2, initial=0.02, maximum=0.05, budget=6)
    trying = trial(seconds=4, concurrency=None, rate="100/s", retry=retry)
    async with trying as t, t.session.batch(tmp_path / "n10.db", patience=0.1) as batch:
        batch.add([t.request() for _ in range(40)])
        t.gateway.on("submit", *[take] * 9, take_and_lose_the_network)
        t.gateway.on("status", gone, times=5)
        outcomes = await outcomes_of(batch.run())
        (unsent,) = [outcome for outcome in outcomes if not outcome.ok]
        sent = t.ledger.accepted
        summary = batch.summary()
        assert (unsent.status, unsent.charged, unsent.error.code) == (Status.QUEUED, "no", "unreachable")
        assert (summary.planned, summary.in_doubt, summary.rejected) == (40 - sent, 0, 0)
        assert (summary.stopped.code, 10 <= sent <= 30) == ("unreachable", True), sent
        await outcomes_of(batch.run())
        assert (batch.summary().succeeded, batch.summary().planned) == (40, 0)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (40, 40)


DEAD_V6 = ["closed", "black hole", "no route"]


@pytest.mark.parametrize("fault", DEAD_V6)
async def test_n11_a_dead_ipv6_address_costs_half_a_second_at_most(trial, names, routes, fault):
    names.say(NAME, ["::1", "127.0.0.1"])
    async with trial(seconds=1, base_url=BY_NAME) as t:
        with contextlib.ExitStack() as dead:
            if fault == "black hole":
                dead.enter_context(black_hole("::1", t.port))
            elif fault == "no route":
                routes.missing_to["::1"] = errno.ENETUNREACH
            begun = time.monotonic()
            future = t.submit()
            await future.accepted()
            assert time.monotonic() - begun <= 0.5
            assert (await future.outcome()).ok
        assert routes.tries["::1", t.port] >= 1
        assert (t.ledger.accepted, len(t.ledger.submits), future.attempts) == (1, 1, 1)


PUBLIC = "93.184.216.34"
FILMS = "films.test"


def films_at(host, port):
    """Answer looks as documented, with films on another host."""

    async def look(visit):
        task = visit.gateway.task(visit.query["task_id"])
        await visit.say(shown(task, "SUCCESS", [f"http://{host}:{port}/{task.task_id}.mp4"]))
        return True

    return look


async def blocked(t, session, video, folder):
    """The film is not fetched, nothing is left in the folder, and the job stays what it is: made and paid for."""
    with pytest.raises(DownloadError) as caught:
        await session.download(video, folder / "film.mp4")
    error = caught.value
    assert (error.code, error.stage, error.charged, error.task_id) == ("blocked", "download", "yes", video.task_id)
    assert_silent(error)
    assert list(folder.iterdir()) == []
    assert t.ledger.connections["canary"] == 0


async def test_n12_a_film_host_that_turns_private_after_the_look_is_not_connected_to(trial, names, routes, tmp_path):
    names.say(NAME, HERE)
    names.say(FILMS, HERE)
    async with trial(seconds=2, base_url=BY_NAME) as t:
        port = int(t.gateway.canary.rpartition(":")[2])
        t.gateway.on("status", films_at(FILMS, port), times=0)
        future, outcome = await t.one()
        await blocked(t, t.session, outcome.video, tmp_path)
        assert (outcome.ok, future.status, t.ledger.accepted) == (True, Status.SUCCEEDED, 1)
        assert routes.tries["127.0.0.1", port] == 0


async def test_n12_a_name_that_is_public_when_asked_first_and_private_later_is_checked_at_the_socket(
    trial, names, routes, tmp_path
):
    names.say(NAME, HERE)
    names.say(FILMS, [PUBLIC], HERE)
    async with trial(seconds=2, base_url=BY_NAME) as t:
        port = int(t.gateway.canary.rpartition(":")[2])
        films = int(t.gateway.films.rpartition(":")[2])
        routes.detours[PUBLIC, port] = ("127.0.0.1", films)  # nothing leaves this machine
        t.gateway.on("status", films_at(FILMS, port), times=0)
        _, outcome = await t.one()
        (tmp_path / "public").mkdir()
        (tmp_path / "private").mkdir()
        await t.film(outcome.video, tmp_path / "public" / "film.mp4")
        async with KlingSession("kling3api", api_key=KEY, base_url=t.session.base_url) as later:
            await blocked(t, later, outcome.video, tmp_path / "private")
        assert names.asked[FILMS] == 2
        assert routes.tries["127.0.0.1", port] == 0


async def test_n12_each_of_several_addresses_is_checked(trial, names, routes, tmp_path):
    names.say(NAME, HERE)
    names.say(FILMS, [PUBLIC, "127.0.0.1", "::1"])
    routes.missing_to[PUBLIC] = errno.ECONNREFUSED
    async with trial(seconds=2, base_url=BY_NAME) as t:
        port = int(t.gateway.canary.rpartition(":")[2])
        t.gateway.on("status", films_at(FILMS, port), times=0)
        _, outcome = await t.one()
        await blocked(t, t.session, outcome.video, tmp_path)
        assert (routes.tries["127.0.0.1", port], routes.tries["::1", port]) == (0, 0)


async def test_n12_of_a_private_gateway_only_its_own_port_is_allowed_to_films(trial, names, routes, tmp_path):
    names.say(NAME, HERE)
    async with trial(seconds=2, base_url=BY_NAME) as t:
        canary = int(t.gateway.canary.rpartition(":")[2])
        films = int(t.gateway.films.rpartition(":")[2])
        (tmp_path / "own").mkdir()
        (tmp_path / "other").mkdir()
        t.gateway.on("status", films_at(NAME, films), films_at(NAME, canary))
        own, other = [(await t.one())[1].video for _ in range(2)]
        async with KlingSession("kling3api", api_key=KEY, base_url=f"http://{NAME}:{films}") as session:
            await session.download(own, tmp_path / "own")
            await blocked(t, session, other, tmp_path / "other")
        assert routes.tries["127.0.0.1", canary] == 0


@pytest.fixture
async def proxies():
    """Proxies that refuse in every way, by how they do it, and how often each was connected to."""
    met = []

    async def serve(reader, writer, answer):
        met.append(answer)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    answers = {
        "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        "502": b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
    }
    async with contextlib.AsyncExitStack() as open_:
        refused = open_.enter_context(closed_port())
        places = {"refused": refused}
        for name, answer in answers.items():
            server = await asyncio.start_server(lambda r, w, a=answer: serve(r, w, a), "127.0.0.1", 0)
            open_.callback(server.close)
            places[name] = server.sockets[0].getsockname()
        yield places, met


PASSWORD = "proxy-pass-3141"
VARIABLES = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("fault", ["refused", "407", "502"])
async def test_n13_a_proxy_in_the_environment_is_not_asked(
    trial, names, routes, trusting, authority, proxies, monkeypatch, tmp_path, scheme, fault
):
    places, met = proxies
    host, port = places[fault]
    for variable in VARIABLES:
        monkeypatch.setenv(variable, f"http://user:{PASSWORD}@{host}:{port}")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    names.say(NAME, HERE)
    tls = authority.server("good", NAME) if scheme == "https" else None
    async with trial(seconds=1, tls=tls, base_url=f"{scheme}://{NAME}:{{port}}") as t:
        _, outcome = await t.one()
        await t.film(outcome.video, tmp_path / "film.mp4")
        assert (t.ledger.accepted, met, routes.tries[host, port]) == (1, [], 0)


async def test_n13_no_error_shows_the_password_of_a_proxy(trial, monkeypatch):
    with closed_port() as (host, port):
        for variable in VARIABLES:
            monkeypatch.setenv(variable, f"http://user:{PASSWORD}@{host}:{port}")
        async with trial(seconds=1, base_url=f"http://{host}:{port}", retry=FOUR) as t:
            future, outcome = await t.one()
            assert_not_sent(future, outcome, "refused", 4)
            assert PASSWORD not in f"{outcome.error!r} {outcome.error} {outcome.error.to_dict()}"


def test_n13_no_setting_names_a_proxy():
    """So none can fail, and none sees a prompt: what is not offered needs no error of its own."""
    kinds = (KlingSession, Timeouts, RetryPolicy, DownloadPolicy)
    settings = [name for kind in kinds for name in inspect.signature(kind).parameters]
    assert not [name for name in settings if "proxy" in name]


async def test_n14_without_a_file_to_open_nothing_is_sent_and_jobs_wait_until_there_is_one(trial, tmp_path):
    def run(url):
        program = [sys.executable, Path(__file__).with_name("few_files.py"), url]
        environment = {**os.environ, "KLING_API_KEY": KEY}
        return subprocess.run(
            program, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
        )

    async with trial(seconds=10) as t:
        ended = await asyncio.to_thread(run, t.gateway.api)
        assert (ended.returncode, ended.stderr) == (0, "")
        said = {}
        for line in ended.stdout.splitlines():
            said |= json.loads(line)
        assert said["files"] == 32
        assert said["not_loaded"] == [["import", "no"]] * 3
        error = said["refused"]
        assert (error["error"], error["code"], error["stage"]) == ("ConnectionFailedError", "resources", "connect")
        assert (error["charged"], error["attempts"], said["charged"], said["status"]) == ("no", 3, "no", "failed")
        assert set(said["paused"]) <= {"queued", "submitting"}
        assert said["raised"] == [True] * 8
        assert (said["download"]["error"], said["download"]["charged"]) == ("DownloadError", "yes")
        assert KEY not in ended.stdout
        assert (t.ledger.accepted, len(t.ledger.submits)) == (8, 8)
    assert list(tmp_path.iterdir()) == []
