"""What the steps of a batch's jobs are as events of a run, on the screen, on stdout and in the count."""

from decimal import Decimal
from pathlib import Path

from kling_async.batch.amounts import amount_of
from kling_async.batch.entry import Entry
from kling_async.batch.states import State, Step
from kling_async.cli.events import Event
from kling_async.cli.reading import Named
from kling_async.errors import DownloadError, KlingError
from kling_async.results import Failure, Status


def event_of(step: Step, old: Entry, new: Entry, directory: Path | None) -> Event | None:
    """Return the event for a step, or None for one that nobody is told of."""
    job, error = named(new), new.problem()
    event: Event | None = None
    match step:
        case Step.ACCEPTED:
            claim = amount_of(new.reserved) if new.reserved else None
            event = Event("accepted", job, new.task_id, credits=claim)
        case Step.SUCCEEDED:
            event = _made(job, old, new)
        case Step.DOWNLOADED:
            file = str(directory / new.file) if directory is not None and new.file else None
            event = Event("downloaded", job, new.task_id, file=file)
        case Step.UNFETCHED:
            event = Event("download_failed", job, new.task_id, charged="yes", error=error)
        case Step.REJECTED:
            event = Event("failed", job, charged="no", error=error)
        case Step.FAILED:
            charged = new.charged or "unknown"
            paid = _paid(old, new)
            event = Event("failed", job, new.task_id, credits=paid, charged=charged, error=error, seconds=_ran(new))
        case Step.LOST:
            event = Event("in_doubt", job, charged="unknown", error=error)
    return event


def _paid(old: Entry, new: Entry) -> Decimal | None:
    return amount_of(new.spent - old.spent) if new.spent > old.spent else None


def _made(job: Named, old: Entry, new: Entry) -> Event:
    video = new.made()
    url = video.url if video is not None else None
    return Event("succeeded", job, new.task_id, credits=_paid(old, new), charged="yes", url=url, seconds=_ran(new))


def _ran(entry: Entry) -> float | None:
    if entry.accepted_at is None or entry.ended_at is None:
        return None
    return max(0.0, entry.ended_at - entry.accepted_at)


def named(entry: Entry) -> Named:
    """Return what a line about a job needs."""
    return Named(entry.row if entry.row is not None else entry.id, entry.key)


def late(failure: Failure, row: int, resume: str) -> Event | None:
    """Return the event for a job that is still being made when its time is up; None for any other end."""
    if failure.status is not Status.IN_PROGRESS or isinstance(failure.error, DownloadError):
        return None
    error: KlingError = failure.error
    error = error.evolve(message=error.message.replace("`attach`", f"`{resume}`"))
    return Event("late", Named(row, failure.key), failure.task_id, error=error)


def left(entry: Entry) -> Event:
    """Return the event for a job that is under way when the program leaves at once."""
    job = named(entry)
    if entry.state is State.ACCEPTED:
        return Event("late", job, entry.task_id, message="still being made; it stays on record")
    words = "was being sent when the program left; whether the gateway took it is not known"
    return Event("in_doubt", job, charged="unknown", message=words)
