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
        full_at: when a token was last taken from a full bucket.
    """

    rate: float
    depth: float
    tat: float = -math.inf
    full_at: float = -math.inf

    @classmethod
    def starting(cls, limit: RateLimit, now: float) -> "Bucket":
        """Return a bucket that holds one token now."""
        return cls(limit.rate, limit.depth, now + (limit.depth - 1) / limit.rate)

    def next_time(self, now: float) -> float:
        """Return when a token is there."""
        return max(now, self.tat + (1 - self.depth) / self.rate)

    def take(self, now: float) -> None:
        """Take a token; the arrival time advances from itself, so that no rate is lost to rounding."""
        if self.tat <= now:
            self.full_at = now
        self.tat = max(self.tat, now) + 1 / self.rate

    def refund(self, taken_at: float) -> None:
        """Put a token back that was taken for a request which did not leave; a bucket full since has made up for it."""
        if taken_at >= self.full_at:
            self.tat -= 1 / self.rate

    def drain(self, now: float) -> None:
        """Leave one token, so that what a pause has saved up is not released as a herd."""
        self.tat = max(self.tat, now + (self.depth - 1) / self.rate)

    def empty(self, now: float) -> None:
        """Leave no token: the next one comes a gap from now."""
        self.tat = max(self.tat, now + self.depth / self.rate)

    def tokens(self, now: float) -> float:
        """Return how many tokens there are."""
        return self.depth - max(0.0, self.tat - now) * self.rate

    def set_rate(self, rate: float, depth: float, now: float) -> None:
        """Change the rate and the depth, and keep the tokens that are there."""
        tokens = min(self.tokens(now), depth)
        self.rate, self.depth = rate, depth
        self.tat = now + (depth - tokens) / rate


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

    def refund(self, taken_at: float) -> None:
        """Forget a request that was counted at this time and did not leave."""
        for place in range(len(self._times) - 1, -1, -1):
            at, taken = self._times[place]
            if at == taken_at and taken:
                self._times[place] = (at, taken - 1)
                self._taken -= 1
                return

    def left(self, now: float) -> int:
        """Return how many requests the window still has room for."""
        self._forget(now)
        return self.count - self._taken

    def more_at(self, now: float) -> float:
        """Return when the window will have more room, or infinity if nothing was taken."""
        self._forget(now)
        return self._times[0][0] + self.per if self._times else math.inf

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


@define
class Told:
    """What the gateway itself says is left of its limit, in headers such as `X-RateLimit-Remaining`.

    Args:
        patience: seconds that a used-up limit holds requests back at most, whatever it claims.
        daily: whether a limit without a reset is known to be a day's.
        remaining: requests left, or infinity while nothing is known.
        reset_at: until when a used-up limit holds requests back, or infinity where the gateway does not say.
        lasting: whether it is a quota of an hour or longer, that was told more than once.
        looks_count: whether looks count in it, as far as the headers have shown.
        said, submits, looks: what it said last, and what was sent since.
    """

    patience: float = math.inf
    daily: bool = False
    remaining: float = math.inf
    reset_at: float = math.inf
    lasting: bool = False
    looks_count: bool = True
    said: float = math.inf
    submits: int = 0
    looks: int = 0

    def heard(self, now: float, remaining: float, reset_after: float | None, in_flight: int) -> None:
        """Take in a header; the requests in flight may not be counted in it yet."""
        if not in_flight and not self.submits and self.looks and remaining <= self.said < math.inf:
            self.looks_count = remaining < self.said
        self.said, self.submits, self.looks = remaining, 0, 0
        long = self.daily if reset_after is None else reset_after >= QUOTA_SECONDS
        self.lasting = long and (self.lasting or 0 < self.remaining < math.inf)
        self.remaining = max(0.0, remaining - in_flight)
        self.reset_at = math.inf if reset_after is None else now + min(reset_after, self.patience)

    def next_time(self, now: float) -> float:
        """Return when a request may leave.

        A used-up limit without a known reset holds nothing back: the gateway's own refusal says more.
        """
        self._pass(now)
        return self.reset_at if self.remaining < 1 and self.reset_at < math.inf else now

    def take(self, now: float) -> None:
        """Count a request."""
        self._pass(now)
        self.remaining = max(0.0, self.remaining - 1)

    def more_at(self, now: float) -> float:
        """Return when there will be more, or infinity where nobody knows."""
        self._pass(now)
        return self.reset_at

    def took(self, kind: str) -> None:
        """Take note of what kind of request was counted: a "look", or another."""
        if kind == "look":
            self.looks += 1
            self.remaining += not self.looks_count
        else:
            self.submits += 1

    def refund(self, taken_at: float) -> None:
        """Put a request back that did not leave."""
        self.remaining += 1

    def left(self, now: float) -> float:
        """Return how many requests are left of a lasting quota, or infinity."""
        self._pass(now)
        return self.remaining if self.lasting and self.looks_count else math.inf

    def drain(self, now: float) -> None:
        """Do nothing: the gateway counts."""

    def _pass(self, now: float) -> None:
        if now >= self.reset_at:
            self.remaining = self.reset_at = math.inf
            self.lasting = False


class Limiter:
    """All limits of an account: a request leaves when every one of them allows it, and counts in all.

    Attributes:
        told: what the gateway says is left; it is one of the limits.
    """

    def __init__(self, rates: Iterable[RateLimit], now: float, told: Told | None = None) -> None:
        self.told = told or Told()
        self._limits = [*(limit_of(rate, now) for rate in rates), self.told]
        self._windows = [limit for limit in self._limits if isinstance(limit, Window)]

    @property
    def rate(self) -> float:
        """Requests per second in the long run, by the limits that spread them evenly; infinity without any."""
        return min((limit.rate for limit in self._limits if isinstance(limit, Bucket)), default=math.inf)

    def left(self, now: float) -> float:
        """Return how many requests are left of the scarcest quota, or infinity."""
        left = self.told.left(now)
        for window in self._windows:
            left = min(left, window.left(now))
        return left

    def more_at(self, now: float) -> float:
        """Return when more will be left of a quota, or infinity where nobody knows."""
        return min([self.told.more_at(now), *(window.more_at(now) for window in self._windows)])

    def next_time(self, now: float) -> float:
        """Return the earliest time at which a request may leave."""
        when = now
        for limit in self._limits:
            when = max(when, limit.next_time(now))
        return when

    def ready(self, now: float) -> bool:
        """Tell whether a request may leave now, forgiving a rounding error of a nanosecond."""
        return self.next_time(now) <= now + SLACK

    def take(self, now: float) -> None:
        """Count a request in every limit."""
        for limit in self._limits:
            limit.take(now)

    def refund(self, taken_at: float) -> None:
        """Give a request back that was counted at this time and did not leave."""
        for limit in self._limits:
            limit.refund(taken_at)

    def drain(self, now: float) -> None:
        """Leave at most one token in every bucket."""
        for limit in self._limits:
            limit.drain(now)
