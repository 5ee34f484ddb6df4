"""What became of a paid POST that did not simply succeed. One function of pure facts decides it for everybody."""

from enum import Enum

from kling_async.errors import (
    AuthenticationError,
    CapacityError,
    ConfigurationError,
    ConnectionFailedError,
    InsufficientCreditsError,
    InvalidRequestError,
    KlingError,
    PermissionDeniedError,
    QuotaExhaustedError,
    RateLimitError,
)


class Fate(Enum):
    """What may be done about a submit that failed."""

    REJECTED = "rejected"
    """It surely did nothing, and would do nothing again."""
    AGAIN = "again"
    """It surely was not accepted, or the gateway recognises it: it may be sent again, later."""
    IN_DOUBT = "in doubt"
    """Nobody knows: it must not be sent again."""


_REFUSALS = (
    InvalidRequestError,
    AuthenticationError,
    PermissionDeniedError,
    InsufficientCreditsError,
    QuotaExhaustedError,
    ConfigurationError,
)


def fate_of(error: KlingError, *, sent: bool, dedupes: bool) -> Fate:
    """Return what a failed submit means.

    Args:
        error: what the transport or the adapter said.
        sent: whether a byte of the request may have left: the send fence was passed.
        dedupes: whether the gateway makes one job only of two POSTs with the same key.
    """
    if isinstance(error, _REFUSALS):
        return Fate.REJECTED
    if not sent:
        wanted = isinstance(error, ConnectionFailedError) and error.code != "tls"
        return Fate.AGAIN if wanted else Fate.REJECTED
    if isinstance(error, (RateLimitError, CapacityError)) or error.charged == "no":
        return Fate.AGAIN
    if dedupes and error.code not in _NEVER_AGAIN:
        return Fate.AGAIN
    return Fate.IN_DOUBT


# apimart.ai says of this one: stop, and do not change the key.
_NEVER_AGAIN = frozenset({"idempotency_result_indeterminate", "contradiction"})
