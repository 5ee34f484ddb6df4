"""Whatever a gateway answers and however a call ends: no exception, frame or chain of one holds the key."""

import asyncio
import json
import socket
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from canary import KEY, PROMPT, leaks, leaks_of
from echoing_gateway import ENDINGS, FAULTS, EchoingGateway, Said, Visit, echoing_gateway
from log_records import Records

from kling_async import (
    DownloadError,
    KlingError,
    KlingSession,
    PollPlan,
    RetryPolicy,
    TextToVideo,
    Timeouts,
    Video,
)
from kling_async.gateways import gateway_factory

pytestmark = pytest.mark.anyio

GATEWAYS = ("kling3api", "apiin", "klinggenerator", "apimart")
PATIENT = Timeouts(connect=5, submit=5, poll=5, generation=10)


def session_at(url: str, gateway: str = "kling3api", **settings: Any) -> KlingSession:
    """Return a session that tries everything once and waits for nothing."""
    pace: dict[str, Any] = {
        "rate": None,
        "concurrency": None,
        "poll": PollPlan(0.02, 0.02, 0.05),
        "timeouts": Timeouts(connect=1, submit=0.4, poll=0.4, generation=0.3),
        "retry": RetryPolicy(attempts=1, initial=0.01, maximum=0.02),
    }
    return KlingSession(gateway, **{"api_key": KEY, "base_url": url, **pace, **settings})


async def raised_by(work: Awaitable[Any]) -> BaseException | None:
    """Return what something raises, with its whole traceback."""
    try:
        await work
    except BaseException as error:
        return error
    return None


async def outcomes_of(session: KlingSession) -> AsyncIterator[BaseException]:
    """Yield every error that one job hands out, in every way in which it does."""
    error = await raised_by(session.generate(TextToVideo(PROMPT)))
    if error is not None:
        yield error
    job = session.submit(TextToVideo(PROMPT))
    outcome = await job.outcome()
    if isinstance(outcome.error if not outcome.ok else None, KlingError):
        yield outcome.error
        yield job.exception()
        yield await raised_by(job)
        if job.task_id is None:
            yield await raised_by(job.accepted())
        assert leaks(json.dumps(outcome.to_dict(), default=str) + repr(outcome) + repr(job)) == []


def told(found: dict[str, Any], name: str, error: BaseException | None) -> None:
    """Note under the name of a fault in which ways an error of it leaks."""
    hits = {} if error is None else leaks_of(error)
    if hits:
        found[f"{name}: {type(error).__name__}"] = hits


NAMES = list(FAULTS)
SHARES = [NAMES[start::4] for start in range(4)]


@pytest.mark.parametrize("share", range(4))
async def test_no_error_of_a_submit_holds_the_key(share: int, logged: Records) -> None:
    found: dict[str, Any] = {}
    with echoing_gateway() as gateway:
        for number, name in enumerate(SHARES[share]):
            gateway.faults = {"submit": FAULTS[name]}
            async with session_at(gateway.url, GATEWAYS[number % 4]) as session:
                async for error in outcomes_of(session):
                    told(found, name, error)
        sent = len(gateway.visits)
    assert found == {}
    assert logged.leaks() == []
    assert sent >= len(SHARES[share])


