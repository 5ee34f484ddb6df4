"""All that holds requests back, in one place: limits, what refusals have taught, outages, quotas. It says when."""

import math
from collections.abc import Iterable

from kling_async.errors import CapacityError, ConnectionFailedError, KlingError, RateLimitError
from kling_async.flow.account import Account
from kling_async.flow.admission import Admission
from kling_async.flow.allowance import Allowance
from kling_async.flow.limits import Limiter, Told
from kling_async.flow.outage import Outage
from kling_async.results import Cost
from kling_async.settings import RateLimit, RetryPolicy

LOOKS_IN_VAIN = 3
"""Looks of the whole account that fail in a row before looks go one at a time."""
DOUBTS_IN_A_ROW = 3
"""Submits in doubt in a row before submits go one at a time: a gateway that is ill would leave all of them in doubt."""


class Gate:
    """What one account may send, and when. Times are seconds of the session's clock.

    Args:
        policy: bounds every wait.
        rates: the user's limits, never exceeded.
        now: the time.
        learns_pace: begin slowly and find out what the gateway takes; otherwise begin at the limits.
        daily_quota: what the gateway's headers say is left is known to be left of the day.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        rates: Iterable[RateLimit],
        now: float,
        *,
        learns_pace: bool,
        daily_quota: bool = False,
    ) -> None:
        self.policy = policy
        self.limiter = Limiter(rates, now, Told(policy.retry_after_cap, daily_quota))
        self.account = Account(policy)
        self.admission = Admission(policy, 1.0 if learns_pace else math.inf)
        self._submits = Outage(policy)
        self._doubts = Outage(policy, patience=DOUBTS_IN_A_ROW)
        self._looks = Outage(policy, patience=LOOKS_IN_VAIN)
        self._failed_last = ""

    def next_submit(self, now: float, in_flight: int, running: int) -> float:
        """Return when the next submit may leave, limits on requests per time aside; infinity: not by itself.

        Args:
            now: the time.
            in_flight: submits without an answer.
            running: our jobs at the gateway.
        """
        at_stake = running + in_flight
        if at_stake and self.limiter.left(now) < at_stake + 2:
            return self.limiter.more_at(now)  # what is left of the day is for looking at what is paid
        when = max(self.account.next_submit(now, in_flight), self._submits.next_try(now, in_flight))
        return max(when, self._doubts.next_try(now, in_flight), self.admission.next_submit(now, in_flight, running))

    def next_look(self, now: float, in_flight: int) -> float:
        """Return when the next look may leave, limits on requests per time aside; infinity: not by itself."""
        return max(self._looks.next_try(now, in_flight), self.admission.next_look(now, in_flight))

    def next_control(self, now: float) -> float:
        """Return when a request of another sort may leave, limits on requests per time aside."""
        return max(now, self.admission.paused_until)

    def free(self, now: float) -> bool:
        """Tell whether the limits on requests per time let one more go."""
        return self.limiter.ready(now)

    def take(self, kind: str, now: float) -> None:
        """Count a request of the class "control", "submit" or "look" that leaves."""
        self.limiter.take(now)
        self.limiter.told.took(kind)
        if kind == "submit":
            self.admission.submitted(now)
        elif kind == "look":
            self.admission.looking(now)

    def heard(self, now: float, said: Allowance, in_flight: int) -> None:
        """Take in what the gateway says is left of its limit; the requests in flight may not be counted in it yet."""
        self.limiter.told.heard(now, said.remaining, said.reset_after, in_flight)

    def accepted(self, now: float, sent_at: float, running: int, cost: Cost | None) -> None:
        """Take note of a job that the gateway took; see `Account.accepted` and `Admission.accepted`."""
        self.account.accepted(cost, sent_at)
        self.admission.accepted(now, sent_at, running)
        self.answered(now)

    def answered(self, now: float) -> None:
        """Take note that a submit was answered in earnest, whatever was said: the gateway is there."""
        self._submits.answered()
        self._doubts.answered()
        self._looks.reached(now)

    def doubted(self, now: float, sent_at: float, jitter: float) -> None:
        """Take note of a submit whose fate nobody knows."""
        self._doubts.failed(now, sent_at, jitter)

    def refused(self, now: float, sent_at: float, error: KlingError, *, running: int, jitter: float) -> None:
        """Take note of a submit that surely was not accepted and may be sent again.

        Args:
            now: the time.
            sent_at: when it was sent.
            error: what was answered.
            running: our jobs at the gateway.
            jitter: a random number from 0 to 1.
        """
        if isinstance(error, (RateLimitError, CapacityError)):
            self.answered(now)
            taught = self.admission.refused(now, sent_at, error, running=running, jitter=jitter)
            self.account.failures += taught and not running  # one that runs our jobs is full, not silent
            self._drain(now)
            return
        before = self._submits.failures
        unreachable = isinstance(error, ConnectionFailedError)
        self._submits.failed(now, sent_at, jitter, error.retry_after or 0.0, unreachable=unreachable)
        self.account.failures += self._submits.failures > before

    def ended(self, now: float, seconds: float | None, lag: float = 0.0) -> None:
        """Take note that a job has ended; see `Slots.ended`."""
        self.admission.ended(now, seconds, lag)

    def looked(self, now: float) -> None:
        """Take note of a look that was answered."""
        self._looks.answered()
        self._submits.reached(now)
        self.admission.looked(now)

    def look_failed(self, now: float, sent_at: float, error: KlingError, jitter: float, job: str = "") -> None:
        """Take note of a look that brought nothing.

        Args:
            now: the time.
            sent_at: when it was sent.
            error: what came instead.
            jitter: a random number from 0 to 1.
            job: which job it was about: one that always fails says nothing of the others.
        """
        if isinstance(error, RateLimitError):
            self._looks.answered()
            self.admission.slowed(now, sent_at, error, jitter)
            self._drain(now)
        elif not job or job != self._failed_last:
            self._failed_last = job
            unreachable = isinstance(error, ConnectionFailedError)
            self._looks.failed(now, sent_at, jitter, error.retry_after or 0.0, unreachable=unreachable)

    def _drain(self, now: float) -> None:
        """See that a pause saves nothing up: otherwise all that it held back would leave at once."""
        if self.admission.paused_until > now:
            self.limiter.drain(self.admission.paused_until)

    @property
    def slots(self) -> int | None:
        """How many jobs the gateway is known to run at once, or None."""
        return self.admission.slots.level

    def looks_a_second(self) -> float:
        """Return how many requests a second the account may make, as far as looks count in that; infinity: any."""
        known = self.admission.pace.estimate
        return min(self.limiter.rate, known) if self.admission.shared and known else self.limiter.rate
