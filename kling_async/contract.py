"""What every adapter must keep to, as a function to call from a test: no socket, no clock, no test framework.

    from kling_async.contract import check_gateway

    def test_my_gateway_keeps_the_contract():
        check_gateway(
            MyGateway("a-key-for-tests"),
            api_key="a-key-for-tests",
            accepted=HttpResponse(200, body=b'{"id": "job-1"}'),
            succeeded=HttpResponse(200, body=b'{"id": "job-1", "state": "done", "url": "https://…"}'),
        )

A claim that does not hold raises `AssertionError` with a sentence that says which.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any, TypeAlias

from attrs import evolve

from kling_async.errors import ConnectionFailedError, InvalidRequestError, KlingError
from kling_async.flow.decision import Fate, decide
from kling_async.gateways.hostile import BODIES, STATUSES, UNREADABLE
from kling_async.gateways.protocol import Accepted, Gateway
from kling_async.gateways.sane import check_accepted, check_error, check_found, claim, sound_amount, sound_cost
from kling_async.requests import KINDS, ImageToVideo, ReferenceToVideo, Request, TextToVideo, VideoEdit
from kling_async.results import Balance, Status
from kling_async.settings import RateLimit
from kling_async.wire import Exchange, HttpRequest, HttpResponse, segment, talk

Answer: TypeAlias = HttpResponse | Callable[[HttpRequest], HttpResponse]
"""What the gateway answers: always the same, or what a function says to each request of the conversation."""

KEY = "contract-0123456789abcdef"
NASTY_ID = "a~:@!$&'()*+,;=-._b"

_SAMPLES: Mapping[str, Request] = {
    sample.kind: sample
    for sample in (
        TextToVideo("a paper boat in the rain"),
        ImageToVideo("it sails off", image="https://example.com/boat.jpg"),
        ReferenceToVideo("the same boat at sea", images=("https://example.com/boat.jpg",)),
        VideoEdit("make it snow", video="https://example.com/boat.mp4"),
    )
}


def check_gateway(
    gateway: Gateway,
    *,
    api_key: str,
    accepted: Answer,
    running: Answer | None = None,
    succeeded: Answer | None = None,
    failed: Answer | None = None,
    requests: Iterable[Request] = (),
    refused: Iterable[Request] = (),
    not_executed: Iterable[int] = (),
) -> None:
    """Check one adapter against everything that the session relies on.

    Args:
        gateway: the adapter, made with `api_key`.
        api_key: the key, so that it can be looked for where it must not be.
        accepted: the answer to a submit that is taken.
        running, succeeded, failed: answers to a look at the job that `accepted` names.
        requests: requests the gateway takes, beside a plain one of each of its `kinds`.
        refused: requests it cannot take, beside those of a kind that it does not have.
        not_executed: statuses from 500 that the gateway documents as "surely not executed".

    Raises:
        AssertionError: saying which claim does not hold.
    """
    check_facts(gateway, api_key)
    kinds = gateway.kinds or (TextToVideo.kind,)
    for request in (*(_SAMPLES[kind] for kind in kinds), *requests):
        check_submit(gateway, request, api_key, accepted)
    for request in (*(sample for kind, sample in _SAMPLES.items() if kind not in kinds), *refused):
        check_refused(gateway, request)
    task_id = talk(gateway.submit(_SAMPLES[kinds[0]], KEY), _answering(accepted)).task_id
    for answer, status in (
        (running, Status.IN_PROGRESS),
        (succeeded, Status.SUCCEEDED),
        (failed, Status.FAILED),
    ):
        if answer is not None:
            check_poll(gateway, task_id, answer, status)
    check_asks_about(gateway, NASTY_ID, api_key)
    check_hostile(gateway, _SAMPLES[kinds[0]], frozenset(not_executed))


def check_facts(gateway: Gateway, api_key: str) -> None:
    """Check the adapter's facts, and that it does not show its key."""
    name = gateway.name
    claim(isinstance(name, str) and bool(name) and name.isprintable(), f"name is a short text, not {name!r}")
    for text in (repr(gateway), str(gateway)):
        claim(api_key not in text, f"{name}: the adapter's repr shows the API key")
    origin = gateway.base_url
    sound = isinstance(origin, str) and origin.startswith(("https://", "http://"))
    claim(sound and not set(origin) & set("?# "), f"{name}: base_url is an origin, not {origin!r}")
    batch = gateway.poll_batch
    claim(isinstance(batch, int) and not isinstance(batch, bool) and batch >= 1, f"{name}: poll_batch is 1 or more")
    claim(isinstance(gateway.dedupes_by_key, bool), f"{name}: dedupes_by_key is True or False")
    as_of = gateway.prices_as_of
    claim(as_of is None or isinstance(as_of, date), f"{name}: prices_as_of is a date or None")
    claim(all(isinstance(limit, RateLimit) for limit in gateway.rates), f"{name}: rates are RateLimits")
    strange = set(gateway.kinds) - set(KINDS)
    claim(not strange, f"{name}: kinds are among {', '.join(KINDS)}, not {sorted(map(str, strange))}")


