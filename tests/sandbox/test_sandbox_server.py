"""The sandbox on a real port: what each fault does to a connection, its own pages, the thread, the command."""

import asyncio
import contextlib
import io
import json
import signal
import subprocess
import sys
import time
import urllib.request

import aiohttp
import pytest
from aiohttp import web

from kling_async import sandbox as sb
from kling_async.sandbox import Sandbox, ThreadedServer, create_app, serve

pytestmark = pytest.mark.anyio
BODY = {"type": "std-text-to-video", "prompt": "p"}


@contextlib.asynccontextmanager
async def running(**settings):
    async with (
        serve(Sandbox(**settings)) as server,
        aiohttp.ClientSession(server.url, headers={"Authorization": "Bearer k"}) as session,
    ):
        yield server.sandbox, session


async def submit(session, timeout=5.0):
    async with session.post("/api/generate", json=BODY, timeout=aiohttp.ClientTimeout(total=timeout)) as response:
        return response.status, await response.read()


@pytest.mark.parametrize(
    ("action", "error", "accepted"),
    [
        (sb.drop_before_accept(), aiohttp.ServerDisconnectedError, 0),
        (sb.drop_after_accept(), aiohttp.ServerDisconnectedError, 1),
        (sb.reset_after_accept(), (ConnectionResetError, aiohttp.ClientOSError), 1),
        (sb.half_body(), aiohttp.ClientPayloadError, 1),
        (sb.hang_after_accept(), TimeoutError, 1),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_a_lost_answer_is_lost_on_the_wire_and_the_ledger_knows_the_truth(action, error, accepted):
    async with running() as (box, session):
        box.next(action)
        with pytest.raises(error):
            await submit(session, timeout=0.3)
        entry = box.ledger.submits[0]
        assert (box.ledger.accepted, entry.answered, entry.status) == (accepted, False, None)
        assert (await submit(session))[0] == 200


@pytest.mark.parametrize(
    ("action", "status", "start"),
    [
        (sb.http(503), 503, b'{"code"'),
        (sb.html(), 502, b"<html>"),
        (sb.garbage(), 200, b'{"code":200,"data":{"task_'),
        (sb.empty(), 200, b""),
        (sb.empty(204), 204, b""),
        (sb.answer([1]), 200, b"[1]"),
        (sb.answer(b"\xff"), 200, b"\xff"),
        (sb.accepted_then(504), 504, b'{"code"'),
    ],
    ids=lambda value: getattr(value, "name", None),
)
async def test_a_wrong_answer_arrives_as_it_was_scripted(action, status, start):
    async with running() as (box, session):
        box.next(action)
        seen, body = await submit(session)
        assert (seen, body[: len(start)]) == (status, start)
        assert bool(body) == bool(start)


async def test_a_slow_answer_comes_later_and_is_lost_when_nobody_waits():
    async with running() as (box, session):
        box.script(sb.slow(0.2), times=2)
        started = time.monotonic()
        assert (await submit(session))[0] == 200
        assert time.monotonic() - started >= 0.2
        with pytest.raises(TimeoutError):
            await submit(session, timeout=0.05)
        await asyncio.sleep(0.1)
        assert [entry.answered for entry in box.ledger.submits] == [True, False]


@pytest.mark.parametrize("path", ["/api/status?task_id=x", "/v1/balance"])
async def test_polls_and_balances_can_be_lost_too(path):
    async with running() as (box, session):
        box.script(sb.reset_after_accept())
        with pytest.raises(aiohttp.ClientError):
            await session.get(path)


async def test_a_download_can_be_cut_and_taken_up_again():
    async with running(speed=1e6) as (box, session):
        task_id = json.loads((await submit(session))[1])["data"]["task_id"]
        await asyncio.sleep(0.01)
        path = f"/_sandbox/videos/{task_id}.mp4"
        async with session.get(path) as response:
            whole, tag = await response.read(), response.headers["ETag"]
        box.next(sb.half_body(), on="download")
        got = b""
        async with session.get(path) as response:
            with contextlib.suppress(aiohttp.ClientPayloadError):
                while chunk := await response.content.readany():
                    got += chunk
        assert got == whole[: len(whole) // 2]
        async with session.get(path, headers={"Range": f"bytes={len(got)}-", "If-Range": tag}) as response:
            assert response.status == 206
            assert got + await response.read() == whole


@pytest.mark.parametrize("dialect", ["kling3api", "apiin", "klinggenerator", "apimart"])
async def test_a_job_runs_from_submit_to_video_in_every_dialect(dialect):
    submits = {
        "kling3api": ("/api/generate", BODY, "/api/status?task_id={}"),
        "apiin": ("/api/v1/videos/generations", {"model": "kling-3", "prompt": "p"}, "/api/v1/tasks/{}"),
        "klinggenerator": ("/v1/generate", {"prompt": "p"}, "/v1/jobs/{}"),
        "apimart": ("/v1/videos/generations", {"model": "kling-v3", "prompt": "p"}, "/v1/tasks/{}"),
    }
    path, body, poll = submits[dialect]
    async with running(speed=1000) as (box, session):
        async with session.post(path, json=body) as response:
            assert response.status == 200
        task_id = box.ledger.submits[0].task_id
        await asyncio.sleep(0.3)
        async with session.get(poll.format(task_id)) as response:
            shown = await response.text()
        url = f"{box.public_url}/_sandbox/videos/{task_id}.mp4"
        assert url in shown
        async with aiohttp.request("GET", url) as response:
            assert (await response.read())[4:8] == b"ftyp"
        assert box.ledger.credentials_on_downloads == 0
        async with session.get("/_sandbox/ledger") as response:
            ledger = await response.json()
        assert ledger == box.snapshot()
        assert ledger["submits"][0]["gateway"] == dialect
        assert ledger["polls_per_task"] == {task_id: 1}
        assert ledger["totals"]["downloads"] == 1


async def test_health_and_reset_are_pages():
    async with running() as (box, session):
        await submit(session)
        async with session.get("/_sandbox/health") as response:
            assert await response.json() == {"status": "ok", "running": 1}
        async with session.post("/_sandbox/reset") as response:
            assert response.status == 200
        assert box.ledger.totals["submits"] == 0


async def test_a_prompt_accepted_twice_is_listed_as_a_duplicate():
    async with running() as (box, session):
        await submit(session)
        await submit(session)
        assert box.snapshot()["duplicates"] == ["p"]
        assert box.snapshot()["accepted_per_prompt"] == {"p": 2}


async def test_hanging_calls_do_not_keep_the_server_from_closing():
    async with running() as (box, session):
        box.next(sb.hang_after_accept())
        hanging = asyncio.ensure_future(submit(session, timeout=30))
        while not box.ledger.submits:
            await asyncio.sleep(0.01)
        started = time.monotonic()
    with pytest.raises(aiohttp.ClientError):
        await hanging
    assert time.monotonic() - started < 5


async def test_only_loopback_is_served():
    for host in ("0.0.0.0", "example.com", "192.0.2.1"):
        with pytest.raises(ValueError, match="loopback"):
            async with serve(Sandbox(), host):
                pass


async def test_timestamps_follow_the_wall_clock():
    async with running() as (box, session):
        await submit(session)
        task = next(iter(box.tasks.values()))
        assert abs(box.wall(task.accepted_at) - time.time()) < 5


async def test_too_large_a_body_is_refused():
    async with (
        running() as (_, session),
        session.post("/v1/uploads/images", data=io.BytesIO(bytes(26 << 20))) as response,
    ):
        assert response.status == 413


async def test_the_application_runs_in_a_runner_of_ones_own():
    box = Sandbox()
    runner = web.AppRunner(create_app(box), handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(url, headers={"Authorization": "Bearer k"}) as session:
            assert (await submit(session))[0] == 200
        assert box.public_url == url
    finally:
        await runner.cleanup()


def post(url, body):
    headers = {"Authorization": "Bearer k"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers), timeout=5) as response:
        return json.loads(response.read())


def test_a_server_in_a_thread_serves_tests_that_are_not_asynchronous():
    with ThreadedServer() as server:
        server.sandbox.next(sb.answer({"hello": 1}))
        assert post(f"{server.url}/api/generate", BODY) == {"hello": 1}
        assert post(f"{server.url}/api/generate", BODY)["code"] == 200
        assert server.ledger.accepted == 1


def test_a_thread_whose_port_is_taken_says_so_and_ends():
    with ThreadedServer() as server, pytest.raises(OSError, match="address"):
        ThreadedServer(Sandbox(), port=int(server.url.rpartition(":")[2])).__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_listens_until_it_is_stopped(number):
    command = [sys.executable, "-m", "kling_async.sandbox", "--speed", "50", "--balance", "300", "--max-running", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:")
            url = line.split()[-1]
            assert post(f"{url}/api/generate", BODY)["data"]["consumed_credits"] == 300
            process.send_signal(number)
            assert process.wait(timeout=10) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()
