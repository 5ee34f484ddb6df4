"""A session against the sandbox over real HTTP: every gateway, both event loops, real files."""

import asyncio
import logging

import pytest

from kling_async import (
    DownloadError,
    Failure,
    ImageToVideo,
    KlingSession,
    PollPlan,
    ReferenceToVideo,
    RetryPolicy,
    SessionClosedError,
    SubmissionInDoubtError,
    Success,
    TextToVideo,
    UnsupportedError,
    VideoEdit,
)
from kling_async.gateways import gateway_names
from kling_async.sandbox import (
    Sandbox,
    drop_after_accept,
    expired_link,
    half_body,
    html,
    http,
    not_a_video,
    reset_after_accept,
    serve,
    slow,
    truncated_mp4,
)

pytestmark = pytest.mark.anyio

KEY = "k-canary-7c1f9e"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request):
    return "asyncio", {"use_uvloop": request.param}


def session_at(server, gateway="kling3api", **settings):
    pace = {"rate": None, "poll": PollPlan(0.05, 0.05, 0.5), "retry": RetryPolicy(initial=0.02, maximum=0.2)}
    return KlingSession(gateway, **{"api_key": KEY, "base_url": server.url, **pace, **settings})


REQUESTS = [
    TextToVideo("a boat", duration=6),
    ImageToVideo("a boat", image="https://example.com/a.jpg"),
    ReferenceToVideo("a boat", images=["https://example.com/a.jpg"]),
    VideoEdit("a boat", video="https://example.com/v.mp4"),
]


@pytest.mark.parametrize("gateway", [name for name in gateway_names() if name != "plain"])
async def test_each_gateway_makes_what_it_can_and_refuses_the_rest_before_sending(gateway, tmp_path):
    sandbox = Sandbox(speed=300)
    async with serve(sandbox) as server, session_at(server, gateway) as session:
        outcomes = await session.gather(REQUESTS)
        for outcome in outcomes:
            if isinstance(outcome, Success):
                path = await session.download(outcome, tmp_path)
                assert path.read_bytes()[4:8] == b"ftyp"
            else:
                assert isinstance(outcome.error, UnsupportedError)
                assert outcome.error.gateway == gateway
    kinds = session.gateway.kinds
    assert [isinstance(outcome, Success) for outcome in outcomes] == [request.kind in kinds for request in REQUESTS]
    assert sandbox.ledger.accepted == len(kinds)
    assert sandbox.ledger.credentials_on_downloads == 0


@pytest.mark.parametrize("fault", [drop_after_accept(), reset_after_accept(), half_body(), html(502, accept=True)])
async def test_a_lost_answer_is_in_doubt_and_paid_at_most_once(fault):
    sandbox = Sandbox(speed=300)
    sandbox.next(fault)
    async with serve(sandbox) as server, session_at(server) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert len(sandbox.ledger.submits) == 1


async def test_five_hundred_jobs_through_faults_all_end_and_none_is_paid_twice():
    sandbox = Sandbox(speed=300, seed=7)
    sandbox.script(http(429, retry_after=0.05), on="submit", share=0.1)
    sandbox.script(http(500), on="poll", share=0.1)
    sandbox.script(drop_after_accept(), on="submit", share=0.02)
    async with serve(sandbox) as server, session_at(server, concurrency=100) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(500))
    assert len(outcomes) == 500
    assert sandbox.ledger.duplicates == []
    doubts = [outcome for outcome in outcomes if not outcome.ok]
    assert {type(outcome.error) for outcome in doubts} <= {SubmissionInDoubtError}
    assert sandbox.ledger.accepted == 500


async def test_a_video_whose_link_expired_is_fetched_through_a_fresh_one(tmp_path):
    sandbox = Sandbox(speed=300)
    sandbox.script(expired_link(403))
    async with serve(sandbox) as server, session_at(server) as session:
        video = await session.generate(TextToVideo("a"))
        path = await session.download(video, tmp_path / "a.mp4")
    assert path.exists()


@pytest.mark.parametrize("fault", [truncated_mp4(), not_a_video()])
async def test_what_is_not_a_video_is_no_file(fault, tmp_path):
    sandbox = Sandbox(speed=300)
    sandbox.script(fault)
    async with serve(sandbox) as server, session_at(server) as session:
        video = await session.generate(TextToVideo("a"))
        with pytest.raises(DownloadError) as caught:
            await session.download(video, tmp_path / "a.mp4")
    assert caught.value.code == "not_a_video"
    assert list(tmp_path.iterdir()) == []


async def test_apimart_tells_its_balance_and_takes_uploads(tmp_path):
    picture = tmp_path / "fox.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)
    sandbox = Sandbox(speed=300, balance=1000)
    async with serve(sandbox) as server, session_at(server, "apimart") as session:
        assert (await session.balance()).amount == 1000
        url = await session.upload(picture)
        assert url.startswith("http")
    async with serve(Sandbox()) as server, session_at(server) as session:
        with pytest.raises(UnsupportedError, match="kling3api tells no balance"):
            await session.balance()
        with pytest.raises(UnsupportedError, match="kling3api takes no uploads"):
            await session.upload(picture)


async def test_the_key_is_in_no_log_even_at_debug_level(caplog):
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    sandbox = Sandbox(speed=300)
    sandbox.script(http(401), on="submit", nth=3)
    sandbox.script(reset_after_accept(), on="submit", nth=2)
    async with serve(sandbox) as server, session_at(server) as session:
        outcomes = [await session.submit(TextToVideo(f"secret prompt {n}")).outcome() for n in range(4)]
    assert [outcome.ok for outcome in outcomes] == [True, False, False, False]
    assert KEY not in caplog.text
    assert "secret prompt" not in caplog.text
    assert KEY not in repr(outcomes) + repr(session) + repr(session.gateway)
    asyncio.get_running_loop().set_debug(False)


async def test_a_hundred_sessions_opened_and_closed_leave_no_task_behind():
    before = asyncio.all_tasks()
    async with serve(Sandbox(speed=300)) as server:
        for _ in range(100):
            async with session_at(server) as session:
                session.submit(TextToVideo("a"))
    await asyncio.sleep(0)
    assert asyncio.all_tasks() <= before


async def test_closing_the_session_ends_its_downloads_and_leaves_no_part(tmp_path):
    sandbox = Sandbox(speed=300)
    sandbox.script(slow(20), on="download")
    async with serve(sandbox) as server:
        async with session_at(server) as session:
            video = await session.generate(TextToVideo("a"))
            download = asyncio.ensure_future(session.download(video, tmp_path / "a.mp4"))
            await asyncio.sleep(0.1)
        with pytest.raises(SessionClosedError):
            await asyncio.wait_for(download, 5)
    assert list(tmp_path.iterdir()) == []


async def test_the_fixtures_session_keeps_the_sandboxs_pace_and_the_fixture_counts_what_happened(kling_sandbox):
    kling_sandbox.next(http(429, retry_after=0.05))
    async with kling_sandbox.session(concurrency=2) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(4))
    assert all(outcome.ok for outcome in outcomes)
    assert (kling_sandbox.charges, kling_sandbox.submissions) == (4, 5)
    assert 1 <= kling_sandbox.max_in_flight <= 2
    kling_sandbox.assert_paid_once([f"clip {n}" for n in range(4)])
