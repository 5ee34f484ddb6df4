"""runwayml: `AsyncRunwayML().text_to_video.create`, then `wait_for_task_output`."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from benchmarks.peers.clients import Ending, Gather, Held, each
from benchmarks.peers.terms import Work


@asynccontextmanager
async def opened(work: Work) -> AsyncIterator[Gather]:
    """Yield what makes videos with one client."""
    from runwayml import AsyncRunwayML

    async with AsyncRunwayML(api_key="benchmark", base_url=work.url) as client:

        async def make(prompt: str, held: Held) -> str:
            task = await client.text_to_video.create(model="gen4.5", prompt_text=prompt, ratio="1280:720", duration=5)
            held.append(task.id)
            return str((await task.wait_for_task_output()).output[0])

        async def gather(prompts: Sequence[str]) -> list[Ending]:
            return await each(prompts, work.concurrency, make)

        yield gather