def check_submit(gateway: Gateway, request: Request, api_key: str, accepted: Answer) -> None:
    """Check a request that the gateway takes: what is sent, with and without credentials, and what is understood."""
    where = f"{gateway.name}: submit of a {request.kind}"
    first, again = (_first(gateway.submit(request, KEY), where) for _ in range(2))
    claim(first == again, f"{where}: the same request with the same key is not the same HTTP request twice")
    _check_request(gateway, first, api_key, where)
    _check_authorized(gateway, first, api_key, where)
    cost = gateway.estimate(request)
    claim(cost is None or sound_cost(cost), f"{where}: the estimate is {cost!r}")
    taken = talk(gateway.submit(request, KEY), _answering(accepted))
    claim(isinstance(taken, Accepted), f"{where}: the accepted answer gives {taken!r}, not Accepted")
    check_accepted(taken, where)


def check_refused(gateway: Gateway, request: Request) -> None:
    """Check that a request the gateway cannot take is refused before anything is sent."""
    where = f"{gateway.name}: submit of {request!r:.200}"
    try:
        sent: HttpRequest | None = next(gateway.submit(request, KEY))
    except InvalidRequestError as error:
        claim(error.stage == "validate", f"{where}: the refusal's stage is {error.stage!r}, not 'validate'")
        claim(error.charged == "no", f"{where}: the refusal says charged={error.charged!r}")
        claim(bool(error.code) and bool(error.field), f"{where}: the refusal names no code or no field: {error!r}")
    else:
        raise AssertionError(f"{where}: is not refused, {sent!r} would be sent")


def check_poll(gateway: Gateway, task_id: str, answer: Answer, status: Status) -> None:
    """Check what the adapter reads from the answer to a look."""
    where = f"{gateway.name}: poll"
    found = talk(gateway.poll([task_id]), _answering(answer))
    check_found(found, task_id, where)
    claim(task_id in found, f"{where}: the answer that is {status} tells nothing of {task_id}")
    snapshot = found[task_id]
    claim(snapshot.status is status, f"{where}: reads {snapshot.status!r} where {status!r} was given")
    if status is Status.SUCCEEDED:
        claim(bool(snapshot.urls), f"{where}: a success without a URL")
    if status is Status.FAILED:
        claim(bool(snapshot.code), f"{where}: a failure without a code")


def check_asks_about(gateway: Gateway, task_id: str, api_key: str) -> None:
    """Check that a look asks about the job it was given, percent-encoded where the id is in the URL."""
    where = f"{gateway.name}: poll of {task_id}"
    asked = _first(gateway.poll([task_id]), where)
    _check_request(gateway, asked, api_key, where)
    named = segment(task_id) in asked.url(gateway.base_url) or (asked.json is not None and _holds(asked.json, task_id))
    claim(named, f"{where}: the id is not in {asked!r}, percent-encoded")


def check_hostile(gateway: Gateway, request: Request, not_executed: frozenset[int] = frozenset()) -> None:
    """Check that no answer, however broken, raises anything but a `KlingError` or is read as something absurd."""
    for body in BODIES:
        for status in STATUSES if body in UNREADABLE else (200, 400, 500):
            check_answer(gateway, request, HttpResponse(status, {}, body), not_executed)


