"""Runs examples/web_app.py over real HTTP, in a server process of its own."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from attrs import define

from kling_async.sandbox import ThreadedServer, stuck


@define
class Application:
    """The running example."""

    url: str
    process: subprocess.Popen[str]

    def stop(self) -> str:
        """Tell it to stop and return what it wrote meanwhile."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.stderr is not None
        written = self.process.stderr.read()
        self.process.wait(20)
        return written


@pytest.fixture
def application(python: str, examples: Path, surroundings: dict[str, str]) -> Iterator[Application]:
    words = [python, "-m", "uvicorn", "--app-dir", str(examples), "web_app:app", "--port", "0", "--no-access-log"]
    environment = surroundings | {"KLING_GATEWAY": "apimart"}
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                found = re.search(r"http://127\.0\.0\.1:\d+", line)
                if found:
                    break
            else:
                raise AssertionError("the application did not start")
            yield Application(found[0], process)
        finally:
            process.kill()


async def events_of(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    event = ""
    async for line in response.content:
        name, _, value = line.decode().strip().partition(": ")
        if name == "event":
            event = value
        elif name == "data":
            yield event, json.loads(value)


async def submit(client: aiohttp.ClientSession, prompt: str, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with client.post("/videos", json={"prompt": prompt}, headers=named) as response:
        return response.status, await response.json()


@pytest.mark.asyncio
async def test_a_video_is_watched_to_its_end(application: Application, gateway: ThreadedServer) -> None:
    async with aiohttp.ClientSession(application.url) as client:
        status, job = await submit(client, "a paper boat")
        assert (status, job["status"]) == (202, "queued")
        async with client.get(f"/videos/{job['id']}/events") as response:
            assert response.content_type == "text/event-stream"
            seen = [event async for event in events_of(response)]
        names = [name for name, _ in seen]
        assert names == ["update"] * (len(seen) - 1) + ["end"]
        assert seen[-1][1]["video"]["url"].startswith(gateway.url)
        assert [told["status"] for name, told in seen if name == "update"][-1] == "succeeded"
        async with client.get(f"/videos/{job['id']}") as response:
            assert await response.json() == seen[-1][1]
    assert gateway.ledger.accepted == 1


@pytest.mark.asyncio
async def test_what_cannot_be_is_refused_at_once(application: Application, gateway: ThreadedServer) -> None:
    async with aiohttp.ClientSession(application.url) as client:
        for path in ("/videos/nobody", "/videos/nobody/events"):
            async with client.get(path) as response:
                assert response.status == 404
        status, error = await submit(client, "")
        assert (status, error["field"]) == (422, "prompt")
        async with client.post("/videos", json={"prompt": "a fox", "sound": True, "quality": "best"}) as response:
            assert response.status == 422
        assert (await submit(client, "a fox", Idempotency_Key="not / a / name"))[0] == 422
    assert not gateway.ledger.submits


@pytest.mark.asyncio
async def test_the_same_idempotency_key_is_paid_once(application: Application, gateway: ThreadedServer) -> None:
    async with aiohttp.ClientSession(application.url) as client:
        many = await asyncio.gather(*(submit(client, "a fox", Idempotency_Key="order-123") for _ in range(5)))
        assert {(status, job["id"]) for status, job in many} == {(202, "order-123")}
        status, error = await submit(client, "a wolf", Idempotency_Key="order-123")
        assert (status, error["field"]) == (422, "key")
        async with client.get("/videos/order-123/events") as response:
            seen = [event async for event in events_of(response)]
        assert seen[-1][1]["status"] == "succeeded"
    assert dict(gateway.ledger.accepted_per_prompt) == {"a fox": 1}


@pytest.mark.asyncio
async def test_a_reader_that_leaves_harms_nobody(application: Application, gateway: ThreadedServer) -> None:
    async with aiohttp.ClientSession(application.url) as client:
        _, job = await submit(client, "a paper boat")
        path = f"/videos/{job['id']}/events"
        async with client.get(path) as staying:
            async with client.get(path) as leaving:
                await anext(events_of(leaving))
                leaving.close()
            seen = [event async for event in events_of(staying)]
        assert seen[-1][0] == "end"
        assert seen[-1][1]["status"] == "succeeded"
    assert "Traceback" not in application.stop()
    assert gateway.ledger.accepted == 1


@pytest.mark.asyncio
async def test_streams_end_when_the_application_closes(application: Application, gateway: ThreadedServer) -> None:
    gateway.sandbox.script(stuck())
    async with aiohttp.ClientSession(application.url) as client:
        _, job = await submit(client, "a job that never ends")
        async with client.get(f"/videos/{job['id']}/events") as response:
            events = events_of(response)
            while "task_id" not in (await anext(events))[1]:
                pass
            application.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                seen = [event async for event in events]
        assert seen[-1][0] == "end"
        assert seen[-1][1]["error"]["error"] == "SessionClosedError"
        assert seen[-1][1]["task_id"]
    written = application.stop()
    assert "Application shutdown complete" in written
    assert "Traceback" not in written
