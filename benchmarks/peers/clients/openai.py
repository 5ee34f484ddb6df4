"""openai: `AsyncOpenAI().videos.create_and_poll`."""

import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.peers.clients import Ending, Gather, Held, each
from benchmarks.peers.terms import Work


@asynccontextmanager
async def opened(work: Work) -> AsyncIterator[Gather]:
    """Yield what makes videos with one client."""
    from openai import AsyncOpenAI

    warnings.simplefilter("ignore", DeprecationWarning)  # of the API for videos
    async with AsyncOpenAI(api_key="benchmark", base_url=f"{work.url}/v1") as client:

        async def make(prompt: str, held: Held) -> str:
            video = await client.videos.create_and_poll(prompt=prompt, model="sora-2")
            if video.status != "completed":
                raise RuntimeError(f"{video.id}: {video.error}")
            return str(video.id)

        async def gather(prompts: Sequence[str]) -> list[Ending]:
            return await each(prompts, work.concurrency, make)

        yield gather
