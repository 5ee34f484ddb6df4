"""The user's own limits on a batch: what may still be spent, and how much may go wrong. Arithmetic, without I/O."""

import re
from decimal import Decimal
from typing import Any

from attrs import define

from kling_async.batch.amounts import amount_of
from kling_async.errors import BudgetExceededError, ConfigurationError, InsufficientCreditsError, KlingError, shown

JUDGED_FROM = 20
"""A share of failures is judged once so many jobs have ended."""


@define
class Limits:
    """What a run may do. Money is in millionths of the gateway's unit.

    Args:
        budget: the most that all jobs of the batch may cost together, over all its runs; None for no limit.
        held: what they take of it: spent, reserved or in doubt.
        most_per_job: the most one job may cost, or None.
        failures: so many failures end the run, or None; share: or so much of what has ended, 0 to 1.
        pending: reserved for jobs that are admitted and not in the journal yet.
        broke: the 402 that says what cannot be paid, or None; refused: the least that it refused, None if unknown.
        unit: for messages.
    """

    budget: int | None = None
    held: int = 0
    most_per_job: int | None = None
    failures: int | None = None
    share: float | None = None
    pending: int = 0
    broke: KlingError | None = None
    refused: int | None = None
    unit: str = "credits"
    failed: int = 0
    ended: int = 0

    @property
    def left(self) -> int | None:
        """What is left of the budget."""
        return None if self.budget is None else self.budget - self.held - self.pending

    @property
    def ceiling(self) -> int | None:
        """The most that the next job may cost, or None for anything. Below 0 nothing may be sent."""
        known = [self.left, self.most_per_job]
        if self.broke is not None:
            known.append(-1 if self.refused is None else self.refused - 1)
        return min((limit for limit in known if limit is not None), default=None)

    def objection(self, estimate: int | None) -> KlingError | None:
        """Return why a job of this price may not be sent now, or None."""
        if self.broke is not None and (estimate is None or self.refused is None or estimate >= self.refused):
            return self.broke
        if estimate is None:
            if self.budget is None and self.most_per_job is None:
                return None
            words = "the price of the next job is not known, and there is a limit on what may be spent"
            return _exceeded("unknown_price", words)
        if self.most_per_job is not None and estimate > self.most_per_job:
            allowed = f"at most {self._said(self.most_per_job)} is allowed for one job"
            words = f"the next job costs {self._said(estimate)}; {allowed}"
            return _exceeded("max_cost_per_job", words)
        left = self.left
        if left is not None and estimate > left:
            assert self.budget is not None  # noqa: S101 - there is something left of it
            rest = f"of {self._said(self.budget)} {amount_of(max(left, 0)):,f} are left"
            words = f"the next job costs {self._said(estimate)}, and {rest}"
            return _exceeded("budget", words)
        return None

    def _said(self, micro: int) -> str:
        return f"{amount_of(micro):,f} {self.unit}"

    def could_not_pay(self, error: InsufficientCreditsError, estimate: int | None) -> None:
        """Take note of a 402: only what is cheaper may still try."""
        if self.broke is None:
            self.refused = estimate
        elif self.refused is None or estimate is None:
            self.refused = None
        else:
            self.refused = min(self.refused, estimate)
        self.broke = error

    def solvent(self) -> None:
        """Forget that the account could not pay: a refund may pay for another job."""
        self.broke = None
        self.refused = None

    def judge(self, *, failed: bool) -> BudgetExceededError | None:
        """Count the end of a job; returns why the run must end now, or None."""
        self.ended += 1
        self.failed += failed
        if self.failures is not None and self.failed >= self.failures:
            return _exceeded("max_failures", f"{self.failed} jobs failed; the run ends at {self.failures}")
        if self.share is not None and self.ended >= JUDGED_FROM and self.failed > self.share * self.ended:
            words = f"{self.failed} of {self.ended} jobs failed; the run ends above {self.share:.3%}"
            return _exceeded("max_failures", words)
        return None


def _exceeded(code: str, message: str) -> BudgetExceededError:
    return BudgetExceededError(message, code=code, stage="validate", charged="no")


def failure_limit(value: Any) -> tuple[int | None, float | None]:
    """Return what `max_failures` says: a number of jobs, or a share of those that have ended.

    Raises `ConfigurationError` for anything but a whole number from 1 or a text like "5%".
    """
    if value is None:
        return None, None
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value, None
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"[1-9]\d{0,8}", text, re.ASCII):
            return int(text), None
        if re.fullmatch(r"\d{1,3}(\.\d{1,6})?%", text, re.ASCII) and Decimal(text[:-1]) <= 100:
            return None, float(Decimal(text[:-1]) / 100)
    words = f"max_failures must be a whole number from 1 or a share like '5%', not {shown(value)}"
    raise ConfigurationError(words, field="max_failures")
