"""What can go wrong, split by what the handler of the error will do about it.

KlingError
├─ InvalidRequestError          also a ValueError: this request will never be taken as it is
│  ├─ UnsupportedError          this gateway has no such option; nothing was sent
│  └─ NotFoundError             the gateway does not know the thing named
├─ AuthenticationError          the key is missing or wrong; the account stops
├─ PermissionDeniedError        the key may not do this; the account stops
├─ InsufficientCreditsError     the account cannot pay for it
├─ RateLimitError               too many requests, for longer than the retry policy allows
├─ CapacityError                too many jobs running, for longer than the retry policy allows
├─ QuotaExhaustedError          a day's quota is used up
├─ ConnectionFailedError        no byte was sent
├─ GatewayUnavailableError      the gateway answered that it is in trouble
├─ ResponseLostError            bytes were sent and no whole answer came back
├─ ProtocolError                an answer came back that cannot be understood
├─ SubmissionInDoubtError       a paid request was sent and nobody can say whether it was accepted
├─ GenerationFailedError        the gateway accepted the job and then failed it
├─ GenerationTimeoutError       we stopped looking; the job may still run
├─ DownloadError                the video is there, the file is not
├─ TaskCancelledError           the user withdrew the job
├─ BudgetExceededError          a limit of the user's own was reached
├─ SessionClosedError           the session ended before the job did
├─ ConfigurationError           the library is used or set up wrongly
└─ JournalError                 the durable record cannot be read or written

Every error pickles, turns into plain data with `to_dict()`, and never holds a secret.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, ClassVar, Literal, NamedTuple, Self

from kling_async.traces import BEGINNING, CUT_OFF, Traces, traces_of

Stage = Literal["validate", "connect", "submit", "poll", "download", "journal"]
Charged = Literal["no", "yes", "unknown"]

_FIELDS = (
    "gateway",
    "http_status",
    "code",
    "field",
    "request_id",
    "task_id",
    "key",
    "retry_after",
    "attempts",
    "stage",
    "charged",
    "cause",
    "raw",
)


class Fault(NamedTuple):
    """One thing that is wrong with a request: the field, a code, and a readable sentence."""

    field: str
    code: str
    message: str


class KlingError(Exception):
    """The root of every error this library raises on purpose.

    Attributes:
        message: what happened, in a sentence; the gateway's own words where it gave any.
        gateway: the name of the gateway, or None where none is concerned.
        http_status: the status of the gateway's answer, or None where there was no answer.
        code: the gateway's own code as text, or one of ours.
        field: the field of the request that is at fault.
        request_id: the gateway's id for the HTTP request.
        task_id: the gateway's id for the job, where it is known.
        key: the job's name in this session.
        retry_after: seconds the gateway asked to wait.
        attempts: how often the request was tried.
        stage: where it happened: validate, connect, submit, poll, download or journal.
        charged: "no", "yes" or "unknown": whether this cost money.
        cause: the error behind this one (a `KlingError`), or None.
        raw: a bounded piece of the gateway's answer.
    """

    default_message: ClassVar[str] = "something went wrong"
    default_charged: ClassVar[Charged] = "unknown"

    def __init__(
        self,
        message: str = "",
        *,
        gateway: str | None = None,
        http_status: int | None = None,
        code: str | None = None,
        field: str | None = None,
        request_id: str | None = None,
        task_id: str | None = None,
        key: str | None = None,
        retry_after: float | None = None,
        attempts: int | None = None,
        stage: Stage | None = None,
        charged: Charged | None = None,
        cause: "KlingError | None" = None,
        raw: str | None = None,
    ) -> None:
        self.message = message or self.default_message
        super().__init__(self.message)
        self.gateway = gateway
        self.http_status = http_status
        self.code = code
        self.field = field
        self.request_id = request_id
        self.task_id = task_id
        self.key = key
        self.retry_after = retry_after
        self.attempts = attempts
        self.stage = stage
        self.charged: Charged = charged or self.default_charged
        self.cause = cause
        self.raw = raw

    def __str__(self) -> str:
        notes = [text for text in (self.gateway, self.code) if text and text not in self.message]
        if self.http_status and not (self.code and str(self.http_status) in self.code):
            notes.append(f"HTTP {self.http_status}")
        if self.task_id:
            notes.append(f"task {self.task_id}")
        return f"{self.message} ({', '.join(notes)})" if notes else self.message

    def __repr__(self) -> str:
        said = {name: getattr(self, name) for name in _FIELDS if name != "raw" and getattr(self, name) is not None}
        return f"{type(self).__name__}({self.message!r}{''.join(f', {n}={v!r}' for n, v in said.items())})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._state())

    def _state(self) -> dict[str, Any]:
        return {"message": self.message, **{name: getattr(self, name) for name in _FIELDS}}

    def evolve(self, **changes: Any) -> Self:
        """Return a new error of the same class with some attributes changed and no traceback."""
        return type(self)(**{**self._state(), **changes})

    def become(self, kind: "type[KlingError]", message: str = "", **changes: Any) -> "KlingError":
        """Return an error of another class that knows what this one knows."""
        known = {**KlingError._state(self), **changes}
        return kind(**{**known, "message": message or self.message})

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain JSON-ready data; attributes that are None are left out."""
        told: dict[str, Any] = {"error": type(self).__name__, "message": self.message}
        for name in _FIELDS:
            value = getattr(self, name)
            if value is not None:
                told[name] = value.to_dict() if isinstance(value, KlingError) else value
        return told

    def scrubbed(self, secret: str) -> Self:
        """Return the same error with every trace of `secret` replaced by `***`."""
        changes: dict[str, Any] = {
            name: scrub(getattr(self, name), secret)
            for name in ("message", "code", "field", "request_id", "raw")
            if isinstance(getattr(self, name), str)
        }
        if self.task_id is not None and repeats(self.task_id, secret):
            changes["task_id"] = None  # masked, it would be another id
        if self.cause is not None:
            changes["cause"] = self.cause.scrubbed(secret)
        return self.evolve(**changes)