@pytest.mark.parametrize("share", range(4))
async def test_no_error_of_a_look_holds_the_key(share: int, logged: Records) -> None:
    """All faults at once: each job is looked at with its own. A refused key ends the following of all, so no 401."""
    names = [name for name in SHARES[share] if not any(code in name for code in ("401", "403", "challenge"))]
    found: dict[str, Any] = {}

    def by_id(visit: Visit) -> Said:
        number = visit.target.rpartition("task-")[2].rpartition("-")[0] or visit.target.rpartition("task-")[2]
        return FAULTS[names[int(number)]](visit)

    with echoing_gateway(poll=by_id) as gateway:
        async with session_at(gateway.url, GATEWAYS[share]) as session:
            jobs = {name: session.attach(f"task-{number}") for number, name in enumerate(names)}
            for name, job in jobs.items():
                told(found, name, await raised_by(job))
                told(found, name, job.last_error)
                assert leaks(repr(job.snapshot()) + str(job.snapshot().to_dict())) == []
    assert found == {}
    assert logged.leaks() == []


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("401, a", "403, a", "a challenge"))])
async def test_no_error_of_a_refused_look_holds_the_key(name: str, logged: Records) -> None:
    found: dict[str, Any] = {}
    with echoing_gateway(poll=FAULTS[name]) as gateway:
        async with session_at(gateway.url) as session:
            told(found, name, await raised_by(session.attach("task-1")))
            told(found, name, await raised_by(session.generate(TextToVideo(PROMPT))))
    assert found == {}
    assert logged.leaks() == []


@pytest.mark.parametrize("gateway_name", GATEWAYS)
@pytest.mark.parametrize("name", ENDINGS)
async def test_no_end_of_a_job_holds_the_key(name: str, gateway_name: str, logged: Records) -> None:
    found: dict[str, Any] = {}
    with echoing_gateway(poll=ENDINGS[name]) as gateway:
        async with session_at(gateway.url, gateway_name) as session:
            job = session.submit(TextToVideo(PROMPT))
            error = await raised_by(job)
            told(found, name, error)
            assert error is not None
            snapshot = job.snapshot()
            assert leaks(repr((snapshot, dict(snapshot.raw), snapshot.to_dict(), job.exception()))) == []
    assert found == {}
    assert logged.leaks() == []


async def test_a_video_that_comes_with_an_echo_holds_no_key(logged: Records) -> None:
    def success(visit: Visit) -> Said:
        return _ended(visit, f"{gateway.url}/videos/x.mp4")

    with echoing_gateway(poll=success) as gateway:
        async with session_at(gateway.url, timeouts=PATIENT) as session:
            job = session.submit(TextToVideo(PROMPT))
            video = await job
            assert leaks(repr((video, dict(video.raw), video.to_dict(), job.snapshot().raw))) == []
            assert "***" in repr(dict(video.raw))
            assert video.url.endswith("/videos/x.mp4")
    assert logged.leaks() == []


def _ended(visit: Visit, url: str) -> Said:
    from echoing_gateway import ending

    return ending("success", response=[url], request={"headers": {"authorization": f"Bearer {KEY}"}})(visit)


@pytest.mark.parametrize("call", ["balance", "upload"])
@pytest.mark.parametrize("share", range(4))
async def test_no_error_of_a_call_about_the_account_holds_the_key(
    share: int, call: str, logged: Records, tmp_path: Path
) -> None:
    """These raise in the caller's own asyncio task: the frames of the conversation hang on the traceback."""
    found: dict[str, Any] = {}
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    with echoing_gateway() as gateway:
        async with session_at(gateway.url, "apimart") as session:
            for name in SHARES[share] if call == "balance" else SHARES[share][::5]:
                gateway.faults = {call: FAULTS[name]}
                error = await raised_by(session.balance() if call == "balance" else session.upload(picture))
                assert isinstance(error, KlingError), (name, error)
                told(found, name, error)
    assert found == {}
    assert logged.leaks() == []


