"""What a batch has come to."""

from decimal import Decimal
from pathlib import Path
from typing import Any

from attrs import frozen

from kling_async.errors import KlingError


@frozen
class Summary:
    """How many jobs of a batch stand where, and what they cost.

    Args:
        path: the journal.
        gateway, unit: whose money it is.
        total: all jobs.
        planned: not sent yet.
        submitting: being sent at this moment.
        accepted: being made at the gateway, and paid for.
        succeeded: made, and not (yet) downloaded.
        downloaded: made, and on disk.
        rejected: refused by the gateway or by our own check; they cost nothing.
        failed: accepted, and then failed by the gateway.
        in_doubt: sent, and nobody can say whether they were accepted.
        spent: what the gateway says was charged.
        reserved: what jobs under way, in doubt or of untold price may cost, on top of that.
        budget: the limit, or None.
        stopped: why the last run of this process ended before everything was sent, or None.
    """

    path: Path
    gateway: str
    unit: str
    total: int
    planned: int
    submitting: int
    accepted: int
    succeeded: int
    downloaded: int
    rejected: int
    failed: int
    in_doubt: int
    spent: Decimal
    reserved: Decimal
    budget: Decimal | None = None
    stopped: KlingError | None = None

    @property
    def done(self) -> int:
        """Jobs that have their video."""
        return self.succeeded + self.downloaded

    @property
    def unfinished(self) -> int:
        """Jobs that another run would go on with."""
        return self.planned + self.submitting + self.accepted

    def to_dict(self) -> dict[str, Any]:
        """Return the summary as JSON-ready data; money as text."""
        names = ("total", "planned", "submitting", "accepted", "succeeded", "downloaded", "rejected", "failed")
        told: dict[str, Any] = {"path": str(self.path), "gateway": self.gateway, "unit": self.unit}
        told |= {name: getattr(self, name) for name in names} | {"in_doubt": self.in_doubt}
        told |= {"spent": f"{self.spent:f}", "reserved": f"{self.reserved:f}"}
        if self.budget is not None:
            told["budget"] = f"{self.budget:f}"
        if self.stopped is not None:
            told["stopped"] = self.stopped.to_dict()
        return told


@frozen
class Reconciled:
    """What `Batch.reconcile` found out: the keys of jobs that the gateway has, and of those still in doubt."""

    found: tuple[str, ...]
    left: tuple[str, ...]
