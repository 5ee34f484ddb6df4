"""The script that people write today: aiohttp, tenacity, aiolimiter, a semaphore, an asyncio task per job."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from benchmarks.peers.clients import Ending, Gather, Held, each
from benchmarks.peers.terms import Work

LOOK_EVERY = 5.0
"""Seconds between looks."""
NO_LIMIT = 1000.0
"""Submits per second where no limit is documented."""


@asynccontextmanager
async def opened(work: Work) -> AsyncIterator[Gather]:
    """Yield what makes videos with one aiohttp session."""
    from aiolimiter import AsyncLimiter
    from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential

    limiter = AsyncLimiter(work.rate or NO_LIMIT, 1)
    again = AsyncRetrying(
        stop=stop_after_attempt(5),
        wait=wait_exponential(multiplier=1, max=10),
        retry=retry_if_exception_type((aiohttp.ClientError, asyncio.TimeoutError)),
        reraise=True,
    )
    headers = {"Authorization": "Bearer benchmark"}
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def submit(prompt: str) -> str:
            body = {
                "type": "std-text-to-video",
                "prompt": prompt,
                "duration": 5,
                "aspect_ratio": "16:9",
                "sound": False,
            }
            async with limiter, session.post(f"{work.url}/api/generate", json=body) as response:
                response.raise_for_status()
                return str((await response.json())["data"]["task_id"])

        async def look(task_id: str) -> dict[str, Any]:
            async with session.get(f"{work.url}/api/status", params={"task_id": task_id}) as response:
                response.raise_for_status()
                data: dict[str, Any] = (await response.json())["data"]
                return data

        async def make(prompt: str, held: Held) -> str:
            task_id: str = await again(submit, prompt)
            held.append(task_id)
            while True:
                await asyncio.sleep(LOOK_EVERY)
                data = await again(look, task_id)
                if data["status"] == "SUCCESS":
                    return str(data["response"][0])
                if data["status"] == "FAILED":
                    raise RuntimeError(data["error_message"])

        async def gather(prompts: Sequence[str]) -> list[Ending]:
            return await each(prompts, work.concurrency, make)

        yield gather
