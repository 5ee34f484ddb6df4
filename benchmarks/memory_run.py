"""One run of the memory benchmark, in a process of its own: jobs that the gateway has accepted and that wait."""

import argparse
import asyncio
import ctypes
import gc
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.cpu_run import session_of
from benchmarks.plain import PlainLoop
from kling_async import TextToVideo

GAP = 3000.0
"""Seconds before the first look: longer than any run."""
WARM_UP = 200
SECONDS = 600.0


def memory() -> int:
    """Bytes of this process's own memory that are resident, after a collection."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    for line in Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not tell the memory of a process")


def peak_memory() -> int:
    """Return the most memory, in bytes, that this process has taken so far.

    `ru_maxrss` would not do: a process begins with what the one that started it took.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024


async def until(accepted: Callable[[], int], jobs: int) -> None:
    """Wait until so many jobs are accepted."""
    end = time.monotonic() + SECONDS
    while accepted() < jobs:
        if time.monotonic() > end:
            raise TimeoutError(f"{accepted()} of {jobs} jobs were accepted in {SECONDS:g} s")
        await asyncio.sleep(0.2)


def prompts(jobs: int, word: str = "take") -> list[str]:
    """As many prompts, of a usual length."""
    text = "a paper boat drifts down a rainy street at dusk, warm light from shop windows, slow dolly shot"
    return [f"{text}, {word} {number}" for number in range(jobs)]


async def library(url: str, jobs: int) -> dict[str, int]:
    """Jobs of a session."""
    async with session_of(url, None, GAP) as session:

        def accepted() -> int:
            return sum(job.task_id is not None for job in session.unfinished)

        warm = asyncio.create_task(session.gather([TextToVideo(prompt) for prompt in prompts(WARM_UP, "warm-up")]))
        await until(accepted, WARM_UP)
        texts = prompts(jobs)
        before = memory()
        requests = [TextToVideo(prompt) for prompt in texts]
        asked = memory()
        work = asyncio.create_task(session.gather(requests))
        await until(accepted, WARM_UP + jobs)
        after = memory()
    await asyncio.gather(warm, work)
    return {"requests": asked - before, "waiting": after - asked, "whole": after}


async def lean(url: str, jobs: int) -> dict[str, int]:
    """Jobs of the hand-written loop, each an asyncio task."""
    async with PlainLoop(url, concurrency=None, gap=GAP, careful=True) as loop:
        warm = asyncio.create_task(loop.gather(prompts(WARM_UP, "warm-up")))
        await until(lambda: loop.accepted, WARM_UP)
        texts = prompts(jobs)
        before = memory()
        work = asyncio.create_task(loop.gather(texts))
        await until(lambda: loop.accepted, WARM_UP + jobs)
        after = memory()
        for task in (warm, work):
            task.cancel()
        await asyncio.gather(warm, work, return_exceptions=True)
    return {"requests": 0, "waiting": after - before, "whole": after}


WAYS = {"lean": lean, "library": library}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory_run", description=__doc__)
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--jobs", type=int, default=20_000)
    given = parser.parse_args()
    print(json.dumps(asyncio.run(WAYS[given.way](given.url, given.jobs))))