async def test_no_error_of_a_download_holds_the_key(logged: Records, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    with echoing_gateway() as gateway:
        async with session_at(gateway.url, downloads=_allowing()) as session:
            for name in NAMES[::5]:
                gateway.faults = {"download": FAULTS[name]}
                video = Video("task-1", f"{gateway.url}/videos/x.mp4")
                error = await raised_by(session.download(video, tmp_path / "x.mp4"))
                assert isinstance(error, KlingError), name
                told(found, name, error)
        assert not [visit for visit in gateway.visits if visit.operation == "download" and leaks(visit.head)]
    assert found == {}
    assert logged.leaks() == []


def _allowing() -> Any:
    from kling_async import DownloadPolicy

    return DownloadPolicy(stall=0.3, minimum_speed=0)


async def test_no_error_of_a_fresh_link_holds_the_key(logged: Records, tmp_path: Path) -> None:
    """A link that has expired is asked for anew: a conversation, in the middle of a download."""
    found: dict[str, Any] = {}
    with echoing_gateway(download=lambda _: _gone()) as gateway:
        async with session_at(gateway.url) as session:
            for name in NAMES[::9]:
                gateway.faults["poll"] = FAULTS[name]
                video = Video("task-1", f"{gateway.url}/videos/x.mp4")
                error = await raised_by(session.download(video, tmp_path / "x.mp4"))
                assert isinstance(error, DownloadError), name
                told(found, name, error)
    assert found == {}
    assert logged.leaks() == []


def _gone() -> Said:
    from echoing_gateway import answer

    return answer("gone", "403 No")


async def test_no_error_of_a_batch_holds_the_key(logged: Records, tmp_path: Path) -> None:
    found: dict[str, Any] = {}
    with echoing_gateway() as gateway:
        for number, name in enumerate(NAMES[::9]):
            gateway.faults = {"submit" if number % 2 else "poll": FAULTS[name]}
            async with (
                session_at(gateway.url) as session,
                session.batch(tmp_path / f"{number}.db", patience=0.05, download_to=tmp_path) as batch,
            ):
                batch.add([TextToVideo(PROMPT)])
                async for outcome in batch.run():
                    told(found, name, None if outcome.ok else outcome.error)
                summary = batch.summary()
                told(found, name, summary.stopped)
                assert leaks(repr(summary) + repr(list(batch.outcomes()))) == []
    assert found == {}
    assert logged.leaks() == []


async def test_a_paid_film_is_kept_though_its_address_holds_the_key_and_nobody_quotes_it(
    logged: Records, tmp_path: Path
) -> None:
    """The gateway's own doing: the address is used as it stands, or the film would be lost."""
    found: dict[str, Any] = {}
    with echoing_gateway() as gateway:
        url = f"{gateway.url}/videos/x.mp4?key={KEY}"
        gateway.faults = {"poll": lambda visit: _ended(visit, url), "download": lambda _: _gone()}
        async with session_at(gateway.url, timeouts=PATIENT, downloads=_allowing()) as session:
            job = session.submit(TextToVideo(PROMPT))
            video = await job
            assert video.url == url
            outcome = await job.outcome()
            assert leaks(repr((video, outcome, job, job.snapshot(), dict(video.raw)))) == []
            told(found, "download", await raised_by(session.download(video, tmp_path / "x.mp4")))
    assert found == {}
    assert logged.leaks() == []


# What never gets an answer.


async def _no_such_host(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def _no_tls(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("trouble", ["refused", "dns", "tls"])
async def test_no_error_of_a_connection_that_fails_holds_the_key(
    trouble: str, monkeypatch: pytest.MonkeyPatch, logged: Records, tmp_path: Path
) -> None:
    found: dict[str, Any] = {}
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    async with await asyncio.start_server(_no_tls, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        urls = {
            "refused": "http://127.0.0.1:9",
            "tls": f"https://127.0.0.1:{port}",
            "dns": "https://no-such-host.invalid",
        }
        if trouble == "dns":
            monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", _no_such_host)
        timeouts = Timeouts(connect=5, submit=5, poll=5, generation=0.3)
        async with session_at(urls[trouble], "apimart", timeouts=timeouts) as session:
            for call in (
                session.balance,
                lambda: session.upload(picture),
                lambda: session.generate(TextToVideo(PROMPT)),
            ):
                error = await raised_by(call())
                assert isinstance(error, KlingError)
                assert (error.stage, error.code) == ("connect", trouble)
                told(found, trouble, error)
            told(found, trouble, await raised_by(session.attach("task-1")))
    assert found == {}
    assert logged.leaks() == []


# What is cancelled.


def _calls(session: KlingSession, tmp_path: Path) -> dict[str, Callable[[], Awaitable[Any]]]:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"\x89PNG")
    return {
        "balance": session.balance,
        "upload": lambda: session.upload(picture),
        "generate": lambda: session.generate(TextToVideo(PROMPT)),
        "attach": lambda: _video_of(session),
        "gather": lambda: session.gather([TextToVideo(PROMPT)] * 2),
        "download": lambda: session.download(Video("t", f"{session.base_url}/videos/x.mp4"), tmp_path / "x.mp4"),
    }


async def _video_of(session: KlingSession) -> Video:
    return await session.attach("task-1")


CALLS = ("balance", "upload", "generate", "attach", "gather", "download")


async def _cancelled(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    task = asyncio.ensure_future(work())
    await asyncio.sleep(0.1)
    task.cancel("by the user")
    return await raised_by(task)


async def _waited_for(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    return await raised_by(asyncio.wait_for(work(), 0.1))


async def _in_a_timeout(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    async def limited() -> None:
        async with asyncio.timeout(0.1):
            await work()

    return await raised_by(limited())


async def _in_a_scope(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    async def limited() -> None:
        with anyio.fail_after(0.1):
            await work()

    return await raised_by(limited())


async def _beside_a_failure(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    async def fail() -> None:
        await asyncio.sleep(0.1)
        raise ValueError("of the user's own")

    async def grouped() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_awaited(work))
            group.create_task(fail())

    return await raised_by(grouped())


async def _seen_by_the_caller(work: Callable[[], Awaitable[Any]]) -> BaseException | None:
    """Raise from the cancellation, as a caller does who cleans up."""

    async def cleaning() -> None:
        try:
            await work()
        except asyncio.CancelledError as error:
            raise RuntimeError("of the user's own") from error

    return await _cancelled(cleaning)


WAYS_OUT = {
    "cancel": _cancelled,
    "wait_for": _waited_for,
    "timeout": _in_a_timeout,
    "anyio": _in_a_scope,
    "group": _beside_a_failure,
    "cleanup": _seen_by_the_caller,
}


async def _awaited(work: Callable[[], Awaitable[Any]]) -> None:
    await work()


@pytest.mark.parametrize("way", WAYS_OUT)
@pytest.mark.parametrize("call", CALLS)
async def test_no_cancellation_holds_the_key(call: str, way: str, logged: Records, tmp_path: Path) -> None:
    hang = dict.fromkeys(("submit", "poll", "balance", "upload", "download"), FAULTS["silence"])
    with echoing_gateway(**hang) as gateway:
        timeouts = Timeouts(connect=1, submit=0.4, poll=5, generation=30)
        async with session_at(gateway.url, "apimart", timeouts=timeouts) as session:
            error = await WAYS_OUT[way](_calls(session, tmp_path)[call])
        assert error is not None
        hits = leaks_of(error)
    assert hits == {}
    assert logged.leaks() == []


async def test_a_session_that_closes_under_a_call_leaves_no_key_in_what_it_raises(logged: Records) -> None:
    hang = dict.fromkeys(("submit", "poll", "balance"), FAULTS["silence"])
    found: dict[str, Any] = {}
    with echoing_gateway(**hang) as gateway:
        session = session_at(gateway.url, "apimart", timeouts=Timeouts(submit=0.4, poll=0.4))
        await session.__aenter__()
        works = [session.balance(), session.generate(TextToVideo(PROMPT)), _video_of(session)]
        tasks = [asyncio.ensure_future(work) for work in works]
        await asyncio.sleep(0.1)
        await session.aclose()
        for task in tasks:
            told(found, "closed", await raised_by(task))
    assert found == {}
    assert logged.leaks() == []


# What the user's own code raises in the middle of the library.


class _OwnError(Exception):
    """Of the user's own code."""


def _broken_input() -> Iterator[Any]:
    yield TextToVideo(PROMPT)
    raise _OwnError


async def _streamed(session: KlingSession, _: Path) -> None:
    async for _outcome in session.stream(_broken_input()):
        pass


async def _gathered(session: KlingSession, _: Path) -> None:
    await session.gather(_broken_input())


async def _inside(session: KlingSession, _: Path) -> None:
    async for _outcome in session.stream([TextToVideo(PROMPT)]):
        raise _OwnError


async def _observed(session: KlingSession, path: Path) -> None:
    async with session.batch(path, observer=_broken) as batch:
        batch.add([TextToVideo(PROMPT)])
        async for _outcome in batch.run():
            raise _OwnError


async def _called_back(session: KlingSession, _: Path) -> None:
    job = session.submit(TextToVideo(PROMPT))
    job.add_done_callback(_broken)
    await job
    await asyncio.sleep(0.01)
    raise _OwnError


def _broken(*_: Any) -> None:
    raise _OwnError


@pytest.mark.parametrize("use", [_streamed, _gathered, _inside, _observed, _called_back])
async def test_what_the_users_code_raises_carries_no_key_out_of_the_library(
    use: Callable[[KlingSession, Path], Awaitable[None]], logged: Records, tmp_path: Path
) -> None:
    async def used(url: str) -> None:
        async with session_at(url, timeouts=Timeouts(submit=2, poll=2)) as session:
            await use(session, tmp_path / "b.db")

    with echoing_gateway() as gateway:
        error = await raised_by(used(gateway.url))
    assert isinstance(error, _OwnError)
    assert leaks_of(error) == {}
    assert logged.leaks() == []
    told = {"_observed": "observer of the batch failed", "_called_back": "done-callback"}.get(use.__name__, "")
    assert any(told in line for line in logged.lines())


# What an adapter of somebody else does wrong.


def _plugin(place: str) -> Any:
    """Return an adapter that chokes on what it is told, with the echo in its exception and among its locals."""
    kind = type(gateway_factory("kling3api")(KEY))  # type: ignore[arg-type]

    class Careless(kind):  # type: ignore[misc, valid-type]
        name = "careless"

        def submit(self, request: Any, key: str) -> Any:
            accepted = yield from super().submit(request, key)
            if place == "submit":
                raise ValueError(f"cannot read {KEY}")
            return types.SimpleNamespace(odd=[KEY]) if place == "accepted" else accepted

        def poll(self, task_ids: Any) -> Any:
            found = yield from super().poll(task_ids)
            if place == "poll":
                quoted = {"authorization": KEY}
                raise KeyError(quoted["authorization"])
            return {task_ids[0]: KEY} if place == "snapshot" else found

        def balance(self) -> Any:
            from kling_async.gateways import HttpRequest

            quoted = yield HttpRequest("GET", "/v1/balance")
            quoted = {"authorization": KEY, "said": quoted}
            raise KeyError(quoted["authorization"])

    return Careless(KEY)


PLACES = ("submit", "accepted", "poll", "snapshot", "balance")


@pytest.mark.parametrize("place", PLACES)
async def test_an_adapter_that_fails_carries_no_key_into_errors_or_logs(place: str, logged: Records) -> None:
    found: dict[str, Any] = {}
    with echoing_gateway() as gateway:
        timeouts = Timeouts(connect=5, submit=5, poll=5, generation=1)
        async with session_at(gateway.url, _plugin(place), api_key=None, timeouts=timeouts) as session:
            work = session.balance() if place == "balance" else session.generate(TextToVideo(PROMPT))
            error = await raised_by(work)
            assert isinstance(error, KlingError)
            told(found, place, error)
    assert found == {}
    assert [line for line in logged.lines() if "careless" in line]
    assert logged.leaks() == []


def test_the_echoing_gateway_does_echo() -> None:
    """Otherwise none of these tests could fail."""
    visit = Visit("POST", "/api/generate", {}, b"", f"Authorization: Bearer {KEY}\r\n".encode())
    quiet = {"a reset", "a closed connection", "silence"}
    assert {name for name, fault in FAULTS.items() if not leaks(fault(visit).data)} == quiet
    assert isinstance(EchoingGateway(), EchoingGateway)
