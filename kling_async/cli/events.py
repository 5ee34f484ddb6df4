"""What happens in a run, one value for each thing; the screen, the output and the count all read these."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

from attrs import field, frozen

from kling_async.cli.reading import Named
from kling_async.cli.words import fetch_command
from kling_async.errors import KlingError
from kling_async.results import Failure, Outcome, Status, Success

Kind = Literal["accepted", "succeeded", "failed", "in_doubt", "late", "not_sent", "downloaded", "download_failed"]

VERSION = 1


@frozen
class Event:
    """One thing that happened.

    Args:
        kind: what it was.
        job: whose it was, or None.
        task_id: the gateway's id, where it is known.
        credits: what the gateway says the job cost, or None.
        charged: "no", "yes", "unknown", or "" where nothing ended.
        error: why it failed, or None.
        file: where the video is.
        url: where the gateway keeps the video; signed, so only data shows it.
        seconds: how long the job ran.
        message: a sentence where there is no error.
    """

    kind: Kind
    job: Named | None = None
    task_id: str | None = None
    credits: Decimal | None = None
    charged: str = ""
    error: KlingError | None = None
    file: str | None = None
    url: str | None = field(default=None, repr=False)
    seconds: float | None = None
    message: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the event as it stands in a line of JSON."""
        told: dict[str, Any] = stamped(self.kind)
        if self.job is not None:
            told |= {"key": self.job.key, "row": self.job.row}
        if self.error is not None:
            told |= {"error": type(self.error).__name__, "code": self.error.code, "message": self.error.message}
        elif self.message:
            told["message"] = self.message
        told |= {"task_id": self.task_id, "charged": self.charged or None, "file": self.file, "url": self.url}
        told["credits"] = None if self.credits is None else f"{self.credits:f}"
        told["seconds"] = None if self.seconds is None else round(self.seconds, 3)
        return {name: value for name, value in told.items() if value is not None}


def stamped(kind: str) -> dict[str, Any]:
    """Return the beginning of a line of JSON: version, time and kind."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"v": VERSION, "t": now, "event": kind}


def ended(job: Named, outcome: Outcome, spent: Decimal | None) -> Event:
    """Return the event for the end of a job; `spent` is what the gateway said before, for an outcome that is silent."""
    ran = outcome.timing.ran
    if isinstance(outcome, Success):
        paid = outcome.credits if outcome.credits is not None else spent
        return Event("succeeded", job, outcome.task_id, credits=paid, charged="yes", url=outcome.video.url, seconds=ran)
    paid = spent if outcome.charged == "yes" else None
    error = outcome.error
    if outcome.task_id:  # the library names its method, which nobody at a command line can call
        error = error.evolve(message=error.message.replace("`attach`", f"`{fetch_command(outcome.task_id)}`"))
    return Event(_kind(outcome), job, outcome.task_id, credits=paid, charged=outcome.charged, error=error, seconds=ran)


def _kind(failure: Failure) -> Kind:
    if failure.status is Status.IN_DOUBT:
        return "in_doubt"
    if failure.status is Status.IN_PROGRESS:
        return "late"
    never_sent = failure.task_id is None and failure.charged == "no"
    closed = type(failure.error).__name__ == "SessionClosedError"
    if never_sent and (failure.status is Status.CANCELLED or closed):
        return "not_sent"
    return "failed"
