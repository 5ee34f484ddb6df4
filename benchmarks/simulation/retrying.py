"""Hand-written clients: one task a job, each sent again when it was refused, and looked at every 5 seconds."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Protocol, TypeAlias

from benchmarks.simulation.line import Line
from benchmarks.simulation.server import Answer
from benchmarks.simulation.worlds import World

SUBMITTING = 64
"""Jobs in the submit phase at once, where only the rate is limited."""
ALIVE = 200
"""Jobs from submit to outcome at once, where the number of running jobs is limited."""
LOOK_EVERY = 5.0
FIRST_WAIT, LONGEST_WAIT = 0.5, 20.0
"""Seconds of an exponential backoff."""
FIXED_WAIT = 1.0

Send: TypeAlias = Callable[[], asyncio.Future[Answer]]


class Asking(Protocol):
    """Sends a request until it is not refused."""

    async def ask(self, send: Send) -> Answer:
        """Return the answer that was no refusal."""
        ...


class Waiting:
    """Waits after each refusal, every request for itself, and at least as long as the refusal says.

    Args:
        wait: seconds after so many refusals of this request, from 1 on.
    """

    def __init__(self, wait: Callable[[int], float]) -> None:
        self._wait = wait

    async def ask(self, send: Send) -> Answer:
        """Send a request until it is not refused."""
        refusals = 0
        while (answer := await send()).job is None:
            refusals += 1
            await asyncio.sleep(max(self._wait(refusals), answer.retry_after or 0))
        return answer


class Gate:
    """One pause for all: after a refusal nothing is sent for a second, or as long as the refusal says."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closed_until = 0.0

    async def ask(self, send: Send) -> Answer:
        """Send a request until it is not refused."""
        while True:
            while (wait := self._closed_until - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            answer = await send()
            if answer.job is not None:
                return answer
            self._closed_until = max(self._closed_until, self._loop.time() + (answer.retry_after or FIXED_WAIT))


def fixed(_: Random) -> Asking:
    """Again every second."""
    return Waiting(lambda _: FIXED_WAIT)


def exponential(_: Random) -> Asking:
    """Again after 0.5, 1, 2 and up to 20 seconds."""
    return Waiting(_delay)


def jittered(random: Random) -> Asking:
    """Again after a random part of 0.5, 1, 2 and up to 20 seconds."""
    return Waiting(lambda refusals: random.uniform(0, _delay(refusals)))


def gated(_: Random) -> Asking:
    """One pause for all."""
    return Gate()


def _delay(refusals: int) -> float:
    return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(refusals - 1, 60))


async def batch(line: Line, world: World, asking: Asking) -> None:
    """Bring a batch of jobs through; looks go the same way as submits where the gateway counts them."""
    gate: AbstractAsyncContextManager[None] = asyncio.Semaphore(ALIVE if world.has_slots else SUBMITTING)
    whole = world.has_slots

    async def one(name: str) -> None:
        async with gate:
            answer = await asking.ask(lambda: line.submit(name))
            assert answer.job is not None
            if whole:
                await followed(answer.job)
        if not whole:
            await followed(answer.job)

    async def followed(job: int) -> None:
        done = False
        while not done:
            await asyncio.sleep(LOOK_EVERY)
            counted = world.manners.counts_polls
            answer = await (asking.ask(lambda: line.poll(job)) if counted else line.poll(job))
            done = answer.done
        line.knows(job)

    async with asyncio.TaskGroup() as tasks:
        for number in range(world.jobs):
            tasks.create_task(one(f"take {number}"))
