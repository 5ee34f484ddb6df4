"""What a refusal means: one table from HTTP status to error class, for every adapter."""

from collections.abc import Iterable, Mapping
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
from kling_async.gateways.reading import is_ok, mapping, reason_in, record, task_id_in, text_code
from kling_async.wire import JSON, HttpResponse, is_task_id

_BY_STATUS: Mapping[int, type[KlingError]] = {
    401: AuthenticationError,
    402: InsufficientCreditsError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: GatewayUnavailableError,
    429: RateLimitError,
}

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
        request_id=request_id or response.headers.get("x-request-id"),
        retry_after=response.retry_after,
        charged=charged,
        raw=response.excerpt() or None,
    )


def body_of(gateway: str, response: HttpResponse) -> JSON:
    """Return the JSON of a 2xx answer.

    Raises `ProtocolError` for one that is not JSON, and a refusal without details for any other status whose
    body says nothing readable.
    """
    try:
        return response.json()
    except ProtocolError as error:
        found = error
    if 200 <= response.status < 300:
        raise found.evolve(gateway=gateway, http_status=response.status)
    raise refusal(gateway, response)


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
    body = body_of(gateway, response)
    if not isinstance(body, dict):
        if 200 <= response.status < 300:
            raise ProtocolError(
                "the gateway's answer is not an object",
                gateway=gateway,
                http_status=response.status,
                code="bad_shape",
                raw=response.excerpt(),
            )
        raise refusal(gateway, response)
    status = meant_status(response, body)
    if 200 <= status < 300:
        return body
    if submitting:
        no_contradiction(gateway, response, body)
    code, message = code_in(body, known)
    kind = known.get(code) if code and 400 <= status < 500 else None
    number = body.get("request_id")
    raise refusal(
        gateway,
        response,
        kind=kind,
        status=status,
        code=code,
        message=message,
        request_id=number if isinstance(number, str) else None,
    )


def same_task(gateway: str, asked: str, *named: object) -> None:
    """Raise `ProtocolError` (other_task) for an answer that is about another task than the one asked about."""
    for value in named:
        if value is not None and value != "" and str(value) != asked:
            raise ProtocolError("the answer is about another task", gateway=gateway, code="other_task", task_id=asked)


def code_in(body: Mapping[str, Any], known: Iterable[str] = ()) -> tuple[str | None, str | None]:
    """Return (code, message) from an error body in any of the shapes seen in the field.

    A known code wins wherever it stands among code, error, error_code, type and message.
    """
    inner = mapping(body.get("error"))
    places = [where.get(name) for where in (inner, body) for name in ("code", "error_code", "type", "error", "message")]
    found = next((text for text in places if isinstance(text, str) and text in known), None)
    reason, message = reason_in(body.get("error"), body.get("message"), body.get("msg"), body.get("detail"))
    own = text_code(inner.get("code")) or text_code(inner.get("type"))
    code = found or own or reason or text_code(body.get("code")) or text_code(body.get("error_code"))
    return code, message


def meant_status(response: HttpResponse, body: Mapping[str, Any]) -> int:
    """Return what an answer means in HTTP terms: its status, or the error code of the body in a 2xx."""
    if not 200 <= response.status < 300:
        return response.status
    code = body.get("code")
    number = int(code) if isinstance(code, str) and code.isdigit() and len(code) == 3 else code
    if isinstance(number, int) and not isinstance(number, bool) and 400 <= number <= 599:
        return number
    if (
        not is_ok(code)
        or body.get("success") is False
        or (body.get("error") and "data" not in body and not _named(body))
    ):
        return 400
    return response.status


def _named(body: Mapping[str, Any]) -> bool:
    return any(name in body for name in ("task_id", "job_id", "id"))


def no_contradiction(gateway: str, response: HttpResponse, body: Mapping[str, Any]) -> None:
    """Raise `ProtocolError` (contradiction) for a refused submit that names a sound task id all the same."""
    data = record(body.get("data"))
    named = next((value for value in (data.get("task_id"), body.get("task_id")) if is_task_id(value)), None)
    if named is not None:
        raise ProtocolError(
            "the gateway refused the request and named a task at once",
            gateway=gateway,
            http_status=response.status,
            code="contradiction",
            task_id=named,
            raw=response.excerpt(),
        )


def required_id(gateway: str, response: HttpResponse, *candidates: object) -> str:
    """Return the task id of an accepted submit. Raises `ProtocolError` where there is none that can be used."""
    try:
        task_id = task_id_in(*candidates)
    except ProtocolError as error:
        found: ProtocolError | None = error
    else:
        found = None
    if found is not None:
        raise found.evolve(gateway=gateway, http_status=response.status)
    if task_id is None:
        raise ProtocolError(
            "the gateway took the request and named no task",
            gateway=gateway,
            http_status=response.status,
            code="no_task_id",
            raw=response.excerpt(),
        )
    return task_id


def unsupported(gateway: str, name: str, why: str | None = None, code: str = "INVALID_PARAMETER") -> UnsupportedError:
    """Return the error for a field, or a value of it, that a gateway does not have."""
    return UnsupportedError(
        f"{gateway} {why or f'has no {name}'}", gateway=gateway, field=name, code=code, stage="validate"
    )


def invalid(gateway: str, name: str, message: str, code: str = "INVALID_PARAMETER") -> InvalidRequestError:
    """Return the error for a value outside what a gateway documents."""
    return InvalidRequestError(f"{name}: {message}", gateway=gateway, field=name, code=code, stage="validate")
