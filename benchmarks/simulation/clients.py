"""The clients that are compared, by name: each brings the jobs of a world through a line."""

from collections.abc import Awaitable, Callable

from benchmarks.simulation import session
from benchmarks.simulation.line import Line
from benchmarks.simulation.worlds import World


async def library(line: Line, world: World, seed: int) -> None:
    """This library, which finds the limits out by itself."""
    await session.batch(line, world.jobs, seed, concurrency="auto", rate="auto")


Client = Callable[[Line, World, int], Awaitable[None]]
CLIENTS: dict[str, Client] = {"library": library}
