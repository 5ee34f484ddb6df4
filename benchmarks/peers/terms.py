"""What a run is about: the gateway's terms, what a client is told of them, and how long it takes at best."""

from collections.abc import Sequence
from heapq import heappop, heappush
from math import log
from random import Random

from attrs import define, frozen

WARM_UP = "warm-up"
"""Prompts that begin so are not counted, never refused, and done at once."""
WARM_UP_SECONDS = 0.01


@frozen
class Terms:
    """How a gateway behaves.

    Args:
        seed: everything that is drawn depends on this, the prompt and the number of the try, never on time or order.
        median: seconds that the median job takes.
        sigma: the spread of the durations, log-normal.
        rate: submits per second, or None for no limit. Looks are free, as at most gateways.
        burst: submits that may come at once after a pause.
        slots: jobs that may run at once, or None for no limit.
        refusals, errors, resets: shares of all requests that are answered with 429, answered with 500, or read and
            then cut off. Half of the submits that meet the last two have made a job all the same.
    """

    seed: int = 1
    median: float = 4.0
    sigma: float = 0.4
    rate: float | None = None
    burst: float = 20.0
    slots: int | None = None
    refusals: float = 0.0
    errors: float = 0.0
    resets: float = 0.0

    @property
    def hold(self) -> float:
        """Seconds that a gateway holds a submit back if it is asked to wait: half the median.

        Replicate holds it for 60 seconds, and a clip takes about two minutes.
        """
        return self.median / 2

    def duration(self, prompt: str) -> float:
        """Return the seconds that a job for this prompt takes; the same for every client."""
        if prompt.startswith(WARM_UP):
            return WARM_UP_SECONDS
        return Random(f"{self.seed} {prompt}").lognormvariate(log(self.median), self.sigma)


@frozen
class Work:
    """What a client is told.

    Args:
        url: the gateway.
        concurrency: jobs in flight at most.
        rate: the documented limit in submits per second, or None; for clients that can be told.
    """

    url: str
    concurrency: int
    rate: float | None = None


@define
class Bucket:
    """A token bucket that starts full; times in seconds."""

    rate: float
    burst: float
    _empty: float = float("-inf")

    def free_at(self, now: float) -> float:
        """Return when the next token can be had."""
        return max(now, self._empty - (self.burst - 1) / self.rate)

    def take(self, now: float) -> None:
        """Take a token."""
        self._empty = max(self._empty, now) + 1 / self.rate


def ideal(durations: Sequence[float], slots: int, rate: float | None, burst: float) -> float:
    """Return the seconds for all jobs, begun in order, if every end were seen and every slot filled at once."""
    bucket = Bucket(rate, burst) if rate else None
    ends: list[float] = []
    now = last = 0.0
    for duration in durations:
        if len(ends) >= slots:
            now = max(now, heappop(ends))
        if bucket is not None:
            now = bucket.free_at(now)
            bucket.take(now)
        heappush(ends, now + duration)
        last = max(last, now + duration)
    return last
