"""What one account has learned from refusals: when to pause, whom to let through, what is not worth asking."""

import math

from attrs import define

from kling_async.errors import (
    CapacityError,
    InsufficientCreditsError,
    KlingError,
    QuotaExhaustedError,
    RateLimitError,
)
from kling_async.flow.backoff import backoff
from kling_async.results import Cost
from kling_async.settings import RetryPolicy

# A full gateway is asked again after this long even if none of our jobs has ended: others may use the account.
FULL_SECONDS = 30.0
# No gateway documents when its day ends: a used-up quota is tried again this often.
QUOTA_RETRY_SECONDS = 3600.0


@define
class Account:
    """The state of one account at one gateway. Times are seconds of the session's clock.

    Args:
        policy: bounds every wait.
        paused_until: nothing leaves before: a 429 was answered.
        submits_paused_until: no submit leaves before: no connection, or a day's quota is used up.
        full_until: no submit leaves before, unless a job ends: too many are running.
        failures: refused tries in a row, with nothing accepted in between.
        slow_downs: looks refused with 429 in a row.
        reacted_at: when it was last reacted to a refusal; answers to older requests teach nothing new.
        accepts: jobs accepted so far.
        stopped: why nothing may be sent any more (401, 403), or None.
        broke: the 402 that says what cannot be paid, or None; `refused_cost` is its price if that is known.
        used_up: the error of a used-up quota, in force before `submits_paused_until`.
    """

    policy: RetryPolicy
    paused_until: float = -math.inf
    submits_paused_until: float = -math.inf
    full_until: float = -math.inf
    failures: int = 0
    slow_downs: int = 0
    reacted_at: float = -math.inf
    accepts: int = 0
    stopped: KlingError | None = None
    broke: KlingError | None = None
    refused_cost: Cost | None = None
    used_up: KlingError | None = None

    def may_submit(self, now: float, in_flight: int) -> bool:
        """Tell whether a submit may leave. After two refusals in a row one probe goes alone, not a herd."""
        if self.failures >= 2 and in_flight:
            return False
        return now >= max(self.paused_until, self.submits_paused_until, self.full_until)

    def may_poll(self, now: float) -> bool:
        """Tell whether a look may leave."""
        return now >= self.paused_until

    def next_change(self, now: float) -> float:
        """Return when the next of the pauses ends, or infinity."""
        pauses = (self.paused_until, self.submits_paused_until, self.full_until)
        return min((pause for pause in pauses if pause > now), default=math.inf)

    def accepted(self) -> None:
        """Take note that the gateway took a job."""
        self.accepts += 1
        self.failures = 0

    def ended(self, *, refunded: bool) -> None:
        """Take note that a job ended: its slot at the gateway is free, and a refund may pay for another."""
        self.full_until = -math.inf
        if refunded:
            self.solvent()

    def solvent(self) -> None:
        """Forget that the account could not pay."""
        self.broke = None
        self.refused_cost = None

    def refused(self, now: float, sent_at: float, error: KlingError, *, running: int, jitter: float) -> None:
        """Take note of a submit that was surely not accepted and may be sent again.

        Args:
            now: the time.
            sent_at: when the request was sent; if that was before the last reaction, it teaches nothing.
            error: what was answered.
            running: our jobs at the gateway.
            jitter: a random number from 0 to 1.
        """
        if sent_at < self.reacted_at:
            return
        self.reacted_at = now
        self.failures += 1
        asked = min(error.retry_after or 0.0, self.policy.retry_after_cap)
        wait = max(asked, backoff(self.policy, self.failures, jitter))
        if isinstance(error, RateLimitError):
            self.paused_until = max(self.paused_until, now + wait)
        else:
            self.submits_paused_until = max(self.submits_paused_until, now + wait)
        if running and (isinstance(error, CapacityError) or (isinstance(error, RateLimitError) and self.failures >= 2)):
            self.full_until = now + max(wait, FULL_SECONDS)

    def slowed(self, now: float, sent_at: float, error: KlingError, jitter: float) -> None:
        """Take note of a look that was refused with 429: the whole account waits."""
        if sent_at < self.reacted_at:
            return
        self.reacted_at = now
        self.slow_downs += 1
        asked = min(error.retry_after or 0.0, self.policy.retry_after_cap)
        wait = max(asked, backoff(self.policy, self.slow_downs, jitter))
        self.paused_until = max(self.paused_until, now + wait)

    def looked(self) -> None:
        """Take note that a look was answered."""
        self.slow_downs = 0

    def exhausted(self, now: float, error: QuotaExhaustedError) -> None:
        """Take note that a day's quota is used up."""
        self.used_up = error
        self.failures = max(2, self.failures)
        wait = error.retry_after or QUOTA_RETRY_SECONDS
        self.submits_paused_until = max(self.submits_paused_until, now + wait)

    def could_not_pay(self, error: InsufficientCreditsError, cost: Cost | None) -> None:
        """Take note of a 402: whatever costs as much, or nobody knows how much, need not be asked for."""
        known = self.refused_cost
        self.refused_cost = cost if known is None or cost is None or cost.amount < known.amount else known
        self.broke = error

    def objection(self, cost: Cost | None, now: float) -> KlingError | None:
        """Return why a request of this cost should fail without being sent, or None."""
        if self.stopped is not None:
            return self.stopped
        if self.used_up is not None and self.policy.on_quota == "fail" and now < self.submits_paused_until:
            return self.used_up
        if self.broke is None:
            return None
        limit = self.refused_cost
        cheaper = cost is not None and limit is not None and cost.unit == limit.unit and cost.amount < limit.amount
        return None if cheaper else self.broke

    @property
    def objects(self) -> bool:
        """Whether any request would meet an objection."""
        return self.stopped is not None or self.broke is not None or self.used_up is not None
