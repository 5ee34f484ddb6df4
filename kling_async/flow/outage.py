"""A circuit breaker: after failures in a row one request at a time tries again, however many jobs wait."""

import math

from attrs import define

from kling_async.flow.backoff import backoff
from kling_async.settings import RetryPolicy


@define
class Outage:
    """Failures in a row of one sort of request, of the whole account. Times are seconds of the session's clock.

    Args:
        policy: bounds every wait.
        patience: failures in a row from which on requests wait; one more, and they go one at a time.
        failures: how many there were, with no answer in between.
        until: nothing of this sort leaves before.
        reacted_at: when it was last reacted to a failure; requests that left before it teach nothing new.
        unreachable: whether the last failure was that there is no connection.
    """

    policy: RetryPolicy
    patience: int = 1
    failures: int = 0
    until: float = -math.inf
    reacted_at: float = -math.inf
    unreachable: bool = False

    def next_try(self, now: float, in_flight: int) -> float:
        """Return when the next request may leave: now or later, or infinity until the one under way has ended."""
        if self.failures > self.patience and in_flight:
            return math.inf
        return max(now, self.until)

    def failed(
        self, now: float, sent_at: float, jitter: float, asked: float = 0.0, *, unreachable: bool = False
    ) -> None:
        """Take note of a failure.

        Args:
            now: the time.
            sent_at: when the request was sent.
            jitter: a random number from 0 to 1.
            asked: seconds that the gateway asks to wait.
            unreachable: there was no connection.
        """
        if sent_at < self.reacted_at:
            return
        self.reacted_at = now
        self.failures += 1
        self.unreachable = unreachable
        if self.failures >= self.patience or asked:
            wait = max(min(asked, self.policy.retry_after_cap), backoff(self.policy, self.failures, jitter))
            self.until = max(self.until, now + wait)

    def answered(self) -> None:
        """Take note of an answer: the outage is over."""
        self.failures = 0
        self.until = -math.inf

    def reached(self, now: float) -> None:
        """Take note that the host answers something else: where there was no connection, try at once."""
        if self.unreachable and self.failures:
            self.until = min(self.until, now)
