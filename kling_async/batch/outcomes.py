"""Outcomes of earlier runs, from the journal."""

from pathlib import Path

from kling_async.batch.amounts import amount_of
from kling_async.batch.entry import Entry
from kling_async.batch.states import State
from kling_async.errors import KlingError
from kling_async.results import Failure, Outcome, Status, Success, Timing

STATUS = {
    State.PLANNED: Status.QUEUED,
    State.SUBMITTING: Status.SUBMITTING,
    State.ACCEPTED: Status.IN_PROGRESS,
    State.SUCCEEDED: Status.SUCCEEDED,
    State.DOWNLOADED: Status.SUCCEEDED,
    State.REJECTED: Status.FAILED,
    State.FAILED: Status.FAILED,
    State.IN_DOUBT: Status.IN_DOUBT,
}
"""The words of the public API for where a job stands."""


def outcome_of(entry: Entry, directory: Path | None) -> Outcome:
    """Return how a job of the journal ended; it must have."""
    timing = Timing(0.0, _ran(entry), 0, entry.attempt)
    video = entry.made()
    if video is not None:
        spent = amount_of(entry.spent) if entry.spent else video.credits
        file = None if entry.file is None or directory is None else directory / entry.file
        there = file if entry.state is State.DOWNLOADED else None
        return Success(entry.key, entry.asked(), video.task_id, video, spent, timing, there)
    error = entry.problem() or KlingError("the journal does not say why", key=entry.key)
    told = error.evolve(key=entry.key, task_id=error.task_id or entry.task_id)
    return Failure(
        entry.key, entry.asked(), told.task_id, told, entry.charged or "unknown", timing, STATUS[entry.state]
    )


def _ran(entry: Entry) -> float | None:
    if entry.accepted_at is None or entry.ended_at is None:
        return None
    return max(0.0, entry.ended_at - entry.accepted_at)
