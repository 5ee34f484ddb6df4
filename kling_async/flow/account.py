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
# Each refused probe doubles the wait, up to the longest.
FULL_SECONDS = 30.0
FULL_SECONDS_MOST = 120.0
# So many probes accepted in a row at the level where the gateway was full refute that it was full.
CLIMBS = 3
# An account that could not pay may have been topped up: one job may try again after this long.
BROKE_RETRY_SECONDS = 600.0
# No gateway documents when its day ends: a used-up quota is tried again this often.
QUOTA_RETRY_SECONDS = 3600.0
QUOTA_LONGEST_SECONDS = 86_400.0


@define
class Account:
    """The state of one account at one gateway. Times are seconds of the session's clock.

    Args:
        policy: bounds every wait.
        paused_until: nothing leaves before: a 429 was answered.
        submits_paused_until: no submit leaves before: no connection, or a day's quota is used up.
        level: how many of our jobs ran when the gateway said it was full, or None: below it submits leave freely.
        full_until: at that level no submit leaves before; then one probe does.
        full_for: how long that is, in seconds.
        climbs: probes at the level that were accepted in a row.
        failures: refused tries in a row, with nothing accepted in between.
        slow_downs: looks refused with 429 in a row.
        reacted_at: when it was last reacted to a refusal; answers to older requests teach nothing new.
        accepts: jobs accepted so far.
        stopped: why nothing may be sent any more (401, 403), or None.
        broke: the 402 that says what cannot be paid, or None; `refused_cost` is its price if that is known,
            and after `broke_until` one job may try again. `broke_at` is when it was answered last.
        used_up: the error of a used-up quota, in force before `submits_paused_until`.
    """

    policy: RetryPolicy
    paused_until: float = -math.inf
    submits_paused_until: float = -math.inf
    level: int | None = None
    full_until: float = -math.inf
    full_for: float = FULL_SECONDS
    climbs: int = 0
    failures: int = 0
    slow_downs: int = 0
    reacted_at: float = -math.inf
    accepts: int = 0
    stopped: KlingError | None = None
    broke: KlingError | None = None
    refused_cost: Cost | None = None
    broke_until: float = -math.inf
    broke_at: float = -math.inf
    used_up: KlingError | None = None

    def may_submit(self, now: float, in_flight: int, running: int) -> bool:
        """Tell whether a submit may leave.

        After two refusals in a row, and where the gateway was full before, one probe goes alone, not a herd.

        Args:
            now: the time.
            in_flight: submits without an answer.
            running: our jobs at the gateway.
        """
        if now < max(self.paused_until, self.submits_paused_until) or (self.failures >= 2 and in_flight):
            return False
        full = self.level is not None and running + in_flight >= self.level
        return not full or (in_flight == 0 and now >= self.full_until)

    def may_poll(self, now: float) -> bool:
        """Tell whether a look may leave."""
        return now >= self.paused_until

    def next_change(self, now: float) -> float:
        """Return when the next of the pauses ends, or infinity."""
        pauses = (self.paused_until, self.submits_paused_until, self.full_until)
        return min((pause for pause in pauses if pause > now), default=math.inf)

    def accepted(self, running: int, cost: Cost | None = None, sent_at: float = -math.inf) -> None:
        """Take note that the gateway took a job of this cost that was sent at this time; `running` counts it."""
        self.accepts += 1
        refused = self.refused_cost
        dear = cost is not None and refused is not None and cost.amount >= refused.amount
        if self.broke is not None and dear and sent_at > self.broke_at:
            self.solvent()  # there is money again
        self.failures = 0
        if self.level is not None and running > self.level:
            self.level = running
            self.climbs += 1
            if self.climbs >= CLIMBS:
                self.level = None  # the number of jobs is not what the gateway minds

    def solvent(self) -> None:
        """Forget that the account could not pay: there is money, or a refund may pay for another job."""
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
        if running:
            self._judge(now, error, running, wait)

    def _judge(self, now: float, error: KlingError, running: int, wait: float) -> None:
        """Tell a full gateway from a fast one.

        A 429 that keeps coming back while jobs run means capacity: wait for one to end instead of knocking. A gateway
        that says how long to wait minds the pace, and so does one that refuses fewer jobs than it had before.
        """
        below = self.level is not None and running < self.level
        if isinstance(error, CapacityError):
            full = True
        elif not isinstance(error, RateLimitError) or error.retry_after is not None or below:
            full = False
        else:
            full = self.failures >= 2 or self.level is not None
        if full:
            self.full_for = min(2 * self.full_for, FULL_SECONDS_MOST) if self.level == running else FULL_SECONDS
            self.level = running
            self.climbs = 0
            self.full_until = now + max(wait, self.full_for)
            self.failures = min(self.failures, 1)
        elif below:
            self.level = None

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
        wait = min(error.retry_after or QUOTA_RETRY_SECONDS, QUOTA_LONGEST_SECONDS)
        self.submits_paused_until = max(self.submits_paused_until, now + wait)

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
        if self.used_up is not None and self.policy.on_quota == "fail" and now < self.submits_paused_until:
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
