"""Request rates: several limits at once, each a few numbers. Nothing here waits; it says when."""

import math
from collections import deque
from collections.abc import Iterable

from attrs import define, field

from kling_async.settings import RateLimit

# Windows this long are quotas: their requests need not be spread evenly over the day.
QUOTA_SECONDS = 3600.0
SLACK = 1e-9


@define
class Bucket:
    """A token bucket as one number: the generic cell rate algorithm (ITU-T I.371).

    Args:
        rate: tokens per second.
        depth: how many tokens it holds; in any window there are at most `rate * window + depth` requests.
        tat: the theoretical arrival time: when the bucket will be full again. It starts with one token.
    """

    rate: float
    depth: float
    tat: float = -math.inf

    @classmethod
    def starting(cls, limit: RateLimit, now: float) -> "Bucket":
        """Return a bucket that holds one token now."""
        return cls(limit.rate, limit.depth, now + (limit.depth - 1) / limit.rate)

    def next_time(self, now: float) -> float:
        """Return when a token is there."""
        return max(now, self.tat + (1 - self.depth) / self.rate)

    def take(self, now: float) -> None:
        """Take a token; the arrival time advances from itself, so that no rate is lost to rounding."""
        self.tat = max(self.tat, now) + 1 / self.rate

    def drain(self, now: float) -> None:
        """Leave one token, so that what a pause has saved up is not released as a herd."""
        self.tat = max(self.tat, now + (self.depth - 1) / self.rate)


@define
class Window:
    """At most `count` requests in any window of `per` seconds, spread as the requests come.

    Remembers one time per request, or per group of requests where `count` is large: a group counts from its last.
    """

    count: int
    per: float
    _times: deque[tuple[float, int]] = field(factory=deque, init=False)
    _taken: int = field(default=0, init=False)

    def next_time(self, now: float) -> float:
        """Return when the oldest requests have left the window."""
        self._forget(now)
        return now if self._taken < self.count else max(now, self._times[0][0] + self.per)

    def take(self, now: float) -> None:
        """Count a request."""
        self._forget(now)
        group = max(1, self.count // 10_000)
        if self._times and self._times[-1][1] < group:
            self._times[-1] = (now, self._times[-1][1] + 1)
        else:
            self._times.append((now, 1))
        self._taken += 1

    def drain(self, now: float) -> None:
        """Do nothing: a quota saves nothing up."""

    def _forget(self, now: float) -> None:
        while self._times and self._times[0][0] + self.per <= now + SLACK:
            self._taken -= self._times.popleft()[1]


def limit_of(rate: RateLimit, now: float) -> Bucket | Window:
    """Return the state of a limit: a bucket, or for an hour and longer without a burst of its own a window."""
    if rate.per >= QUOTA_SECONDS and rate.burst is None and rate.count >= 1:
        return Window(int(rate.count), rate.per)
    return Bucket.starting(rate, now)


class Limiter:
    """All limits of an account: a request leaves when every one of them allows it, and counts in all."""

    def __init__(self, rates: Iterable[RateLimit], now: float) -> None:
        self._limits = [limit_of(rate, now) for rate in rates]

    def next_time(self, now: float) -> float:
        """Return the earliest time at which a request may leave."""
        return max((limit.next_time(now) for limit in self._limits), default=now)

    def ready(self, now: float) -> bool:
        """Tell whether a request may leave now, forgiving a rounding error of a nanosecond."""
        return all(limit.next_time(now) <= now + SLACK for limit in self._limits)

    def take(self, now: float) -> None:
        """Count a request in every limit."""
        for limit in self._limits:
            limit.take(now)

    def drain(self, now: float) -> None:
        """Leave at most one token in every bucket."""
        for limit in self._limits:
            limit.drain(now)
