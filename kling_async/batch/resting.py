"""When a gateway takes nothing, a run rests, lets one job try, and goes on or gives up. Arithmetic, without a clock."""

from attrs import define

from kling_async.errors import KlingError

FIRST, MOST = 5.0, 300.0
"""Seconds of a rest: each is twice as long as the one before."""


@define
class Rest:
    """The rests of one run. Times are seconds of one monotonic clock.

    Args:
        patience: seconds without an accepted job after which the run gives up.
        until: nothing is sent before.
        seconds: how long the rest is, 0 for none.
        since: when the trouble began, or None.
        why: what the gateway said, or None.
    """

    patience: float
    until: float = 0.0
    seconds: float = 0.0
    since: float | None = None
    why: KlingError | None = None

    def refused(self, now: float, error: KlingError) -> bool:
        """Take note of a job that the gateway would not take; True if it was tried for long enough."""
        if now < self.until:
            return False  # one of those that left before the run began to rest
        if self.since is None:
            self.since = now
        end = self.since + self.patience
        if now >= end:
            return True
        self.seconds = min(2 * self.seconds, MOST) or FIRST
        self.until = min(now + self.seconds, max(now + 1.0, end))
        self.why = error
        return False

    def over(self) -> None:
        """Take note of a job that was accepted."""
        self.until, self.seconds, self.since, self.why = 0.0, 0.0, None, None
