"""Clients that only look: each policy says when to look at a job next, and they share a budget of looks a second."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

from benchmarks.simulation.law import LogNormal, Schedules
from benchmarks.simulation.line import Line
from benchmarks.simulation.server import Answer

Policy = Callable[[int, float], float]
"""Returns the seconds until the next look at a job, from how often it was looked at and its age in seconds."""


def round_robin(looks: int, age: float) -> float:
    """Always due: whoever was looked at longest ago is next."""
    return 0.0


def backing_off(looks: int, age: float) -> float:
    """From 2 seconds, half as long again each time, up to 30."""
    return min(30.0, 2.0 * 1.5 ** min(looks, 20))


def waiting_for(mean: float) -> Policy:
    """A first look when a job is as old as jobs become on average, then one every 5 seconds."""
    return lambda looks, age: mean if looks == 0 else 5.0


def scheduled(law: LogNormal, looks: float) -> Policy:
    """The best schedule of so many looks a job, for whoever knows the law."""
    known = Schedules(law)
    _, price = known.prices(looks)
    following = known.best(price)
    ages = [place * known.step for place in following]
    return lambda _, age: max(0.0, ages[min(len(ages) - 1, int(age / known.step))] - age)


class Pollster:
    """Looks at jobs, the one that is due longest first, at most so many a second.

    Args:
        line: where the jobs run.
        policy: when a job is due.
        budget: looks per second.
    """

    def __init__(self, line: Line, policy: Policy, budget: float) -> None:
        self._line = line
        self._policy = policy
        self._gap = 1 / budget
        self._free_at = 0.0
        self._due: list[tuple[float, int, int]] = []
        self._looks: dict[int, int] = {}
        self._began: dict[int, float] = {}
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None

    def submit(self, name: str) -> None:
        """Submit a job and look after it."""
        self._line.submit(name).add_done_callback(lambda done: self._accepted(done.result()))

    def _accepted(self, answer: Answer) -> None:
        assert answer.job is not None
        self._looks[answer.job] = 0
        self._began[answer.job] = self._line.now()
        self._plan(answer.job)

    def _plan(self, job: int) -> None:
        now = self._line.now()
        wait = self._policy(self._looks[job], now - self._began[job])
        heapq.heappush(self._due, (now + wait, next(self._number), job))
        self._pump()

    def _pump(self) -> None:
        now = self._line.now()
        while self._due and max(self._due[0][0], self._free_at) <= now + 1e-9:
            job = heapq.heappop(self._due)[2]
            self._free_at = max(self._free_at, now) + self._gap
            self._looks[job] += 1
            self._line.poll(job).add_done_callback(lambda done: self._seen(done.result()))
        if self._timer is not None:
            self._timer.cancel()
        if self._due:
            wait = max(self._due[0][0], self._free_at) - now
            self._timer = asyncio.get_running_loop().call_later(wait, self._pump)

    def _seen(self, answer: Answer) -> None:
        assert answer.job is not None
        if answer.done:
            self._line.knows(answer.job)
            del self._looks[answer.job], self._began[answer.job]
        else:
            self._plan(answer.job)

    def stop(self) -> None:
        """Look at nothing more."""
        self._due.clear()
        if self._timer is not None:
            self._timer.cancel()
