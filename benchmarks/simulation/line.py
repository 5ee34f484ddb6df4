"""The way to a gateway and back: each request takes a drawn round trip of virtual time."""

import asyncio
import math
from collections.abc import Callable
from random import Random

from benchmarks.simulation.server import Answer, Server

RTT = 0.08
"""Median seconds of a round trip."""
RTT_SPREAD = 0.3
"""Sigma of its logarithm."""


class Line:
    """Carries requests to a gateway. Times in its ledger are seconds since the line was made.

    Args:
        server: the gateway.
        random: where round trips come from.
        rtt: their median, in seconds.
    """

    def __init__(self, server: Server, random: Random, rtt: float = RTT) -> None:
        self.server = server
        self._random = random
        self._mean = math.log(rtt)
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()

    def now(self) -> float:
        """Return the seconds since the run began."""
        return self._loop.time() - self._start

    def submit(self, name: str) -> asyncio.Future[Answer]:
        """Submit a job under a name of its own."""
        return self._carry(lambda: self.server.submit(self.now(), name))

    def poll(self, job: int) -> asyncio.Future[Answer]:
        """Look at a job."""
        return self._carry(lambda: self.server.poll(self.now(), job))

    def knows(self, job: int) -> None:
        """Record that the outcome of a job is in the client's hands now."""
        self.server.ledger.known[job] = self.now()

    def _carry(self, ask: Callable[[], Answer]) -> asyncio.Future[Answer]:
        loop = self._loop
        half = self._random.lognormvariate(self._mean, RTT_SPREAD) / 2
        answered: asyncio.Future[Answer] = loop.create_future()

        def arrive() -> None:
            loop.call_later(half, leave, ask())

        def leave(answer: Answer) -> None:
            if not answered.done():
                answered.set_result(answer)

        loop.call_later(half, arrive)
        return answered
