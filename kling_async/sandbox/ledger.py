"""The ledger: what was asked, accepted, charged and refunded, so that a test can say who paid for what."""

from collections import Counter
from typing import Any

from attrs import asdict, define, field

from kling_async.sandbox.jobs import credits_of


@define(eq=False)
class Submit:
    """One submit call. `at` is seconds on the sandbox's clock; `status` is None when no answer was sent.

    `charged` and `refunded` are credits. `replayed` marks a repeated idempotency key: no new task, no new charge.
    """

    seq: int
    at: float
    gateway: str
    prompt: str
    operation: str = "submit"
    idempotency_key: str | None = None
    status: int | None = None
    accepted: bool = False
    answered: bool = False
    task_id: str | None = None
    charged: int | float = 0
    refunded: int | float = 0
    replayed: bool = False


@define(eq=False)
class Ledger:
    """All submits in order, and counts of the rest."""

    submits: list[Submit] = field(factory=list)
    polls_per_task: Counter[str] = field(factory=Counter)
    accepted_per_prompt: Counter[str] = field(factory=Counter)
    refused: Counter[int] = field(factory=Counter)
    polls: int = 0
    downloads: int = 0
    uploads: int = 0
    balances: int = 0
    credentials_on_downloads: int = 0
    running: int = 0
    max_running: int = 0
    accepted: int = 0
    _charged: int = field(default=0, init=False)
    _refunded: int = field(default=0, init=False)

    @property
    def charged(self) -> int | float:
        """Credits charged for accepted tasks."""
        return credits_of(self._charged)

    @property
    def refunded(self) -> int | float:
        """Credits given back for failed tasks."""
        return credits_of(self._refunded)

    @property
    def net(self) -> int | float:
        """Credits charged and not given back."""
        return credits_of(self._charged - self._refunded)

    @property
    def duplicates(self) -> list[str]:
        """The prompts that were accepted more than once."""
        return [prompt for prompt, count in self.accepted_per_prompt.items() if count > 1]

    @property
    def totals(self) -> dict[str, Any]:
        """The sums: calls, credits, running tasks, refusals by status."""
        return {
            "submits": len(self.submits),
            "accepted": self.accepted,
            "charged": self.charged,
            "refunded": self.refunded,
            "net": self.net,
            "polls": self.polls,
            "downloads": self.downloads,
            "uploads": self.uploads,
            "balances": self.balances,
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "running": self.running,
            "max_running": self.max_running,
            "credentials_on_downloads": self.credentials_on_downloads,
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it: totals, submits, accepted per prompt, polls per task, duplicates."""
        return {
            "totals": self.totals,
            "submits": [asdict(submit) for submit in self.submits],
            "accepted_per_prompt": dict(self.accepted_per_prompt),
            "polls_per_task": dict(self.polls_per_task),
            "duplicates": self.duplicates,
        }

    def open(self, at: float, gateway: str, prompt: str, idempotency_key: str | None) -> Submit:
        """Note a submit call."""
        entry = Submit(len(self.submits) + 1, at, gateway, prompt, idempotency_key=idempotency_key)
        self.submits.append(entry)
        return entry

    def accept(self, entry: Submit, task_id: str, price: int) -> None:
        """Note that a submit was accepted and charged (thousandths of a credit)."""
        entry.accepted, entry.task_id, entry.charged = True, task_id, credits_of(price)
        self.accepted += 1
        self.accepted_per_prompt[entry.prompt] += 1
        self._charged += price
        self.running += 1
        self.max_running = max(self.max_running, self.running)

    def end(self, seq: int, refund: int) -> None:
        """Note that a task ended, with its refund (thousandths of a credit)."""
        self.running -= 1
        if refund:
            self._refunded += refund
            self.submits[seq - 1].refunded = credits_of(refund)

    def close(self, entry: Submit, status: int, answered: bool) -> None:
        """Note what a submit was answered."""
        entry.answered, entry.status = answered, status if answered else None
        if answered and not entry.accepted and not entry.replayed:
            self.refused[status] += 1

    def lost(self, seq: int) -> None:
        """Note that the answer to a submit did not reach anybody."""
        entry = self.submits[seq - 1]
        entry.answered, entry.status = False, None
