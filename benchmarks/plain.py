"""What the library is compared with: the leanest hand-written aiohttp loops, with one asyncio task per job.

`lean` sends each paid request on a fresh connection and watches whether a byte of it may have left, as is needed to
pay at most once; `keepalive` does neither. Both know nothing of retries, limits, deadlines or cancelling.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Self

import aiohttp
from attrs import define

CONNECTIONS = 64
"""Requests in flight, of each kind: as many as the library allows itself."""
HEADERS = {"Authorization": "Bearer benchmark", "Accept": "application/json"}


@define
class Sent:
    """Whether a byte of a paid request may have left."""

    sent: bool = False


async def _on_headers_sent(session: Any, context: Any, params: Any) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.sent = True


class PlainLoop:
    """Submits and polls with nothing but aiohttp.

    Args:
        url: the gateway.
        concurrency: jobs in flight, or None.
        gap: seconds before each look.
        careful: a fresh connection and a watched fence for each submit.
    """

    def __init__(self, url: str, *, concurrency: int | None, gap: float, careful: bool) -> None:
        self._submit_url = f"{url}/api/generate"
        self._status_url = f"{url}/api/status"
        self._slots = asyncio.Semaphore(concurrency or 10**9)
        self._gap = gap
        self._careful = careful
        self._stack = AsyncExitStack()
        self.accepted = 0

    async def __aenter__(self) -> Self:
        self._pooled = await self._session(aiohttp.TCPConnector(limit=CONNECTIONS))
        self._fresh = self._pooled
        if self._careful:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_on_headers_sent)
            self._fresh = await self._session(aiohttp.TCPConnector(limit=CONNECTIONS, force_close=True), trace)
        return self

    async def _session(self, connector: aiohttp.TCPConnector, *traces: aiohttp.TraceConfig) -> aiohttp.ClientSession:
        session = aiohttp.ClientSession(connector=connector, headers=HEADERS, trace_configs=list(traces))
        return await self._stack.enter_async_context(session)

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def gather(self, prompts: Sequence[str]) -> list[str]:
        """Make all the videos and return their URLs."""
        return await asyncio.gather(*(self._job(prompt) for prompt in prompts))

    async def _job(self, prompt: str) -> str:
        async with self._slots:
            task_id = await self._submit(prompt)
            self.accepted += 1
            while True:
                await asyncio.sleep(self._gap)
                url = await self._look(task_id)
                if url is not None:
                    return url

    async def _submit(self, prompt: str) -> str:
        body = {
            "type": "std-text-to-video",
            "prompt": prompt,
            "duration": 5,
            "aspect_ratio": "16:9",
            "sound": False,
        }
        context = Sent() if self._careful else None
        async with self._fresh.post(self._submit_url, json=body, trace_request_ctx=context) as response:
            answer = json.loads(await response.read())
            if response.status != 200:
                raise RuntimeError(f"HTTP {response.status}: {answer}")
            return str(answer["data"]["task_id"])

    async def _look(self, task_id: str) -> str | None:
        async with self._pooled.get(self._status_url, params={"task_id": task_id}) as response:
            data = json.loads(await response.read())["data"]
            return str(data["response"][0]) if data["status"] == "SUCCESS" else None
