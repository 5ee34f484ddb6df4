"""The exit codes of `kling`, and which of them a run ends with. Codes are added, never reused."""

from kling_async.batch.summary import Summary
from kling_async.cli.tally import Tally
from kling_async.errors import (
    AuthenticationError,
    BudgetExceededError,
    CapacityError,
    ConfigurationError,
    ConnectionFailedError,
    DownloadError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    JournalError,
    KlingError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
)

DONE = 0
UNEXPECTED = 1
USAGE = 2
FAILURES = 3
NO_KEY = 4
LIMIT = 5
NO_CREDITS = 6
WORK_LEFT = 7
IN_DOUBT = 8
LOCKED = 9
INTERRUPTED = 130
_GATEWAY = (
    *(InsufficientCreditsError, QuotaExhaustedError, RateLimitError, CapacityError),
    *(ConnectionFailedError, GatewayUnavailableError),
)


def code_of_run(tally: Tally, *, stopped: int | None = None, broken: bool = False) -> int:
    """Return how a run ends: of what holds, the first of 130, 1, 4, 6, 8, 7, 3.

    Args:
        tally: what became of the jobs.
        stopped: the code of the signal that stopped the run, or None.
        broken: whether something of this machine failed, like the disk or stdout.
    """
    errors = [event.error for event in tally.troubles if event.error is not None]
    full_disk = any(isinstance(error, DownloadError) and error.code == "disk" for error in errors)
    left = stopped == WORK_LEFT or tally.counts["late"] or tally.counts["not_sent"]
    found = (
        (INTERRUPTED, stopped == INTERRUPTED),
        (UNEXPECTED, broken or full_disk),
        (NO_KEY, any(isinstance(error, (AuthenticationError, PermissionDeniedError)) for error in errors)),
        (NO_CREDITS, any(isinstance(error, (InsufficientCreditsError, QuotaExhaustedError)) for error in errors)),
        (IN_DOUBT, tally.counts["in_doubt"]),
        (WORK_LEFT, left),
        (FAILURES, tally.failures),
    )
    return next((code for code, holds in found if holds), DONE)


def code_of_batch(
    summary: Summary, *, downloads: bool, signal: int | None, broken: bool, fail_under: float | None
) -> int:
    """Return how a durable run ends: of what holds, the first of 130, 1, 4, 6, 5, 8, 7, 3.

    Args:
        summary: where the whole batch stands; jobs that failed in an earlier run count, until they are retried.
        downloads: whether videos are wanted on disk.
        signal: the code of the signal that stopped the run, or None.
        broken: whether something of this machine failed, like the disk or stdout.
        fail_under: the share of done jobs from which failures are no failure of the run, or None.
    """
    stopped = summary.stopped if summary.planned else None
    limited = isinstance(stopped, BudgetExceededError)
    missing = summary.succeeded if downloads else 0
    failures = summary.failed + summary.rejected + missing
    ended = summary.done + summary.failed + summary.rejected + summary.in_doubt
    enough = fail_under is not None and ended > 0 and (summary.done - missing) >= fail_under * ended
    found = (
        (INTERRUPTED, signal == INTERRUPTED),
        (UNEXPECTED, broken),
        (NO_KEY, isinstance(summary.stopped, (AuthenticationError, PermissionDeniedError))),
        (NO_CREDITS, isinstance(stopped, _GATEWAY)),
        (LIMIT, limited),
        (IN_DOUBT, summary.in_doubt + summary.submitting),
        (WORK_LEFT, summary.unfinished),
        (FAILURES, failures and not enough),
    )
    return next((code for code, holds in found if holds), DONE)


def code_of_error(error: KlingError) -> int:
    """Return the exit code for an error before a run could begin."""
    if isinstance(error, (AuthenticationError, PermissionDeniedError)):
        return NO_KEY
    if isinstance(error, ConfigurationError):
        return NO_KEY if error.field == "api_key" else USAGE
    if isinstance(error, (InsufficientCreditsError, QuotaExhaustedError)):
        return NO_CREDITS
    if isinstance(error, JournalError):
        return LOCKED if error.code == "locked" else UNEXPECTED
    return USAGE if isinstance(error, ValueError) else FAILURES
