"""One run of the CPU benchmark, in a process of its own: `python -m benchmarks.cpu_run --way library --url ...`."""

import argparse
import asyncio
import json
import resource
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.plain import PlainLoop
from kling_async import KlingSession, PollPlan, TextToVideo


def session_of(url: str, concurrency: int | None, gap: float) -> KlingSession:
    """A session that looks every `gap` seconds, with no limit on the rate."""
    plan = PollPlan(first=gap, minimum=gap, maximum=gap)
    return KlingSession("kling3api", api_key="benchmark", base_url=url, concurrency=concurrency, rate=None, poll=plan)


async def library(url: str, prompts: Sequence[str], concurrency: int, gap: float) -> int:
    """`session.gather`; returns how many videos there are."""
    async with session_of(url, concurrency, gap) as session:
        outcomes = await session.gather(TextToVideo(prompt) for prompt in prompts)
    return sum(outcome.ok for outcome in outcomes)


async def stream(url: str, prompts: Sequence[str], concurrency: int, gap: float) -> int:
    """`session.stream`; returns how many videos there are."""
    made = 0
    async with session_of(url, concurrency, gap) as session:
        async for outcome in session.stream(TextToVideo(prompt) for prompt in prompts):
            made += outcome.ok
    return made


async def batch(url: str, prompts: Sequence[str], concurrency: int, gap: float) -> int:
    """`session.batch`, with its journal on disk; returns how many videos there are."""
    made = 0
    with TemporaryDirectory() as directory:
        async with (
            session_of(url, concurrency, gap) as session,
            session.batch(Path(directory) / "batch.db", max_cost_per_job=1000) as jobs,
        ):
            jobs.add([TextToVideo(prompt) for prompt in prompts])
            async for outcome in jobs.run():
                made += outcome.ok
    return made


async def lean(url: str, prompts: Sequence[str], concurrency: int, gap: float) -> int:
    """The careful hand-written loop; returns how many videos there are."""
    async with PlainLoop(url, concurrency=concurrency, gap=gap, careful=True) as loop:
        return len(await loop.gather(prompts))


async def keepalive(url: str, prompts: Sequence[str], concurrency: int, gap: float) -> int:
    """The careless hand-written loop; returns how many videos there are."""
    async with PlainLoop(url, concurrency=concurrency, gap=gap, careful=False) as loop:
        return len(await loop.gather(prompts))


Way = Callable[[str, Sequence[str], int, float], Awaitable[int]]
WAYS: dict[str, Way] = {"lean": lean, "library": library, "stream": stream, "batch": batch, "keepalive": keepalive}


def cpu_seconds() -> float:
    """CPU time of this process so far, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def run(way: str, url: str, jobs: int, concurrency: int, gap: float) -> dict[str, float]:
    """Warm up with a few jobs, then measure."""
    await WAYS[way](url, [f"warm-up {number}" for number in range(20)], concurrency, gap)
    prompts = [f"a paper boat in the rain, take {number}" for number in range(jobs)]
    cpu, wall = cpu_seconds(), time.perf_counter()
    made = await WAYS[way](url, prompts, concurrency, gap)
    return {"made": made, "cpu": cpu_seconds() - cpu, "wall": time.perf_counter() - wall}


def parser() -> argparse.ArgumentParser:
    """The options of one run."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.cpu_run", description=__doc__)
    made.add_argument("--way", choices=WAYS, required=True)
    made.add_argument("--url", required=True)
    made.add_argument("--jobs", type=int, default=2000)
    made.add_argument("--concurrency", type=int, default=200)
    made.add_argument("--gap", type=float, default=0.05)
    return made


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(**vars(parser().parse_args())))))
