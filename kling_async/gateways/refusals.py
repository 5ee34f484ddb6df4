"""What a refusal means: one table from HTTP status to error class, for every adapter."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kling_async.errors import (
    AuthenticationError,
    Charged,
    GatewayUnavailableError,
    InsufficientCreditsError,
    InvalidRequestError,
    KlingError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    UnsupportedError,
)
from kling_async.gateways.reading import (
    document,
    ids_in,
    is_named,
    is_ok,
    mapping,
    reason_in,
    record,
    status_of,
    task_id_in,
    text_code,
    words,
)
from kling_async.results import Status
from kling_async.wire import JSON, HttpResponse, is_task_id

_BY_STATUS: Mapping[int, type[KlingError]] = {
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: GatewayUnavailableError,
    429: RateLimitError,
}

_ERROR_STATUS = re.compile(r"[45][0-9]{2}")

_NONE: Mapping[str, type[KlingError] | None] = {}


def error_class(status: int) -> type[KlingError]:
    """Return the class of error that an HTTP status, or a body code in its range, stands for."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return InvalidRequestError if 400 <= status < 500 else GatewayUnavailableError


def refusal(
    gateway: str,
    response: HttpResponse,
    *,
    kind: type[KlingError] | None = None,
    status: int | None = None,
    code: str | None = None,
    message: str | None = None,
    request_id: str | None = None,
    charged: Charged | None = None,
) -> KlingError:
    """Return the error for an answer that is a refusal.

    Args:
        gateway: the adapter's name.
        response: the answer.
        kind: the class of error, where the adapter knows better than the status.
        status: what the answer means in HTTP terms, where that differs from its real status.
        code: the gateway's own code as text; without one it is `HTTP_` and the status.
        message: the gateway's own words.
        request_id: the gateway's id of this HTTP request.
        charged: whether this cost money, where the adapter knows.
    """
    meant = status or response.status
    if charged is None and meant == 422:
        charged = "unknown"  # some gateways bill a job whose parameters turn out to be wrong
    return (kind or error_class(meant))(
        message or f"the gateway answered HTTP {response.status}",
        gateway=gateway,
        http_status=response.status,
        code=code or f"HTTP_{meant}",
        request_id=request_id or words(response.headers.get("x-request-id"), 200),
        retry_after=response.retry_after,
        charged=charged,
        raw=response.excerpt() or None,
    )


def unreadable(
    gateway: str, response: HttpResponse, code: str | None, message: str, *, task_id: str | None = None
) -> ProtocolError:
    """Return the error for an answer that cannot be understood, with the beginning of the answer."""
    return ProtocolError(
        message,
        gateway=gateway,
        http_status=response.status,
        code=code,
        task_id=task_id,
        raw=response.excerpt(),
    )


def body_of(gateway: str, response: HttpResponse, *, submitting: bool = False) -> JSON:
    """Return the JSON of a 2xx answer.

    Raises `ProtocolError` for one that is not JSON, and a refusal without details for any other status whose body says
    nothing readable, unless it is one to a paid POST and names a task even so.
    """
    try:
        return response.json()
    except ProtocolError as error:
        found = error
    if 200 <= response.status < 300:
        raise found.evolve(gateway=gateway, http_status=response.status)
    if submitting and _refuses_by_status(response) and _TASK_NAME.search(response.body.replace(b"\0", b"")):
        told = "the gateway refused the request and named a task at once"
        raise unreadable(gateway, response, "contradiction", told)
    raise refusal(gateway, response)


def _refuses_by_status(response: HttpResponse) -> bool:
    """Tell whether a status alone would be believed as a refusal: a 4xx but 408."""
    return 400 <= response.status < 500 and error_class(response.status) is not GatewayUnavailableError


# As JSON in any encoding that ASCII shines through has it, whole or cut off.
_TASK_NAME = re.compile(rb"""["'](?:task|job)_?id["']\s*:\s*["'\d]""", re.IGNORECASE)


