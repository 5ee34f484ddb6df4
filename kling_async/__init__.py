"""Make thousands of AI videos through Kling gateways: each paid for once, none lost.

The rooms, from the bottom up; imports go down only:

    errors, secret        what can go wrong; what is never shown
    requests, results     what is asked for and what comes back;  rows: from and to plain JSON
    settings, wire        small frozen values; HTTP as plain values
    gateways/  flow/      adapters and policies: pure, without I/O and without a clock
    transport             the only room that knows aiohttp
    task, session         the handle, and what looks after all of them;  download: files on disk
    sandbox/  testing     a gateway to try everything against
    cli/                  the command `kling`

Names are loaded when they are first used, so importing the package is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kling_async._version import __version__

if TYPE_CHECKING:
    from kling_async.errors import (
        AuthenticationError,
        BudgetExceededError,
        CapacityError,
        ConfigurationError,
        ConnectionFailedError,
        DownloadError,
        Fault,
        GatewayUnavailableError,
        GenerationFailedError,
        GenerationTimeoutError,
        InsufficientCreditsError,
        InvalidRequestError,
        JournalError,
        KlingError,
        NotFoundError,
        PermissionDeniedError,
        ProtocolError,
        QuotaExhaustedError,
        RateLimitError,
        ResponseLostError,
        SessionClosedError,
        SubmissionInDoubtError,
        TaskCancelledError,
        UnsupportedError,
    )
    from kling_async.requests import ImageToVideo, ReferenceToVideo, Request, Shot, Subject, TextToVideo, VideoEdit
    from kling_async.results import Balance, Cost, Failure, Outcome, Snapshot, Stats, Status, Success, Timing, Video
    from kling_async.rows import request_from, request_to
    from kling_async.session import KlingSession
    from kling_async.settings import DownloadPolicy, PollPlan, RateLimit, RetryPolicy, Timeouts
    from kling_async.task import TaskFuture

_ROOMS = {
    "errors": """AuthenticationError BudgetExceededError CapacityError ConfigurationError ConnectionFailedError
        DownloadError Fault GatewayUnavailableError GenerationFailedError GenerationTimeoutError
        InsufficientCreditsError InvalidRequestError JournalError KlingError NotFoundError PermissionDeniedError
        ProtocolError QuotaExhaustedError RateLimitError ResponseLostError SessionClosedError SubmissionInDoubtError
        TaskCancelledError UnsupportedError""",
    "requests": "ImageToVideo ReferenceToVideo Request Shot Subject TextToVideo VideoEdit",
    "results": "Balance Cost Failure Outcome Snapshot Stats Status Success Timing Video",
    "rows": "request_from request_to",
    "session": "KlingSession",
    "settings": "DownloadPolicy PollPlan RateLimit RetryPolicy Timeouts",
    "task": "TaskFuture",
}
_HOME = {name: room for room, names in _ROOMS.items() for name in names.split()}

__all__ = [
    "AuthenticationError",
    "Balance",
    "BudgetExceededError",
    "CapacityError",
    "ConfigurationError",
    "ConnectionFailedError",
    "Cost",
    "DownloadError",
    "DownloadPolicy",
    "Failure",
    "Fault",
    "GatewayUnavailableError",
    "GenerationFailedError",
    "GenerationTimeoutError",
    "ImageToVideo",
    "InsufficientCreditsError",
    "InvalidRequestError",
    "JournalError",
    "KlingError",
    "KlingSession",
    "NotFoundError",
    "Outcome",
    "PermissionDeniedError",
    "PollPlan",
    "ProtocolError",
    "QuotaExhaustedError",
    "RateLimit",
    "RateLimitError",
    "ReferenceToVideo",
    "Request",
    "ResponseLostError",
    "RetryPolicy",
    "SessionClosedError",
    "Shot",
    "Snapshot",
    "Stats",
    "Status",
    "Subject",
    "SubmissionInDoubtError",
    "Success",
    "TaskCancelledError",
    "TaskFuture",
    "TextToVideo",
    "Timeouts",
    "Timing",
    "UnsupportedError",
    "Video",
    "VideoEdit",
    "__version__",
    "request_from",
    "request_to",
]


def __getattr__(name: str) -> Any:
    room = _HOME.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{room}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
