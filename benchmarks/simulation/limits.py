"""What a gateway allows: models of its limits as plain values. Times are seconds; nothing here reads a clock."""

import heapq
import math
from typing import Protocol

from attrs import define, field, frozen

SLACK = 1e-9
"""Seconds, or tokens, that are forgiven as rounding."""


@frozen
class Steps:
    """A number that changes once.

    Args:
        before: its value at first.
        after: its value from the moment of the change on.
        at: when it changes, in seconds.
    """

    before: float
    after: float = math.nan
    at: float = math.inf

    def value(self, now: float) -> float:
        """Return its value at a time."""
        return self.before if now < self.at else self.after


class Limit(Protocol):
    """One thing that a gateway minds."""

    def next_time(self, now: float) -> float:
        """Return when a request would be allowed, if none came before it."""
        ...

    def take(self, now: float, end: float) -> None:
        """Count a request that is allowed; the job it begins runs until `end`."""
        ...

    def refuse(self, now: float) -> None:
        """Count a request that is refused."""
        ...


@define
class Bucket:
    """A token bucket, full at first.

    Args:
        rate: tokens per second.
        burst: how many it holds; in any window there are at most `rate * window + burst` requests.
        penal: whether a refused request costs a token as well.
    """

    rate: Steps
    burst: float
    penal: bool = False
    _tokens: float = field(init=False)
    _at: float = field(default=-math.inf, init=False)

    def __attrs_post_init__(self) -> None:
        self._tokens = self.burst

    def next_time(self, now: float) -> float:
        """Return when a token is there."""
        self._fill(now)
        if self._tokens >= 1 - SLACK:
            return now
        due = now + (1 - self._tokens) / self.rate.value(now)
        change = self.rate.at
        if not now < change < due:
            return due
        left = 1 - self._tokens - (change - now) * self.rate.before
        return change + left / self.rate.after

    def take(self, now: float, end: float) -> None:
        """Take a token."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1)

    def refuse(self, now: float) -> None:
        """Take what there is of a token, where the gateway does that."""
        if self.penal:
            self.take(now, now)

    def _fill(self, now: float) -> None:
        if now <= self._at:
            return
        change = self.rate.at
        if self._at < change <= now and self._at > -math.inf:
            gained = (change - self._at) * self.rate.before + (now - change) * self.rate.after
        else:
            gained = (now - self._at) * self.rate.value(now)
        self._tokens = min(self.burst, self._tokens + gained)
        self._at = now


@define
class Window:
    """At most `count` requests in each window of `per` seconds; windows follow each other by the gateway's clock.

    Args:
        count: requests per window.
        per: seconds of a window.
        phase: when one of the windows begins.
    """

    count: int
    per: float
    phase: float = 0.0
    _used: int = field(default=0, init=False)
    _number: int = field(default=-1, init=False)

    def next_time(self, now: float) -> float:
        """Return when a window has room."""
        self._turn(now)
        return now if self._used < self.count else self.phase + (self._number + 1) * self.per

    def take(self, now: float, end: float) -> None:
        """Count a request in its window."""
        self._turn(now)
        self._used += 1

    def refuse(self, now: float) -> None:
        """A refused request does not count."""

    def _turn(self, now: float) -> None:
        number = math.floor((now - self.phase) / self.per + SLACK)
        if number > self._number:
            self._number = number
            self._used = 0


@define
class Slots:
    """At most so many running jobs; a job runs from its acceptance until its end, noticed or not.

    Args:
        most: how many may run at once. Where it shrinks, running jobs go on.
    """

    most: Steps
    _ends: list[float] = field(factory=list, init=False)

    def running(self, now: float) -> int:
        """Return how many jobs run."""
        while self._ends and self._ends[0] <= now + SLACK:
            heapq.heappop(self._ends)
        return len(self._ends)

    def next_time(self, now: float) -> float:
        """Return when a job may begin."""
        running = self.running(now)
        excess = running - int(self.most.value(now))
        if excess < 0:
            return now
        due = self._end_of(excess)
        change = self.most.at
        if not now < change < due:
            return due
        left = sum(end > change + SLACK for end in self._ends)
        excess = left - int(self.most.after)
        return change if excess < 0 else self._end_of(running - left + excess)

    def take(self, now: float, end: float) -> None:
        """Let a job run until `end`."""
        heapq.heappush(self._ends, end)

    def refuse(self, now: float) -> None:
        """A refused job does not run."""

    def _end_of(self, number: int) -> float:
        return self._ends[0] if number == 0 else heapq.nsmallest(number + 1, self._ends)[-1]
