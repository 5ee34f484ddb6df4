"""kling_async: `session.gather`, told of nothing."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.peers.clients import Ending, Gather
from benchmarks.peers.clients.kling import gathered
from benchmarks.peers.terms import Work


@asynccontextmanager
async def opened(work: Work) -> AsyncIterator[Gather]:
    """Yield what makes videos, each time with a new session that has to learn the pace and the slots."""

    async def gather(prompts: Sequence[str]) -> list[Ending]:
        return await gathered(prompts, work.url, "auto", "auto")

    yield gather