def _rebuild(kind: type[KlingError], state: dict[str, Any]) -> KlingError:
    return kind(**state)


def scrub(value: Any, secret: str) -> Any:
    """Return `value` with every trace of `secret` masked in every string that it holds; see `kling_async.traces`."""
    return _scrubbed(value, traces_of(secret)) if len(secret) >= CUT_OFF else value


def _scrubbed(value: Any, traces: Traces) -> Any:
    if isinstance(value, str):
        return traces.masked(value)
    if isinstance(value, Mapping):
        return {_scrubbed(name, traces): _scrubbed(item, traces) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_scrubbed(item, traces) for item in value]
    return value


def mentions(value: Any, secret: str) -> bool:
    """Tell whether `scrub` would find a trace of `secret` in a map, a list or a tuple."""
    return len(secret) >= CUT_OFF and _mentioned(value, traces_of(secret))


def repeats(text: str, secret: str) -> bool:
    """Tell whether a text holds the whole of `secret`; how it begins may be how anything of the gateway's begins."""
    return len(secret) >= BEGINNING and traces_of(secret).whole_in(text)


def _mentioned(value: Any, traces: Traces) -> bool:
    for part in value if isinstance(value, (list, tuple)) else (*value, *value.values()):
        if isinstance(part, str):
            if traces.found_in(part):
                return True
        elif isinstance(part, _LEAVES):
            continue
        elif isinstance(part, (list, tuple, dict, Mapping)) and _mentioned(part, traces):
            return True
    return False


_LEAVES = (int, float, type(None))
"""To ask whether something is a `Mapping` is slow, and much of an answer is one of these."""


class InvalidRequestError(KlingError, ValueError):
    """The request will not be taken as it is: our own check, or any 4xx that has no class of its own.

    `faults` lists everything our own check found, each with its field, code and sentence.
    """

    default_message = "the request is not valid"
    default_charged: ClassVar[Charged] = "no"

    def __init__(self, message: str = "", *, faults: Iterable[Fault] = (), **known: Any) -> None:
        super().__init__(message, **known)
        self.faults = tuple(Fault(*fault) for fault in faults)

    def _state(self) -> dict[str, Any]:
        return {**super()._state(), "faults": self.faults}

    def scrubbed(self, secret: str) -> Self:
        """Return the same error, its faults too, with every trace of `secret` replaced by `***`."""
        faults = tuple(Fault(*scrub(fault, secret)) for fault in self.faults)
        return super().scrubbed(secret).evolve(faults=faults)

    @classmethod
    def of(cls, faults: Iterable[Fault], **known: Any) -> Self:
        """Return one error for all the faults that our own check found in a request."""
        found = tuple(faults)
        message = "; ".join(f"{fault.field}: {fault.message}" for fault in found)
        return cls(message, code=found[0].code, field=found[0].field, stage="validate", faults=found, **known)


class UnsupportedError(InvalidRequestError):
    """This gateway has no such option; nothing was sent and nothing silently dropped."""

    default_message = "the gateway does not support this"


class NotFoundError(InvalidRequestError):
    """The gateway does not know the thing named (404). On polls only after a grace of 60 seconds."""

    default_message = "the gateway does not know this"


class AuthenticationError(KlingError):
    """The key is missing or wrong (401). What this account has not sent yet fails without a request."""

    default_message = "the gateway refused the key"
    default_charged: ClassVar[Charged] = "no"


class PermissionDeniedError(KlingError):
    """The key may not do this (403). What this account has not sent yet fails without a request."""

    default_message = "the gateway denied permission"
    default_charged: ClassVar[Charged] = "no"


class InsufficientCreditsError(KlingError):
    """The account cannot pay (402). What costs as much or more fails without a request."""

    default_message = "the account has not enough credits"
    default_charged: ClassVar[Charged] = "no"


class RateLimitError(KlingError):
    """Too many requests (429), for longer than the retry policy allows."""

    default_message = "the gateway says there are too many requests"
    default_charged: ClassVar[Charged] = "no"


