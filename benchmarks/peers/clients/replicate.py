"""replicate: `Client.async_run`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.peers.clients import Ending, Gather, Held, each
from benchmarks.peers.dialects.replicate import MODEL
from benchmarks.peers.terms import Work


@asynccontextmanager
async def opened(work: Work) -> AsyncIterator[Gather]:
    """Yield what makes videos with one client."""
    from replicate.client import Client

    client = Client(api_token="benchmark", base_url=work.url)

    async def make(prompt: str, held: Held) -> str:
        return str(await client.async_run(MODEL, input={"prompt": prompt, "duration": 5}))

    async def gather(prompts: Sequence[str]) -> list[Ending]:
        return await each(prompts, work.concurrency, make)

    yield gather
