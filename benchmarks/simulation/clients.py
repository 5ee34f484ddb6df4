"""The clients that are compared, by name: each brings the jobs of a world through a line."""

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

from benchmarks.simulation import retrying, session
from benchmarks.simulation.adaptive import Adaptive
from benchmarks.simulation.limits import Bucket, Slots, Window
from benchmarks.simulation.line import Line
from benchmarks.simulation.worlds import World
from kling_async import RateLimit


async def library(line: Line, world: World, seed: int) -> None:
    """This library, which finds the limits out by itself."""
    await session.batch(line, world.jobs, seed, concurrency="auto", rate="auto")


async def told(line: Line, world: World, seed: int) -> None:
    """This library, told the limits as they are at first."""
    concurrency: int | None = None
    rate: RateLimit | None = None
    for limit in world.drawn(seed):
        match limit:
            case Slots():
                concurrency = int(limit.most.before)
            case Bucket():
                rate = RateLimit(limit.rate.before)
            case Window():
                rate = RateLimit(limit.count, limit.per, burst=1)
    await session.batch(line, world.jobs, seed, concurrency=concurrency, rate=rate)


async def retried(make: Callable[[Random], retrying.Asking], line: Line, world: World, seed: int) -> None:
    """A hand-written client."""
    await retrying.batch(line, world, make(Random(f"client {seed}")))


Client = Callable[[Line, World, int], Awaitable[None]]
CLIENTS: dict[str, Client] = {
    "library": library,
    "told": told,
    "aws": partial(retried, Adaptive),
    "gate": partial(retried, retrying.gated),
    "jitter": partial(retried, retrying.jittered),
    "backoff": partial(retried, retrying.exponential),
    "fixed": partial(retried, retrying.fixed),
}
TITLES = {
    "library": "this library",
    "told": "this library, told the limits",
    "aws": "AWS adaptive mode",
    "gate": "one pause for all",
    "jitter": "backoff, full jitter",
    "backoff": "backoff",
    "fixed": "again every second",
}