class CapacityError(KlingError):
    """Too many jobs running at the gateway, for longer than the retry policy allows."""

    default_message = "the gateway says too many jobs are running"
    default_charged: ClassVar[Charged] = "no"


class QuotaExhaustedError(KlingError):
    """A day's quota is used up; `retry_after` says in how many seconds it should reset."""

    default_message = "the quota is used up"
    default_charged: ClassVar[Charged] = "no"


class ConnectionFailedError(KlingError):
    """No byte was sent: refused, no such host, TLS or connect timeout."""

    default_message = "no connection to the gateway"
    default_charged: ClassVar[Charged] = "no"


class GatewayUnavailableError(KlingError):
    """The gateway, or something in front of it, answered that it is in trouble (5xx, 408, a redirect)."""

    default_message = "the gateway is not available"


class ResponseLostError(KlingError):
    """The request was sent and no whole answer came back."""

    default_message = "the answer was lost"


class ProtocolError(KlingError):
    """An answer came back that cannot be understood, or that lacks what it must hold."""

    default_message = "the gateway's answer cannot be understood"


class SubmissionInDoubtError(KlingError):
    """A paid request was sent and nobody can say whether it was accepted. It is never sent again by itself."""

    default_message = "the request was sent, but whether the gateway accepted it is not known"


class GenerationFailedError(KlingError):
    """The gateway accepted the job and then failed, cancelled or expired it; `charged` says who pays."""

    default_message = "the generation failed"


class GenerationTimeoutError(KlingError):
    """We stopped looking. The job may still run: `task_id` is kept and `attach` picks it up."""

    default_message = "the job did not end in time; it may still run at the gateway"
    default_charged: ClassVar[Charged] = "yes"


class DownloadError(KlingError):
    """The video was made but its file is not on disk.

    `code` is one of blocked, expired, too_large, too_slow, not_a_video, redirects, disk, network.
    """

    default_message = "the download failed"
    default_charged: ClassVar[Charged] = "yes"


class TaskCancelledError(KlingError):
    """The user withdrew the job. Not `asyncio.CancelledError`, which belongs to the awaiter's own asyncio task."""

    default_message = "the job was cancelled"
    default_charged: ClassVar[Charged] = "no"


class BudgetExceededError(KlingError):
    """A limit of the user's own was reached before this job could be sent."""

    default_message = "the budget does not allow this"
    default_charged: ClassVar[Charged] = "no"


class SessionClosedError(KlingError):
    """The session ended before the job did; `task_id` tells what `attach` can pick up."""

    default_message = "the session is closed"
    default_charged: ClassVar[Charged] = "no"


class ConfigurationError(KlingError):
    """The library is set up or used wrongly: no key, an unknown gateway, another event loop."""

    default_message = "the configuration is not valid"
    default_charged: ClassVar[Charged] = "no"


class JournalError(KlingError):
    """The durable record cannot be read or written; nothing is sent without it."""

    default_message = "the journal cannot be used"


_KINDS: dict[str, type[KlingError]] = {}


def error_from(known: Mapping[str, Any]) -> KlingError:
    """Return the error that `to_dict` told of; one of a class that nobody knows is a plain `KlingError`."""
    name = str(known.get("error"))
    if name not in _KINDS:  # a journal holds a million of them, and a plug-in may have added one
        _KINDS.update({kind.__name__: kind for kind in _all_kinds(KlingError)})
    kind = _KINDS.get(name, KlingError)
    told = {name: known[name] for name in _FIELDS if name in known}
    if isinstance(told.get("cause"), Mapping):
        told["cause"] = error_from(told["cause"])
    return kind(str(known.get("message", "")), **told)


def _all_kinds(kind: type[KlingError]) -> Iterable[type[KlingError]]:
    yield kind
    for derived in kind.__subclasses__():
        yield from _all_kinds(derived)


def bounded(text: str, limit: int = 2048) -> str:
    """Return `text` as at most `limit` printable characters, control and direction marks escaped."""
    if len(text) <= limit and text.isprintable():
        return text
    head = text[: limit + 1]
    shown = "".join(char if char.isprintable() or char == "\n" else ascii(char)[1:-1] for char in head)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


_WORD = re.compile(r"[A-Za-z0-9_.:\-]{1,64}")


def as_word(code: str | None) -> str:
    """Return a code for a line of a log: what is no plain word may be a sentence, a prompt or a URL, and is a dash."""
    return code if code is not None and _WORD.fullmatch(code) else "-"


def on_one_line(text: object, limit: int = 200) -> str:
    """Return a text for a line of a log: bounded, with line breaks and everything else that is not printed escaped."""
    return bounded(str(text), limit).replace("\n", "\\n")


def shown(value: object, limit: int = 80) -> str:
    """Return the repr of any value, bounded; one that has none (too deep, too many digits) is named by its type."""
    try:
        return bounded(repr(value), limit)
    except Exception:  # noqa: BLE001 - the repr of a stranger's value may raise anything
        return f"a value of type {type(value).__name__}"


def plain(value: Any) -> Any:
    """Return a JSON-ready form of a value: times as ISO 8601 text, credits as text."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return value
