"""What comes back: snapshots of a running job, the video, and how a request ended."""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import field, frozen

from kling_async.errors import KlingError, plain

if TYPE_CHECKING:
    from kling_async.requests import Request


class Status(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    SUBMITTING = "submitting"
    IN_PROGRESS = "in_progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"

    @property
    def terminal(self) -> bool:
        """Whether this status is final as far as the session is concerned."""
        return self in _TERMINAL


_TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELLED, Status.IN_DOUBT})


@frozen
class Cost:
    """An amount of money in the gateway's own unit."""

    amount: Decimal
    unit: str = "credits"

    def __str__(self) -> str:
        return f"{self.amount:f} {self.unit}"


@frozen
class Balance:
    """What is left on the account.

    Args:
        amount: what is left, in `unit`; None where the account is unlimited.
        unit: the gateway's unit of money.
        used: what was used so far, where the gateway says so.
        unlimited: whether the account has no limit.
    """

    amount: Decimal | None
    unit: str = "credits"
    used: Decimal | None = None
    unlimited: bool = False


@frozen
class Stats:
    """What a session is doing at this moment.

    Args:
        slots: the most jobs in flight, or None for no limit.
        used: jobs in flight.
        waiting: jobs that wait for their turn.
        refused: requests that were answered with 429 so far.
    """

    slots: int | None
    used: int
    waiting: int
    refused: int


@frozen
class Snapshot:
    """What one look at a job showed.

    Args:
        task_id: the gateway's id; None before the job is accepted.
        status: where the job stands.
        raw_status: the gateway's own word.
        progress: 0.0 to 1.0, or None where the gateway does not say.
        urls: where the finished video is, best first; a signed URL may be a secret, so the repr leaves it out.
        thumbnail_url: a still picture, or None.
        duration: the finished video's length in seconds, or None.
        credits: what the gateway says it charged, or None.
        odd_credits: what it says instead, where that is no amount: it is dropped, and reported.
        prompt: the prompt that the last answer shows for the job, as it stands there, or None; left out of the repr.
        created_at, finished_at: when the gateway says the job began and ended.
        estimated_at: when the gateway expects the job to end.
        expires_at: when the URLs stop working.
        code, message: why the job failed, in the gateway's words.
        raw: the gateway's last answer for this job; empty while it runs.
        named: whether the answer named the task itself, so that it cannot be another's.
    """

    task_id: str | None
    status: Status
    raw_status: str = ""
    progress: float | None = None
    urls: tuple[str, ...] = field(default=(), repr=False)
    thumbnail_url: str | None = field(default=None, repr=False)
    duration: float | None = None
    credits: Decimal | None = None
    created_at: datetime | None = None
    finished_at: datetime | None = None
    estimated_at: datetime | None = None
    expires_at: datetime | None = None
    code: str | None = None
    message: str | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)
    named: bool = True
    odd_credits: str | None = None
    prompt: str | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the public part as JSON-ready data, without the raw answer."""
        told = {name: getattr(self, name) for name in _SNAPSHOT_FIELDS}
        return {name: plain(value) for name, value in told.items() if value not in (None, (), "")}


_SNAPSHOT_FIELDS = (
    "task_id",
    "status",
    "progress",
    "urls",
    "thumbnail_url",
    "duration",
    "credits",
    "created_at",
    "finished_at",
    "estimated_at",
    "expires_at",
    "code",
    "message",
)


@frozen
class Video:
    """A finished video.

    Args:
        task_id: the gateway's id for the job.
        url: where the file is; a signed URL may be a secret, so the repr leaves it out.
        urls: every file of the job, `url` first.
        thumbnail_url: a still picture, or None.
        duration: length in seconds as the gateway states it, or None.
        expires_at: when the URLs stop working, where the gateway says so.
        credits: what the gateway says it charged, or None.
        raw: the gateway's answer, so that nothing it said is lost.
    """

    task_id: str
    url: str = field(repr=False)
    urls: tuple[str, ...] = field(default=(), repr=False)
    thumbnail_url: str | None = field(default=None, repr=False)
    duration: float | None = None
    expires_at: datetime | None = None
    credits: Decimal | None = None
    raw: Mapping[str, Any] = field(factory=dict, repr=False, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return the video as JSON-ready data, without the raw answer."""
        names = ("task_id", "url", "urls", "thumbnail_url", "duration", "expires_at", "credits")
        return {name: plain(getattr(self, name)) for name in names if getattr(self, name) not in (None, ())}


@frozen
class Timing:
    """How long a job took, in seconds, and how often it was asked about.

    Args:
        queued: from `submit` until the POST that was accepted (or the end, if none was).
        ran: from acceptance until the end was seen; None where it was never accepted.
        polls: looks at the job.
        attempts: POSTs sent for it.
    """

    queued: float = 0.0
    ran: float | None = None
    polls: int = 0
    attempts: int = 0


@frozen
class Success:
    """A request that ended with a video; `file` is where a batch has put it."""

    key: str
    request: "Request | None" = field(repr=False)
    task_id: str
    video: Video
    credits: Decimal | None = None
    timing: Timing = Timing()
    file: Path | None = None

    @property
    def ok(self) -> bool:
        """True: there is a video."""
        return True

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-ready data."""
        return {
            "key": self.key,
            "status": Status.SUCCEEDED.value,
            "task_id": self.task_id,
            "video": self.video.to_dict(),
            "credits": plain(self.credits),
            **({"file": str(self.file)} if self.file is not None else {}),
        }


@frozen
class Failure:
    """A request that ended without a video; `error` says why and `charged` whether it cost money."""

    key: str
    request: "Request | None" = field(repr=False)
    task_id: str | None
    error: KlingError
    charged: str = "unknown"
    timing: Timing = Timing()
    status: Status = Status.FAILED

    @property
    def ok(self) -> bool:
        """False: there is no video."""
        return False

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON-ready data."""
        return {
            "key": self.key,
            "status": self.status.value,
            "task_id": self.task_id,
            "charged": self.charged,
            "error": self.error.to_dict(),
        }


Outcome = Success | Failure


def video_of(snapshot: Snapshot) -> Video:
    """Return the video that a succeeded snapshot with a URL describes."""
    return Video(
        task_id=snapshot.task_id or "",
        url=snapshot.urls[0],
        urls=snapshot.urls,
        thumbnail_url=snapshot.thumbnail_url,
        duration=snapshot.duration,
        expires_at=snapshot.expires_at,
        credits=snapshot.credits,
        raw=snapshot.raw,
    )
