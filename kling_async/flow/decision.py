"""What became of one try at a paid POST. One function of pure facts decides it, for every path there is."""

from enum import Enum

from attrs import frozen

from kling_async.errors import (
    AuthenticationError,
    CapacityError,
    ConfigurationError,
    ConnectionFailedError,
    GatewayUnavailableError,
    InsufficientCreditsError,
    InvalidRequestError,
    KlingError,
    PermissionDeniedError,
    ProtocolError,
    QuotaExhaustedError,
    RateLimitError,
    ResponseLostError,
    SubmissionInDoubtError,
)
from kling_async.gateways.protocol import Accepted
from kling_async.wire import HttpResponse, is_task_id


class Fate(Enum):
    """What may be done after a try at a submit."""

    ACCEPTED = "accepted"
    """The gateway has the job, under a task id that can be used."""
    REJECTED = "rejected"
    """It surely did nothing, and would do nothing again."""
    AGAIN = "again"
    """It surely was not accepted, or the gateway recognises it: it may be sent again, later."""
    IN_DOUBT = "in doubt"
    """Nobody knows: it must not be sent again."""


@frozen
class Decision:
    """A fate, with what was accepted or the error for everything else."""

    fate: Fate
    accepted: Accepted | None = None
    error: KlingError | None = None


def decide(
    said: Accepted | KlingError, *, sent: bool, answer: HttpResponse | None = None, dedupes: bool = False
) -> Decision:
    """Return what a try at a paid POST means.

    The adapter's reading of an answer counts only as far as the facts of the wire allow it. A status is one that was
    read from a whole answer; no exception and no error class can stand for one.

    Args:
        said: what the adapter read in the answer, or the error that it, the transport or the journal raised.
        sent: whether a byte of the request may have left: the send fence was passed.
        answer: the whole answer to it, with its body bounded, or None.
        dedupes: whether the gateway makes one job only of two POSTs with the same key.
    """
    if isinstance(said, Accepted):
        odd = _oddity(said, answer)
        return Decision(Fate.ACCEPTED, accepted=said) if odd is None else _doubt(odd)
    error = said if said.stage else said.evolve(stage="submit")
    if not sent:
        return _kept_back(error)
    if error.retry_after is None and answer is not None and answer.retry_after is not None:
        error = error.evolve(retry_after=answer.retry_after)
    if not _tells(answer, error):
        error = _unbelieved(error)
    elif isinstance(error, _REFUSALS):
        return Decision(Fate.REJECTED, error=error)
    elif isinstance(error, (RateLimitError, CapacityError)) or error.charged == "no":
        return Decision(Fate.AGAIN, error=error)
    if dedupes and error.code not in _NEVER_AGAIN:
        return Decision(Fate.AGAIN, error=error)
    return _doubt(error)


_REFUSALS = (
    InvalidRequestError,
    AuthenticationError,
    PermissionDeniedError,
    InsufficientCreditsError,
    QuotaExhaustedError,
    ConfigurationError,
)
# apimart.ai says of the first: stop, and do not change the key.
_NEVER_AGAIN = frozenset({"idempotency_result_indeterminate", "contradiction"})


def _kept_back(error: KlingError) -> Decision:
    """Decide on what never left this machine: an outage passes, a certificate or a broken rule does not."""
    passes = isinstance(error, ConnectionFailedError) and error.code != "tls"
    return Decision(Fate.AGAIN if passes else Fate.REJECTED, error=error.evolve(charged="no"))


def _oddity(accepted: Accepted, answer: HttpResponse | None) -> KlingError | None:
    """Return what speaks against an acceptance: an id that cannot be used, or a status that says otherwise."""
    if not is_task_id(accepted.task_id):
        return ProtocolError("the gateway gave the job an id that cannot be used", code="bad_task_id")
    if answer is None or 200 <= answer.status < 300 or accepted.replayed:
        return None
    words = f"the gateway answered HTTP {answer.status} and named a task at once"
    return ProtocolError(words, code="contradiction", http_status=answer.status, task_id=accepted.task_id)


def _tells(answer: HttpResponse | None, error: KlingError) -> bool:
    """Tell whether an answer can prove that nothing was done.

    Without a whole answer nothing is known; behind a redirect, a 408 or a 5xx, whatever its body says, the request may
    have been executed, unless the gateway documents that status as "not executed".
    """
    if answer is None:
        return False
    documented = isinstance(error, GatewayUnavailableError) and error.charged == "no"
    refusal = 400 <= answer.status < 500 and answer.status != 408
    return 200 <= answer.status < 300 or refusal or documented


def _unbelieved(error: KlingError) -> KlingError:
    """Return the error without its claim that nothing was done."""
    claims = isinstance(error, (*_REFUSALS, RateLimitError, CapacityError, ConnectionFailedError))
    return error.become(GatewayUnavailableError, charged="unknown") if claims else error.evolve(charged="unknown")


def _doubt(cause: KlingError) -> Decision:
    return Decision(Fate.IN_DOUBT, error=in_doubt(cause))


def in_doubt(cause: KlingError) -> SubmissionInDoubtError:
    """Return the error for a submit whose fate cannot be known."""
    if isinstance(cause, SubmissionInDoubtError):
        return cause
    return SubmissionInDoubtError(
        f"sent, but whether the gateway accepted it is not known: {cause.message}",
        gateway=cause.gateway,
        http_status=cause.http_status,
        code=cause.code,
        request_id=cause.request_id,
        task_id=cause.task_id,
        stage="submit",
        charged="unknown",
        cause=cause,
        raw=cause.raw,
    )


def unanswered(host: str, code: str, words: str, *, sent: bool) -> KlingError:
    """Return the error for a request without a whole answer; only whether a byte left decides what it is."""
    if sent:
        return ResponseLostError(f"the answer of {host} was lost: {words}", code=code)
    return ConnectionFailedError(f"no connection to {host}: {words}", code=code, stage="connect")
