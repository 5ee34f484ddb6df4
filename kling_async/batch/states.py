"""What may happen to a job of a batch, and where it then stands. A table decides; the journal only stores."""

from collections.abc import Iterable
from enum import StrEnum

from kling_async.errors import JournalError


class State(StrEnum):
    """Where a job of a batch stands, as the journal keeps it."""

    PLANNED = "planned"
    SUBMITTING = "submitting"
    ACCEPTED = "accepted"
    SUCCEEDED = "succeeded"
    DOWNLOADED = "downloaded"
    REJECTED = "rejected"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"


class Step(StrEnum):
    """What happened to a job; each is an event of the journal."""

    PLANNED = "planned"
    """It entered the batch, or its request was changed before it had been sent."""
    SUBMITTING = "submitting"
    """The intent: recorded before the first byte leaves."""
    POSTPONED = "postponed"
    """Surely not accepted; it will be sent again."""
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    LOST = "in_doubt"
    """Nobody can say whether the gateway took it."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    FETCHING = "fetching"
    """Its file has a name, or the transfer has come further; the state stays."""
    DOWNLOADED = "downloaded"
    UNFETCHED = "download_failed"
    """The download failed; the video is still there."""
    RETRIED = "retried"
    """The user wants a new attempt."""


_AFTER: dict[tuple[State | None, Step], State] = {
    (None, Step.PLANNED): State.PLANNED,
    (State.PLANNED, Step.PLANNED): State.PLANNED,
    (State.PLANNED, Step.SUBMITTING): State.SUBMITTING,
    (State.PLANNED, Step.REJECTED): State.REJECTED,
    # Sent again under the same key, at a gateway that makes one job of both.
    (State.SUBMITTING, Step.SUBMITTING): State.SUBMITTING,
    (State.SUBMITTING, Step.POSTPONED): State.PLANNED,
    (State.SUBMITTING, Step.ACCEPTED): State.ACCEPTED,
    (State.SUBMITTING, Step.REJECTED): State.REJECTED,
    (State.SUBMITTING, Step.LOST): State.IN_DOUBT,
    (State.IN_DOUBT, Step.ACCEPTED): State.ACCEPTED,
    (State.ACCEPTED, Step.SUCCEEDED): State.SUCCEEDED,
    (State.ACCEPTED, Step.FAILED): State.FAILED,
    (State.SUCCEEDED, Step.FETCHING): State.SUCCEEDED,
    (State.SUCCEEDED, Step.UNFETCHED): State.SUCCEEDED,
    (State.SUCCEEDED, Step.DOWNLOADED): State.DOWNLOADED,
    # Only where its video can be had no more.
    (State.SUCCEEDED, Step.RETRIED): State.PLANNED,
    (State.REJECTED, Step.RETRIED): State.PLANNED,
    (State.FAILED, Step.RETRIED): State.PLANNED,
    (State.IN_DOUBT, Step.RETRIED): State.PLANNED,
}


def after(state: State | None, step: Step) -> State:
    """Return where a job stands after a step. Raises `JournalError` for a step that cannot follow."""
    found = _AFTER.get((state, step))
    if found is None:
        words = f"a job that is {state or 'unknown'} cannot become {step}"
        raise JournalError(words, code="impossible_step", stage="journal")
    return found


def replay(steps: Iterable[Step]) -> tuple[State, int]:
    """Return the state and the attempt that a job's events, in their order, lead to."""
    state: State | None = None
    attempt = 1
    for step in steps:
        state = after(state, step)
        attempt += step is Step.RETRIED
    if state is None:
        raise JournalError("a job without events stands nowhere", code="impossible_step", stage="journal")
    return state, attempt
