"""kling_async: `session.gather`, told of what the others are told of."""

import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Literal

from benchmarks.peers.clients import Ending, Gather
from benchmarks.peers.terms import Work
from kling_async import Failure, KlingSession, Outcome, Status, TextToVideo


@asynccontextmanager
async def opened(work: Work) -> AsyncIterator[Gather]:
    """Yield what makes videos, each time with a new session: one that lived through the warm-up has learned from it."""
    rate = None if work.rate is None else f"{work.rate:g}/s"

    async def gather(prompts: Sequence[str]) -> list[Ending]:
        return await gathered(prompts, work.url, work.concurrency, rate)

    yield gather


async def gathered(
    prompts: Sequence[str], url: str, concurrency: int | Literal["auto"], rate: str | None
) -> list[Ending]:
    """Make all videos with one session."""
    asked: list[float] = []

    def requests() -> Iterator[TextToVideo]:
        for prompt in prompts:
            asked.append(time.monotonic())
            yield TextToVideo(prompt)

    async with KlingSession(
        "kling3api", api_key="benchmark", base_url=url, concurrency=concurrency, rate=rate
    ) as session:
        outcomes = await session.gather(requests())
    return [ending(*each) for each in zip(prompts, asked, outcomes, strict=True)]


def ending(prompt: str, asked: float, outcome: Outcome) -> Ending:
    """Return how a prompt ended, when the session knew it."""
    ended = asked + outcome.timing.queued + (outcome.timing.ran or 0.0)
    if isinstance(outcome, Failure):
        error = outcome.error
        words = f"{type(error).__name__}: {error}"
        return Ending(
            prompt,
            ended,
            error=words[:200],
            says=f"{words} {outcome.task_id}",
            in_doubt=outcome.status is Status.IN_DOUBT,
        )
    return Ending(prompt, ended, outcome.video.url)
