"""What is wrong with what a session is asked, found before anything else happens."""

from kling_async.errors import Fault, InvalidRequestError, KlingError
from kling_async.requests import KINDS


def key_fault(key: object) -> KlingError | None:
    """Return why something cannot name a job, or None."""
    sound = key is None or (isinstance(key, str) and 0 < len(key) <= 200 and key.isprintable())
    message = "is not a name of 1 to 200 printable characters"
    return None if sound else invalid_argument("key", message)


def request_fault(request: object) -> KlingError | None:
    """Return why something is not a request, or None."""
    if isinstance(request, tuple(KINDS.values())):
        return None
    message = f"a {type(request).__name__} is not a request; make one with TextToVideo(…) or request_from(…)"
    return invalid_argument("request", message, "INVALID_TYPE")


def invalid_argument(field: str, message: str, code: str = "INVALID_PARAMETER") -> InvalidRequestError:
    """Return the error for an argument of a session's method."""
    return InvalidRequestError.of([Fault(field, code, message)])
