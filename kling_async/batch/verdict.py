"""What the end of a job in the session means for its record in the journal. Values in, values out."""

from decimal import Decimal

from kling_async.batch import entry as steps
from kling_async.batch.entry import Entry
from kling_async.batch.states import State, Step
from kling_async.errors import (
    AuthenticationError,
    BudgetExceededError,
    CapacityError,
    ConfigurationError,
    ConnectionFailedError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    JournalError,
    KlingError,
    PermissionDeniedError,
    ProtocolError,
    QuotaExhaustedError,
    RateLimitError,
    SessionClosedError,
    TaskCancelledError,
)
from kling_async.results import Failure, Outcome, Status, Success

_ACCOUNT = (
    AuthenticationError,
    PermissionDeniedError,
    InsufficientCreditsError,
    QuotaExhaustedError,
    BudgetExceededError,
    ConfigurationError,
)
_OUTAGE = (RateLimitError, CapacityError, ConnectionFailedError, GatewayUnavailableError)
_OURS = (SessionClosedError, TaskCancelledError, JournalError)


def step_of(entry: Entry, outcome: Outcome, spent: Decimal | None, now: float) -> tuple[Step, Entry] | None:
    """Return the step that an outcome is for a job, and the job after it; None where it stays as it is.

    Args:
        entry: the job as it stands.
        outcome: how the session ended it.
        spent: what the gateway said it costs, for an outcome that is silent.
        now: Unix time.
    """
    if isinstance(outcome, Success):
        paid = outcome.credits if outcome.credits is not None else spent
        return Step.SUCCEEDED, steps.succeeded(entry, outcome.video, paid, now)
    error = outcome.error
    if entry.state is State.IN_DOUBT:  # sent again under its old key, and no wiser
        return None
    if entry.state is State.ACCEPTED:
        ended = outcome.status is Status.FAILED and is_final(error)
        return (Step.FAILED, steps.failed(entry, error, outcome.charged, spent, now)) if ended else None
    if outcome.status is Status.IN_DOUBT:
        # Without an intent on record no byte has left.
        return None if entry.state is State.PLANNED else (Step.LOST, steps.lost(entry, error, now))
    if not comes_again(error):
        return Step.REJECTED, steps.rejected(entry, error, now)
    return (Step.POSTPONED, steps.postponed(entry)) if entry.state is State.SUBMITTING else None


def is_final(error: KlingError) -> bool:
    """Tell whether an accepted job has come to its end, and not only our looking at it."""
    if error.code == "no_video":
        return False  # made and paid for: the next run looks again for the URL that is missing
    return not isinstance(error, (*_ACCOUNT, *_OUTAGE, *_OURS))


def comes_again(error: KlingError) -> bool:
    """Tell whether a job that was surely not accepted may be sent later, as it is."""
    return isinstance(error, (*_ACCOUNT, *_OUTAGE, *_OURS))


def ends_the_run(error: KlingError) -> bool:
    """Tell whether nothing more can be sent: no key, no quota, or the program's own setting."""
    return isinstance(error, (AuthenticationError, PermissionDeniedError, QuotaExhaustedError, ConfigurationError))


def is_outage(error: KlingError) -> bool:
    """Tell whether the gateway cannot be reached or takes nothing at present."""
    return isinstance(error, _OUTAGE)


def is_late(outcome: Outcome) -> bool:
    """Tell whether a job is still being made at the gateway."""
    return isinstance(outcome, Failure) and outcome.status is Status.IN_PROGRESS


def counts_as_failure(outcome: Outcome) -> bool:
    """Tell whether a job has come to a bad end; one that is late or was not sent has not."""
    if isinstance(outcome, Success):
        return False
    return not is_late(outcome) and not isinstance(outcome.error, (*_ACCOUNT, *_OURS))


def unclear(entry: Entry) -> KlingError:
    """Return the cause of the doubt about a job whose program ended while it was being sent."""
    words = "the program ended while this was being sent"
    return ProtocolError(words, gateway=entry.gateway, code="interrupted", key=entry.key, stage="submit")