def check_answer(
    gateway: Gateway, request: Request, response: HttpResponse, not_executed: frozenset[int] = frozenset()
) -> None:
    """Check what every conversation of the adapter makes of one answer."""
    where = f"{gateway.name}: HTTP {response.status} with {response.body[:80]!r}"
    taken = _outcome(gateway.submit(request, KEY), response, f"submit, {where}")
    if isinstance(taken, KlingError):
        _check_doubt(taken, response, not_executed, f"submit, {where}")
    else:
        check_accepted(taken, f"submit, {where}")
    found = _outcome(gateway.poll(["job-1"]), response, f"poll, {where}")
    if not isinstance(found, KlingError):
        check_found(found, "job-1", f"poll, {where}")
    left = _outcome(gateway.balance(), response, f"balance, {where}")
    if isinstance(left, Balance):
        claim(sound_amount(left.amount) and sound_amount(left.used), f"balance, {where}: reads {left!r}")
    address = _outcome(gateway.upload("a.png", "image/png", b"\x89PNG"), response, f"upload, {where}")
    claim(address is None or isinstance(address, (str, KlingError)), f"upload, {where}: reads {address!r}")
    seen = _outcome(gateway.find(KEY), response, f"find, {where}")
    if isinstance(seen, Accepted):
        check_accepted(seen, f"find, {where}")
    _outcome(gateway.cancel("job-1"), response, f"cancel, {where}")


def _answering(answer: Answer) -> Callable[[HttpRequest], HttpResponse]:
    return (lambda _: answer) if isinstance(answer, HttpResponse) else answer


def _first(exchange: Exchange[Any], where: str) -> HttpRequest:
    request = next(exchange, None)
    exchange.close()
    claim(isinstance(request, HttpRequest), f"{where}: yields {request!r}, not an HttpRequest")
    return request  # type: ignore[return-value]


def _outcome(exchange: Exchange[Any] | None, response: HttpResponse, where: str) -> Any:
    """Return what a conversation makes of an answer: its value, or the KlingError it raises."""
    if exchange is None:
        return None
    try:
        return talk(exchange, _answering(response))
    except KlingError as error:
        check_error(error, response, where)
        return error
    except Exception as error:  # noqa: BLE001 - any other class is what is looked for
        found = f"{type(error).__name__}: {error}"
    raise AssertionError(f"{where}: raises {found:.300}, not a KlingError")


def _check_doubt(error: KlingError, response: HttpResponse, not_executed: frozenset[int], where: str) -> None:
    """Nobody knows what a gateway did that answers 5xx, or 2xx with something that is not an answer."""
    unreadable = 200 <= response.status < 300 and response.body in UNREADABLE
    if response.status < 500 and not unreadable:
        return
    if response.status in not_executed and error.charged == "no":
        return
    # Taken at its word, as in an answer whose status does not speak against it.
    doubtful = decide(error, sent=True, answer=evolve(response, status=200)).fate is Fate.IN_DOUBT
    settled = not doubtful or isinstance(error, ConnectionFailedError)
    claim(not settled, f"{where}: {error!r:.200} says that nothing was done; nobody can know that")


def _check_request(gateway: Gateway, request: HttpRequest, api_key: str, where: str) -> None:
    claim(request.method in ("GET", "POST", "PUT", "DELETE", "PATCH"), f"{where}: the method is {request.method!r}")
    path = request.path
    claim(path.startswith("/") and not set(path) & set("?# \\"), f"{where}: the path is {path!r}")
    claim(request.url(gateway.base_url).isascii(), f"{where}: the URL is not percent-encoded")
    held = (request.method, path, dict(request.query), request.json, dict(request.headers), repr(request))
    claim(not _holds(held, api_key), f"{where}: the API key is in the request before `authorize`")
    body = request.body()
    claim(body is None or not request.parts, f"{where}: has a JSON body and parts")


def _check_authorized(gateway: Gateway, request: HttpRequest, api_key: str, where: str) -> None:
    before = evolve(request)
    allowed = gateway.authorize(request, 1_770_000_000.0)
    claim(request == before, f"{where}: `authorize` changes the request it was given")
    claim(allowed != request, f"{where}: `authorize` adds nothing")
    for name in ("method", "path", "json", "parts"):
        claim(getattr(allowed, name) == getattr(request, name), f"{where}: `authorize` changes {name}")
    for name in ("query", "headers"):
        kept = getattr(request, name).items() <= getattr(allowed, name).items()
        claim(kept, f"{where}: `authorize` changes {name} that were there")
    claim(api_key not in repr(allowed), f"{where}: the repr of an authorized request shows the API key")


def _holds(value: Any, text: str) -> bool:
    """Tell whether a text is anywhere in a value of maps, lists and texts."""
    if isinstance(value, Mapping):
        return any(_holds(part, text) for item in value.items() for part in item)
    if isinstance(value, (list, tuple)):
        return any(_holds(item, text) for item in value)
    return isinstance(value, str) and text in value
