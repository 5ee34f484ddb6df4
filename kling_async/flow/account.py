"""What one account can pay for, and whether it may ask at all: what is not worth a request."""

import math

from attrs import define

from kling_async.errors import InsufficientCreditsError, KlingError, QuotaExhaustedError
from kling_async.results import Cost
from kling_async.settings import RetryPolicy

# An account that could not pay may have been topped up: one job may try again after this long.
BROKE_RETRY_SECONDS = 600.0
# No gateway documents when its day ends: a used-up quota is tried again this often.
QUOTA_RETRY_SECONDS = 3600.0
QUOTA_LONGEST_SECONDS = 86_400.0


@define
class Account:
    """The standing of one account at one gateway. Times are seconds of the session's clock.

    Args:
        policy: what to do about a used-up quota.
        quota_until: no submit leaves before: a day's quota is used up.
        failures: refused tries in a row, with nothing accepted in between.
        accepts: jobs accepted so far.
        stopped: why nothing may be sent any more (401, 403), or None.
        broke: the 402 that says what cannot be paid, or None; `refused_cost` is its price if that is known,
            and after `broke_until` one job may try again. `broke_at` is when it was answered last.
        used_up: the error of a used-up quota, in force before `quota_until`.
    """

    policy: RetryPolicy
    quota_until: float = -math.inf
    failures: int = 0
    accepts: int = 0
    stopped: KlingError | None = None
    broke: KlingError | None = None
    refused_cost: Cost | None = None
    broke_until: float = -math.inf
    broke_at: float = -math.inf
    used_up: KlingError | None = None

    def next_submit(self, now: float, in_flight: int) -> float:
        """Return when a submit may leave; after a used-up quota one goes alone, to see whether it was reset."""
        if self.used_up is not None and in_flight:
            return math.inf
        return max(now, self.quota_until)

    def accepted(self, cost: Cost | None = None, sent_at: float = -math.inf) -> None:
        """Take note that the gateway took a job of this cost that was sent at this time."""
        self.accepts += 1
        self.failures = 0
        if self.used_up is not None and sent_at >= self.quota_until:
            self.used_up = None
        refused = self.refused_cost
        dear = cost is not None and refused is not None and cost.amount >= refused.amount
        if self.broke is not None and dear and sent_at > self.broke_at:
            self.solvent()  # there is money again

    def solvent(self) -> None:
        """Forget that the account could not pay: there is money, or a refund may pay for another job."""
        self.broke = None
        self.refused_cost = None

    def exhausted(self, now: float, error: QuotaExhaustedError) -> None:
        """Take note that a day's quota is used up."""
        self.used_up = error
        wait = min(error.retry_after or QUOTA_RETRY_SECONDS, QUOTA_LONGEST_SECONDS)
        self.quota_until = max(self.quota_until, now + wait)

    def could_not_pay(self, now: float, error: InsufficientCreditsError, cost: Cost | None) -> None:
        """Take note of a 402: whatever costs as much, or nobody knows how much, need not be asked for."""
        known = self.refused_cost
        if self.broke is None:
            self.refused_cost = cost
        elif known is None or cost is None:
            self.refused_cost = None
        else:
            self.refused_cost = min(known, cost, key=lambda each: each.amount)
        self.broke = error
        self.broke_at = now
        self.broke_until = now + BROKE_RETRY_SECONDS

    def objection(self, cost: Cost | None, now: float) -> KlingError | None:
        """Return why a request of this cost should fail without being sent, or None."""
        if self.stopped is not None:
            return self.stopped
        if self.used_up is not None and self.policy.on_quota == "fail" and now < self.quota_until:
            return self.used_up
        if self.broke is None:
            return None
        if now >= self.broke_until:
            self.broke_until = now + BROKE_RETRY_SECONDS  # one may try
            return None
        limit = self.refused_cost
        cheaper = cost is not None and limit is not None and cost.unit == limit.unit and cost.amount < limit.amount
        return None if cheaper else self.broke

    @property
    def objects(self) -> bool:
        """Whether any request would meet an objection."""
        return self.stopped is not None or self.broke is not None or self.used_up is not None
