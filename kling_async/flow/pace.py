"""The pace a gateway allows, learned from its refusals: conservation of tokens, and a cubic search for more."""

import math

from attrs import define

from kling_async.flow.limits import Bucket

SOUND_ACKS = 8
"""An estimate from fewer accepted requests is young: it may be wrong by a half."""
SURPRISE = 0.3
"""An observation that differs by more replaces the estimate; otherwise the two are averaged."""
DEPTH, STEEP = 0.05, 0.2
"""After a refusal the pace starts at 1 - DEPTH of the estimate; a young estimate grows by STEEP a period instead."""
SLOWEST, FASTEST = 0.5, 4.0
"""Bounds of the search around the estimate."""
ACKS_A_PERIOD, PERIOD_LEAST, PERIOD_MOST = 30.0, 1.5, 20.0
"""A period is the time of so many requests, within these bounds in seconds: back at the estimate after one of them."""
USED = 0.5
"""A search goes on beyond its bounds only if so much of the estimate was used."""
LOWERED = 0.98
"""An estimate below so much of the one before it was lowered."""
LAG = 0.1
"""Seconds that an event loop may stall without losing pace: the bucket is so deep."""


@define
class Pace:
    """The requests per second that a gateway takes.

    A refusal says that the gateway's bucket is empty. Between two refusals it has given out exactly what flowed in,
    whatever its depth: the requests accepted in between, over the time, are its rate.

    Args:
        estimate: requests per second, or None while nothing is known.
        since: when the search began, in seconds.
        empty_at: when the gateway's bucket was last known to be empty, or None.
        acks: requests accepted since.
        young: whether the estimate stands on few of them.
        early: refusals below the estimate since the search began.
        used: requests accepted since the search began.
        bucket: spaces the requests.
    """

    estimate: float | None = None
    since: float = -math.inf
    empty_at: float | None = None
    acks: int = 0
    young: bool = True
    early: int = 0
    used: int = 0
    bucket: Bucket | None = None

    def rate(self, now: float) -> float:
        """Return the requests per second in force, infinity while nothing is known."""
        if self.estimate is None:
            return math.inf
        periods = (now - self.since) / self.period
        if self.young:
            return self.estimate * min(1 + DEPTH + STEEP * max(0.0, periods), FASTEST)
        return self.estimate * min(max(1 + DEPTH * (periods - 1) ** 3, SLOWEST), FASTEST)

    @property
    def period(self) -> float:
        """Seconds until the search is back at the estimate."""
        if self.estimate is None:
            return PERIOD_LEAST
        return min(max(ACKS_A_PERIOD / self.estimate, PERIOD_LEAST), PERIOD_MOST)

    @property
    def gap(self) -> float:
        """Seconds between two requests at the estimate; 0 while nothing is known."""
        return 1 / self.estimate if self.estimate else 0.0

    def next_time(self, now: float) -> float:
        """Return when a request may leave."""
        if self.bucket is None:
            return now
        self._tune(now)
        return self.bucket.next_time(now)

    def take(self, now: float) -> None:
        """Count a request that leaves."""
        if self.bucket is not None:
            self._tune(now)
            self.bucket.take(now)

    def accepted(self, now: float) -> None:
        """Count a request that the gateway served."""
        self.acks += 1
        self.used += 1
        if self.estimate is None or self.rate(now) < FASTEST * self.estimate:
            return
        if self.used >= USED * self.estimate * (now - self.since):  # as fast as that was really tried
            self.estimate *= FASTEST
            self.since = now - self.period
            self.used = 0

    def refused(self, now: float) -> bool:
        """Take note that the gateway's bucket is empty; True if a sound estimate was lowered for it."""
        if self.empty_at is None:
            self._anchor(now)
        elif self._may_be_chance(now):
            self._skip(now)
            return False
        before = None if self.young else self.estimate
        if self.empty_at is not None and now > self.empty_at:
            self._observe(now, (self.acks + 0.5) / (now - self.empty_at))
        self._start(now)
        return before is not None and self.estimate is not None and self.estimate < LOWERED * before

    def _may_be_chance(self, now: float) -> bool:
        """Tell whether a refusal may have nothing to do with the pace: one that comes below the estimate.

        The first one starts a new count, which tells a gateway that has become slower from one that refuses by chance.
        """
        if self.young or self.estimate is None:
            return False
        if now - self.since >= self.period:
            return False
        self.early += 1
        if self.early == 1:
            self._anchor(now)
            return True
        if self.empty_at is None or self.acks < SOUND_ACKS:
            return True
        return self.acks + 0.5 >= (1 - SURPRISE) * self.estimate * (now - self.empty_at)

    def share(self, now: float) -> None:
        """Begin the estimate anew: looks turn out to count as well."""
        self.young = True
        self._anchor(now)
        self._start(now)

    def rested(self) -> None:
        """Take note of a pause in which requests might have left: the gateway's bucket has filled up and run over."""
        self.empty_at = None

    def restore(self, estimate: float | None, now: float) -> None:
        """Go back to an earlier estimate: what was refused since had nothing to do with the pace."""
        self.forget()
        if estimate is not None:
            self.estimate, self.young = estimate, False
            self._start(now)

    def restart(self, now: float) -> None:
        """Begin the search anew after a pause, without what the pause has saved up."""
        if self.estimate is not None:
            self._start(now)

    def forget(self) -> None:
        """Forget everything: it was not the pace that the gateway minded."""
        self.estimate = self.empty_at = self.bucket = None
        self.acks, self.young, self.early, self.used = 0, True, 0, 0

    def _observe(self, now: float, seen: float) -> None:
        if self.acks >= SOUND_ACKS:
            known = self.estimate
            if known is None or self.young or abs(seen / known - 1) > SURPRISE:
                self.estimate = seen
            else:
                share = min(0.5, self.acks / 40)
                self.estimate = known + share * (seen - known)
            self.young = False
            self._anchor(now)
        elif self.estimate is None or self.young:
            self.estimate = seen  # the anchor stays until there are enough
        elif seen < (1 - SURPRISE) * self.estimate:
            self.estimate, self.young = seen, True

    def _anchor(self, now: float) -> None:
        self.empty_at = now
        self.acks = 0

    def _start(self, now: float) -> None:
        self.since = now
        self.early = self.used = 0
        if self.estimate is not None:
            self.bucket = Bucket(self.rate(now), self._depth(now), -math.inf)
            self.bucket.empty(now)

    def _skip(self, now: float) -> None:
        """Leave a gap after a refusal, and go on."""
        if self.bucket is not None:
            self._tune(now)
            self.bucket.empty(now)

    def _depth(self, now: float) -> float:
        return max(1.0, self.rate(now) * LAG)

    def _tune(self, now: float) -> None:
        if self.bucket is not None:
            self.bucket.set_rate(self.rate(now), self._depth(now), now)
