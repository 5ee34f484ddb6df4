"""Opening, closing and misusing a session."""

import asyncio
import os
import pickle
import threading

import pytest
from virtual import START, VirtualLoop, VirtualSession, now

from kling_async import (
    ConfigurationError,
    DownloadPolicy,
    KlingSession,
    PollPlan,
    RateLimit,
    RetryPolicy,
    SessionClosedError,
    Status,
    SubmissionInDoubtError,
    TextToVideo,
    Timeouts,
)
from kling_async.gateways import Secret, gateway_factory
from kling_async.sandbox import Sandbox, hang_after_accept, http, slow, stuck

pytestmark = pytest.mark.anyio


async def test_leaving_fails_what_is_unfinished_and_loses_no_id():
    sandbox = Sandbox()
    sandbox.script(stuck())
    async with VirtualSession(sandbox, concurrency=2, rate=None) as session:
        futures = [session.submit(TextToVideo(f"clip {n}")) for n in range(5)]
        await futures[1].accepted()
        waiting = [asyncio.ensure_future(future.outcome()) for future in futures]
    outcomes = await asyncio.gather(*waiting)

    assert {type(outcome.error) for outcome in outcomes} == {SessionClosedError}
    ids = [submit.task_id for submit in sandbox.ledger.submits]
    assert [outcome.task_id for outcome in outcomes] == [*ids, None, None, None]
    assert [outcome.charged for outcome in outcomes] == ["yes", "yes", "no", "no", "no"]
    assert [future.status for future in futures[:2]] == [Status.IN_PROGRESS] * 2
    assert session.wire.closed


async def test_leaving_lets_a_post_under_way_come_to_its_end():
    sandbox = Sandbox()
    sandbox.script(slow(30), on="submit")
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(1)
    assert future.task_id == sandbox.ledger.submits[0].task_id
    assert isinstance(future.exception(), SessionClosedError)
    assert now() - START == pytest.approx(30, abs=1)


async def test_leaving_never_hangs_longer_than_a_submit_may_take():
    sandbox = Sandbox()
    sandbox.script(hang_after_accept(), on="submit")
    async with VirtualSession(sandbox, timeouts=Timeouts(submit=60)) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(1)
    assert isinstance(future.exception(), SubmissionInDoubtError)
    assert now() - START == pytest.approx(60, abs=1)


async def test_a_cancellation_while_leaving_waits_for_the_post_and_then_goes_on():
    sandbox = Sandbox()
    sandbox.script(slow(30), on="submit")
    futures = []

    async def work():
        async with VirtualSession(sandbox) as session:
            futures.append(session.submit(TextToVideo("a")))
            await asyncio.sleep(1)

    task = asyncio.ensure_future(work())
    await asyncio.sleep(5)
    task.cancel()
    await asyncio.sleep(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert futures[0].task_id is not None
    assert sandbox.ledger.accepted == 1


async def test_a_job_refused_while_the_session_closes_is_not_sent_again():
    sandbox = Sandbox()
    sandbox.script(slow(3), on="submit")
    sandbox.script(http(429, retry_after=1), on="submit")
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(1)
    assert isinstance(future.exception(), SessionClosedError)
    assert len(session.wire.times("POST")) == 1


async def test_a_session_leaves_no_asyncio_task_behind():
    before = asyncio.all_tasks()
    async with VirtualSession() as session:
        session.submit(TextToVideo("a"))
        stream = session.stream(TextToVideo(f"clip {n}") for n in range(100))
        await anext(stream)
        await asyncio.sleep(1)
        await stream.aclose()
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_thousand_waiting_jobs_have_no_asyncio_task_of_their_own():
    async with VirtualSession(concurrency=None, rate=None) as session:
        for n in range(1000):
            session.submit(TextToVideo(f"clip {n}"))
        await asyncio.sleep(10)
        assert session.stats.used == 1000
        assert len(asyncio.all_tasks()) < 5


async def test_using_a_session_in_the_wrong_place_is_named():
    session = VirtualSession()
    with pytest.raises(ConfigurationError, match="async with"):
        session.submit(TextToVideo("a"))
    async with session:
        with pytest.raises(ConfigurationError, match="open already"):
            await session.__aenter__()
        errors = []
        thread = threading.Thread(target=lambda: errors.append(_error_of(session)))
        thread.start()
        thread.join()
        assert "another event loop" in str(errors[0])
    with pytest.raises(SessionClosedError):
        session.submit(TextToVideo("a"))
    with pytest.raises(SessionClosedError):
        await session.__aenter__()
    await session.aclose()


def _error_of(session):
    try:
        session.submit(TextToVideo("a"))
    except Exception as error:
        return error
    return None


async def test_a_future_awaited_on_another_loop_is_named():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a"))
        errors = []

        def elsewhere():
            loop = VirtualLoop()
            try:
                loop.run_until_complete(future.outcome())
            except ConfigurationError as error:
                errors.append(str(error))
            finally:
                loop.close()

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert "another event loop" in errors[0]


async def test_a_forked_child_is_refused_by_name():
    async with VirtualSession() as session:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writing, str(_error_of(session)).encode())
            os._exit(0)
        os.waitpid(child, 0)
        assert b"after the fork" in os.read(reading, 1000)
        os.close(reading)
        os.close(writing)
        assert await session.generate(TextToVideo("a"))


