"""The AWS SDK's adaptive retry mode: a token bucket whose rate follows a cubic curve and drops to 0.7 at a refusal.

Written anew after the classes of botocore 1.43 (`retries/adaptive.py`, `throttling.py`, `bucket.py`, `standard.py`),
constants included; threads that wait on a condition are tasks that wait on a future.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from random import Random

from benchmarks.simulation.server import Answer

BETA = 0.7
SCALE = 0.4
LEAST_RATE = 0.5
SMOOTHING = 0.8
INTERVAL = 0.5
"""Seconds over which the rate of requests is measured."""
LONGEST_BACKOFF = 20.0
SLACK = 1e-9
"""Seconds that are not waited for: on a clock that stands still between timers they would never pass."""


class Cubic:
    """The rate that should be tried, from when it was last too high and how high it was."""

    def __init__(self, now: float) -> None:
        self._most = 0.0
        self._failed_at = now
        self._flat_after = 0.0

    def succeeded(self, now: float) -> float:
        """Return the rate to try after an answer."""
        return SCALE * (now - self._failed_at - self._flat_after) ** 3 + self._most

    def failed(self, rate: float, now: float) -> float:
        """Return the rate to try after a refusal at this rate."""
        self._most = rate
        self._flat_after = (rate * (1 - BETA) / SCALE) ** (1 / 3)
        self._failed_at = now
        return rate * BETA


class Measured:
    """The rate at which answers come, smoothed."""

    def __init__(self, now: float) -> None:
        self._rate = 0.0
        self._since = float(math.floor(now))
        self._count = 0

    def record(self, now: float) -> float:
        """Count an answer and return the rate."""
        interval = math.floor(now / INTERVAL) * INTERVAL
        self._count += 1
        if interval > self._since:
            found = self._count / (interval - self._since)
            self._rate = found * SMOOTHING + self._rate * (1 - SMOOTHING)
            self._count = 0
            self._since = interval
        return self._rate


class Tokens:
    """A token bucket that starts empty; a change of the rate wakes one of those who wait."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.rate = 1.0
        self._most = 1.0
        self._held = 0.0
        self._at = self._loop.time()
        self._waiting: deque[asyncio.Future[None]] = deque()

    def set_rate(self, rate: float) -> None:
        """Fill at another rate from now on, at least one token in two seconds."""
        self._fill()
        self.rate = max(rate, LEAST_RATE)
        self._most = max(1.0, rate)
        self._held = min(self._held, self._most)
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    async def take(self) -> None:
        """Wait for a token and take it."""
        self._fill()
        while (wait := (1 - self._held) / self.rate) > SLACK:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            timer = self._loop.call_later(wait, _wake, waiter)
            await waiter
            timer.cancel()
            self._fill()
        self._held = max(0.0, self._held - 1)

    def _fill(self) -> None:
        now = self._loop.time()
        self._held = min(self._most, self._held + (now - self._at) * self.rate)
        self._at = now


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class Adaptive:
    """Sends requests at a rate that is learned, once one was refused, each again after an exponential backoff."""

    def __init__(self, random: Random) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._random = random
        self._cubic = Cubic(now)
        self._measured = Measured(now)
        self._tokens = Tokens()
        self._limiting = False

    async def ask(self, send: Callable[[], asyncio.Future[Answer]]) -> Answer:
        """Send a request until it is not refused."""
        tries = 0
        while True:
            if self._limiting:
                await self._tokens.take()
            answer = await send()
            self._learn(refused=answer.job is None)
            if answer.job is not None:
                return answer
            await asyncio.sleep(self._random.random() * min(2.0**tries, LONGEST_BACKOFF))
            tries = min(tries + 1, 60)

    def _learn(self, *, refused: bool) -> None:
        now = self._loop.time()
        measured = self._measured.record(now)
        if refused:
            rate = min(measured, self._tokens.rate) if self._limiting else measured
            rate = self._cubic.failed(rate, now)
            self._limiting = True
        else:
            rate = self._cubic.succeeded(now)
        self._tokens.set_rate(min(rate, 2 * measured))
