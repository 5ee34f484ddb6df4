"""What the gateways of the sandbox know about a job: the order, the task it became, what a dialect shows of it."""

import math
from collections.abc import Mapping
from random import Random
from typing import Any, Protocol

from attrs import define, field, frozen

MILLI = 1000
"""Money is counted in thousandths of a credit, as integers, so that a ledger adds up exactly."""


def credits_of(milli: int) -> int | float:
    """Thousandths of a credit as the number that stands in an answer: an integer where it is one."""
    return milli // MILLI if milli % MILLI == 0 else milli / MILLI


class Refusal(Exception):  # noqa: N818 - a gateway's "no", not a fault of the sandbox
    """A call is refused. `reason` is the neutral word, `code` one that a script asks for literally."""

    def __init__(
        self,
        status: int,
        message: str = "",
        *,
        reason: str = "",
        code: str | None = None,
        field: str = "",
        retry_after: str | None = None,
    ) -> None:
        self.status = status
        self.reason = reason or _REASONS.get(status, "INTERNAL_ERROR" if status >= 500 else "INVALID_PARAMETER")
        self.message = message or _MESSAGES.get(self.reason, self.reason.replace("_", " ").capitalize())
        self.code = code
        self.field = field
        self.retry_after = retry_after
        super().__init__(self.message)


_REASONS = {
    401: "INVALID_API_KEY",
    402: "INSUFFICIENT_CREDITS",
    403: "FORBIDDEN",
    404: "NOT_FOUND",
    409: "CONFLICT",
    413: "TOO_LARGE",
    429: "RATE_LIMITED",
}
_MESSAGES = {
    "INVALID_API_KEY": "API key missing or invalid",
    "INSUFFICIENT_CREDITS": "Not enough credits for this task",
    "NOT_FOUND": "Task not found",
    "RATE_LIMITED": "Too many requests, slow down",
    "INTERNAL_ERROR": "Server error, try again later",
}


@frozen
class Order:
    """A submit that passed the checks: what is made, and what it costs in thousandths of a credit."""

    prompt: str
    seconds: float
    ratio: str
    price: int
    body: Mapping[str, Any]


@define(eq=False)
class Task:
    """An accepted order. `ends_at` is on the sandbox's clock and infinite for a task that never ends."""

    id: str
    gateway: str
    order: Order
    accepted_at: float
    ends_at: float
    expected: float
    seq: int
    reason: str | None = None
    code: str | None = None
    traits: list[Any] = field(factory=list)
    links: int = 1
    refused_link: bool = False
    shown: int = 0

    @property
    def fails(self) -> bool:
        """Whether it ends in failure."""
        return self.reason is not None


@define
class View:
    """A task as it looks at one moment. Times are Unix seconds; `progress` runs from 0 to 100."""

    task: Task
    status: str
    progress: int
    created: float
    completed: float
    expected: float
    urls: list[str]
    thumbnail: str


def view(task: Task, now: float, epoch: float, origin: str) -> View:
    """How the task looks at `now`: "queued" (just accepted), "running", "succeeded" or "failed"."""
    elapsed = now - task.accepted_at
    if now >= task.ends_at:
        status, progress = ("failed" if task.fails else "succeeded"), 100
    else:
        length = task.expected if math.isinf(task.ends_at) else task.ends_at - task.accepted_at
        progress = min(99, int(100 * elapsed / length)) if length > 0 else 0
        status = "running" if progress >= 5 else "queued"
    url = f"{origin}/_sandbox/videos/{task.id}.mp4" + (f"?link={task.links}" if task.links > 1 else "")
    return View(
        task,
        status,
        progress,
        epoch + task.accepted_at,
        epoch + task.ends_at,
        task.expected,
        [url],
        f"{origin}/_sandbox/thumbs/{task.id}.jpg",
    )


class Dialect(Protocol):
    """One gateway's way of speaking."""

    name: str

    def order(self, body: Mapping[str, Any]) -> Order:
        """Check a submit as documented, or raise `Refusal`."""

    def task_id(self, order: Order, random: Random, wall: float) -> str:
        """A new id of the documented shape."""

    def accepted(self, seen: View, headers: Mapping[str, str]) -> dict[str, Any]:
        """The answer to a submit."""

    def status(self, seen: View) -> dict[str, Any]:
        """The answer to a poll."""

    def refusal(self, refusal: Refusal) -> dict[str, Any]:
        """The answer that refuses."""