async def test_a_session_that_was_never_closed_warns():
    session = VirtualSession()
    await session.__aenter__()
    with pytest.warns(ResourceWarning, match="never closed"):
        session.__del__()
    await session.aclose()


def test_a_missing_key_or_gateway_is_named_with_its_variables(monkeypatch):
    with pytest.raises(ConfigurationError, match="KLING_GATEWAY"):
        KlingSession()
    with pytest.raises(ConfigurationError, match="KLING3API_API_KEY or KLING_API_KEY"):
        KlingSession("kling3api")
    with pytest.raises(ConfigurationError, match="did you mean 'apimart'"):
        KlingSession("apimar", api_key="x")
    monkeypatch.setenv("KLING_GATEWAY", "apiin")
    monkeypatch.setenv("KLING_API_KEY", "general")
    monkeypatch.setenv("KLING_BASE_URL", "https://example.com/prefix/")
    session = KlingSession()
    assert (session.gateway.name, session.base_url) == ("apiin", "https://example.com/prefix")
    assert session.gateway.api_key == Secret("general")
    monkeypatch.setenv("APIIN_API_KEY", "own")
    assert KlingSession().gateway.api_key == Secret("own")
    assert KlingSession(api_key="given").gateway.api_key == Secret("given")


@pytest.mark.parametrize("key", ["", " ", "q q", "q\nz", "ключ", "k\x00", 7])
def test_a_key_that_cannot_be_sent_is_refused_before_any_connection_and_not_shown(key):
    with pytest.raises(ConfigurationError) as caught:
        KlingSession("kling3api", api_key=key)
    assert not str(key).strip() or str(key) not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["ftp://x", "example.com", "https://", "https://u:p@x", "https://x?q=1", "https://x#f", "https://x y", 7]
)
def test_a_base_url_that_is_not_an_origin_is_refused(url):
    with pytest.raises((ConfigurationError, AttributeError, TypeError)):
        KlingSession("kling3api", api_key="k", base_url=url)


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0},
        {"concurrency": True},
        {"concurrency": 1.5},
        {"concurrency": "many"},
        {"rate": "fast"},
        {"rate": "0/s"},
        {"rate": 10},
        {"rate": ["10/s", None, 3]},
    ],
)
def test_wrong_limits_are_refused(wrong):
    with pytest.raises(ConfigurationError):
        KlingSession("kling3api", api_key="k", **wrong)


def test_settings_refuse_wrong_values_and_are_plain_frozen_values():
    for make in (
        lambda: PollPlan(minimum=0),
        lambda: PollPlan(minimum=10, maximum=5),
        lambda: Timeouts(submit=0),
        lambda: Timeouts(poll=float("nan")),
        lambda: RetryPolicy(attempts=0),
        lambda: RetryPolicy(on_quota="hope"),
        lambda: DownloadPolicy(allow_private_hosts="127.0.0.1"),
        lambda: RateLimit(0),
    ):
        with pytest.raises(ConfigurationError):
            make()
    for value in (PollPlan(), Timeouts(), RetryPolicy(), DownloadPolicy(), RateLimit(10)):
        assert pickle.loads(pickle.dumps(value)) == value


async def test_a_gateway_object_is_taken_as_it_is_or_with_a_key():
    gateway = gateway_factory("apimart")(Secret("inside"))
    assert KlingSession(gateway).gateway is gateway
    assert KlingSession(gateway, api_key="given").gateway.api_key == Secret("given")


async def test_cancelling_from_another_thread_is_refused_by_name_and_harms_nothing():
    async with VirtualSession() as session:
        future = session.submit(TextToVideo("a"))
        errors = []

        def elsewhere():
            try:
                future.cancel()
            except ConfigurationError as error:
                errors.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert "call_soon_threadsafe" in errors[0]
        assert (await future).url