def opened(
    gateway: str,
    response: HttpResponse,
    *,
    known: Mapping[str, type[KlingError] | None] = _NONE,
    submitting: bool = False,
) -> Mapping[str, Any]:
    """Return the body of an answer that says yes; raise what it says otherwise.

    Args:
        gateway: the adapter's name.
        response: the answer.
        known: the gateway's own code strings, and the class of error each stands for where the status does not say.
            A code decides only among refusals (4xx): with a 5xx nobody knows what was done.
        submitting: the answer is to a paid POST, so a refusal that names a task is a contradiction.
    """
    body = body_of(gateway, response, submitting=submitting)
    if not isinstance(body, dict):
        if 200 <= response.status < 300:
            raise unreadable(gateway, response, "bad_shape", "the gateway's answer is not an object")
        if submitting and _refuses_by_status(response):
            no_contradiction(gateway, response, body)
        raise refusal(gateway, response)
    status = meant_status(response, body)
    if 200 <= status < 300:
        if submitting and _tells_of_both(body):
            places = (record(body.get("data")), body)
            found = (place.get(name) for place in places for name in ("task_id", "job_id", "id"))
            named = next(filter(is_task_id, found), None)
            told = "the gateway named a task and told of an error at once"
            raise unreadable(gateway, response, "contradiction", told, task_id=named)
        return body
    if submitting:
        no_contradiction(gateway, response, body)
    code, message = code_in(body, known)
    if submitting and 200 <= response.status < 300 and code not in known and not _refuses(body):
        raise unreadable(gateway, response, code, message or "the gateway answered with a code that nobody knows")
    kind = known.get(code) if code and 400 <= status < 500 else None
    raise refusal(
        gateway,
        response,
        kind=kind,
        status=status,
        code=code,
        message=message,
        request_id=words(body.get("request_id"), 200),
    )


_TASK_NAMES = frozenset({"status", "task_id", "job_id", "id", "response", "video_url", "url", "result", "output"})


