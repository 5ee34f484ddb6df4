"""fal-client: `AsyncClient.subscribe`."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.peers.clients import Ending, Gather, Held, each
from benchmarks.peers.terms import Work

ENDPOINT = "fal-ai/kling-video/v2/master/text-to-video"


@asynccontextmanager
async def opened(work: Work) -> AsyncIterator[Gather]:
    """Yield what makes videos with one client.

    The hosts are set by its own environment variables, which it reads when it is imported. It writes `https://` before
    them in a constant, so that alone is set anew; the addresses of looks and results come from the gateway.
    """
    host = work.url.removeprefix("http://")
    os.environ |= {"FAL_KEY": "benchmark", "FAL_RUN_HOST": host, "FAL_QUEUE_RUN_HOST": host}
    import fal_client
    import fal_client.client

    fal_client.client.QUEUE_URL_FORMAT = f"http://{host}/"
    client = fal_client.AsyncClient()

    async def make(prompt: str, held: Held) -> str:
        result = await client.subscribe(ENDPOINT, arguments={"prompt": prompt, "duration": "5"})
        return str(result["video"]["url"])

    async def gather(prompts: Sequence[str]) -> list[Ending]:
        return await each(prompts, work.concurrency, make)

    yield gather
