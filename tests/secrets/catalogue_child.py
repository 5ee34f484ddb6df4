"""A program that meets every fault, with asyncio's debug mode and every logger at DEBUG; its stderr is the log."""

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Any

from canary import KEY, PROMPT
from echoing_gateway import ENDINGS, FAULTS, EchoingGateway, echoing_gateway

from kling_async import DownloadPolicy, KlingError, KlingSession, PollPlan, RetryPolicy, TextToVideo, Timeouts, Video


def session_at(url: str, gateway: str = "kling3api") -> KlingSession:
    """Return a session that tries everything once and waits for nothing."""
    return KlingSession(
        gateway,
        api_key=KEY,
        base_url=url,
        rate=None,
        concurrency=None,
        poll=PollPlan(0.02, 0.02, 0.05),
        timeouts=Timeouts(connect=1, submit=0.4, poll=0.4, generation=0.4),
        retry=RetryPolicy(attempts=1, initial=0.01, maximum=0.02),
        downloads=DownloadPolicy(stall=0.3, minimum_speed=0),
    )


async def met(gateway: EchoingGateway, place: Path) -> int:
    """Meet a fifth of the faults, one in each operation; returns how many jobs there were."""
    jobs = 0
    for number, name in enumerate(list(FAULTS)[::5]):
        operation = ("submit", "poll", "balance", "download")[number % 4]
        gateway.faults = {operation: FAULTS[name]}
        async with session_at(gateway.url, "apimart" if number % 3 else "kling3api") as session:
            jobs += await _one(session, operation, place / f"{number}.mp4")
    for ending in ENDINGS.values():
        gateway.faults = {"poll": ending}
        async with session_at(gateway.url) as session:
            jobs += await _one(session, "poll", place / "x.mp4")
    gateway.faults = {}
    async with session_at(gateway.url) as session, session.batch(place / "b.db", download_to=place / "v") as batch:
        batch.add(
            [TextToVideo(PROMPT), TextToVideo(f"{PROMPT} [sandbox: fail]"), TextToVideo(f"{PROMPT} [sandbox: stuck]")]
        )
        jobs += len([outcome async for outcome in batch.run()])
    return jobs


async def _one(session: KlingSession, operation: str, target: Path) -> int:
    works: list[Any] = [session.generate(TextToVideo(PROMPT))]
    if operation == "balance":
        works.append(session.balance())
    if operation == "download":
        works.append(session.download(Video("task-1", f"{session.base_url}/videos/x.mp4?sig=SECRETSIG-2"), target))
    for result in await asyncio.gather(*works, return_exceptions=True):
        if not isinstance(result, (KlingError, Video)):
            raise TypeError(f"{operation}: {result!r}")
    job = session.submit(TextToVideo(PROMPT))
    job.add_done_callback(lambda _: None)
    outcome = await job.outcome()
    if outcome.ok and operation != "download":
        await session.download(outcome, target)
    return 2


async def main() -> None:
    """Meet it all, with a line of the log for every callback of the loop."""
    asyncio.get_running_loop().slow_callback_duration = -1.0
    with tempfile.TemporaryDirectory() as place, echoing_gateway() as gateway:
        print(await met(gateway, Path(place)))


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, format="%(levelname)s\x1f%(name)s\x1f%(message)s")
    asyncio.run(main())