def task_of(gateway: str, response: HttpResponse, data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the task in the answer to a look. Raises `ProtocolError` (bad_shape) where there is none."""
    if _TASK_NAMES.isdisjoint(data):
        raise unreadable(gateway, response, "bad_shape", "the answer holds no task")
    return data


def same_task(gateway: str, asked: str, data: Mapping[str, Any], *, bare_id: bool = False) -> None:
    """Raise `ProtocolError` (other_task) for an answer that is about another task than the one asked about.

    A gateway may have numbers of its own beside the id. A bare `id` that is a text is a task's where the gateway
    documents it so.
    """
    named = ids_in(data) or (ids_in(data, "id") if bare_id and isinstance(data.get("id"), str) else [])
    if named and not is_named(asked, data):
        raise ProtocolError("the answer is about another task", gateway=gateway, code="other_task", task_id=asked)


def code_in(body: Mapping[str, Any], known: Iterable[str] = ()) -> tuple[str | None, str | None]:
    """Return (code, message) from an error body in any of the shapes seen in the field.

    A known code wins wherever it stands among code, error, error_code, type and message.
    """
    inner = mapping(body.get("error"))
    places = [where.get(name) for where in (inner, body) for name in ("code", "error_code", "type", "error", "message")]
    found = next((text for text in places if isinstance(text, str) and text in known), None)
    spoken = [body.get(name) for name in ("error", "message", "msg", "detail")]
    sentences = [place for place in spoken if not (isinstance(place, str) and place in known)]
    reason, message = reason_in(*sentences, *spoken)  # a bare code is a message only where there is no other
    own = text_code(inner.get("code")) or text_code(inner.get("type"))
    code = found or own or reason or text_code(body.get("code")) or text_code(body.get("error_code"))
    return code, message


def meant_status(response: HttpResponse, body: Mapping[str, Any]) -> int:
    """Return what an answer means in HTTP terms.

    That is its status; in a 2xx the error that the body tells of; in a 4xx the body's own number, where that says more
    than 400.
    """
    yes = 200 <= response.status < 300
    if yes and not body.get("error") and body.get("success") is not False and is_ok(body.get("code")):
        return response.status
    own = _status_in(body.get("code"))
    inner = _status_in(mapping(body.get("error")).get("code"))
    if 400 <= response.status < 500:
        return next((number for number in (own, inner) if number not in (None, 400)), None) or response.status
    if not yes:
        return response.status
    if _tells_of_error(body):
        return own or inner or 400
    return own or (response.status if is_ok(body.get("code")) and body.get("success") is not False else inner or 400)


def _status_in(code: object) -> int | None:
    """Return the HTTP error status that a body gives as its code, as a number or as text."""
    if code is None or code == 200:
        return None
    text = "" if isinstance(code, bool) else str(code)
    return int(text) if _ERROR_STATUS.fullmatch(text) else None


def _refuses(body: Mapping[str, Any]) -> bool:
    """Tell whether a 2xx answer says no as an HTTP status does; mere words may tell of a fault behind the gateway."""
    return any(_status_in(place.get("code")) for place in (body, mapping(body.get("error"))))


def _tells_of_both(body: Mapping[str, Any]) -> bool:
    """Tell whether an answer holds an error beside what looks like a task, and no status word of that task."""
    code, message = reason_in(body.get("error"))
    wrong = bool(code) or (message or "success").lower() not in ("success", "succeed", "ok")
    said = (status_of(place.get("status")) for place in (record(body.get("data")), body))
    return wrong and not any(said)


def _tells_of_error(body: Mapping[str, Any]) -> bool:
    """Tell whether an answer holds an error and no task that the error could belong to."""
    error = body.get("error")
    if not error or any(name in body for name in ("data", "task_id", "job_id", "id")):
        return False
    if _has_failed(body) and _status_in(mapping(error).get("code")) is None:
        return False
    return not isinstance(error, dict) or any(reason_in(error)) or _status_in(error.get("code")) is not None


def _has_failed(body: Mapping[str, Any]) -> bool:
    """Tell whether a body is a task that has come to a bad end; "error" may be the word for the answer itself."""
    word = body.get("status")
    return status_of(word) is Status.FAILED and str(word).strip().lower() != "error"


def no_contradiction(gateway: str, response: HttpResponse, body: JSON) -> None:
    """Raise `ProtocolError` (contradiction) for a refused submit that names a sound task id all the same.

    Refusals have ids of their own, and of what they passed through: only where a task would stand is looked.
    """
    found = [*_named_within(body), record(mapping(body).get("data")).get("id")]
    texts = [str(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in found]
    named = next((value for value in texts if is_task_id(value)), None)
    if named is not None:
        words = "the gateway refused the request and named a task at once"
        raise unreadable(gateway, response, "contradiction", words, task_id=str(named))


def _named_within(value: object, depth: int = 4) -> Iterator[object]:
    """Yield what a body calls a task by, down to a few levels.

    A bare `id` may be anything's; beside the status word of a job that runs or is made, it is a task's.
    """
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        value = document(value)
    if isinstance(value, dict):
        yield from (part for name, part in value.items() if _plain(name) in ("taskid", "jobid"))
        yield value.get("id") if status_of(value.get("status")) in _ALIVE else None
        value = [part for name, part in value.items() if name in _TASK_PLACES]
    if isinstance(value, list) and depth:
        for part in value[:100]:
            yield from _named_within(part, depth - 1)


_ALIVE = (Status.IN_PROGRESS, Status.SUCCEEDED)
_TASK_PLACES = ("data", "task", "tasks", "job", "jobs", "result", "results", "output", "response", "error", "errors")


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def required_id(gateway: str, response: HttpResponse, *candidates: object, numbers: bool = True) -> str:
    """Return the task id of an accepted submit. Raises `ProtocolError` where there is none that can be used.

    With `numbers=False` a number is no id of this gateway: the job is in doubt, and the number is kept as its id.
    """
    first = next((value for value in candidates if value not in (None, "")), None)
    if not numbers and type(first) is int and is_task_id(str(first)):
        words = "the gateway named the task with a number, which none of its ids is"
        raise unreadable(gateway, response, "bad_task_id", words, task_id=str(first))
    try:
        task_id = task_id_in(*candidates)
    except ProtocolError as error:
        found: ProtocolError | None = error
    else:
        found = None
    if found is not None:
        raise found.evolve(gateway=gateway, http_status=response.status)
    if task_id is None:
        raise unreadable(gateway, response, "no_task_id", "the gateway took the request and named no task")
    return task_id


def unsupported(gateway: str, name: str, why: str | None = None, code: str = "INVALID_PARAMETER") -> UnsupportedError:
    """Return the error for a field, or a value of it, that a gateway does not have."""
    return UnsupportedError(
        f"{gateway} {why or f'has no {name}'}", gateway=gateway, field=name, code=code, stage="validate"
    )


def invalid(gateway: str, name: str, message: str, code: str = "INVALID_PARAMETER") -> InvalidRequestError:
    """Return the error for a value outside what a gateway documents."""
    return InvalidRequestError(f"{name}: {message}", gateway=gateway, field=name, code=code, stage="validate")
