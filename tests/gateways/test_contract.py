"""The contract suite over our own adapters and over a fifth one, and what it finds in broken ones."""

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest
from attrs import define, evolve, frozen
from gateway_answers import API_KEY, BODIES, GATEWAYS

from kling_async.contract import check_gateway
from kling_async.errors import (
    AuthenticationError,
    GatewayUnavailableError,
    InvalidRequestError,
    ProtocolError,
    RateLimitError,
)
from kling_async.gateways import (
    Accepted,
    Exchange,
    Gateway,
    HttpRequest,
    HttpResponse,
    Secret,
    Snapshot,
    Status,
    is_task_id,
    segment,
)
from kling_async.requests import ImageToVideo, Request, Shot, TextToVideo

A = "https://example.com/a.jpg"
REQUESTS: Mapping[str, Sequence[Request]] = {
    "kling3api": [TextToVideo("x", quality="pro", sound=True, cfg_scale=0.1), ImageToVideo("x", image=A, end_image=A)],
    "apiin": [TextToVideo(shots=(Shot("x", 2), Shot("y", 3)))],
    "klinggenerator": [TextToVideo("x", fps=24, quality="4k", duration=120)],
    "apimart": [TextToVideo("x", model="kling-2.6", quality="pro", sound=True)],
}
REFUSED: Mapping[str, Sequence[Request]] = {
    "kling3api": [TextToVideo("x" * 2001), TextToVideo("x", quality="4k")],
    "apiin": [TextToVideo("x", duration=16)],
    "klinggenerator": [TextToVideo("x", sound=True)],
    "apimart": [TextToVideo("x", cfg_scale=0.5)],
}
ANSWERS: Mapping[str, Mapping[str, str]] = {
    "kling3api": {"succeeded": "status-success.json", "failed": "status-failed.json", "running": "submit.json"},
    "apiin": {"running": "submit.json"},
    "klinggenerator": {"succeeded": "status-completed.json", "running": "submit.json"},
    "apimart": {},
}


@pytest.mark.parametrize("name", GATEWAYS)
def test_our_own_adapters_keep_the_contract(name: str) -> None:
    def said(file: str) -> HttpResponse:
        return HttpResponse(200, body=(BODIES / name / file).read_bytes())

    check_gateway(
        GATEWAYS[name],
        api_key=API_KEY,
        accepted=said("submit.json"),
        requests=REQUESTS[name],
        refused=REFUSED[name],
        **{state: said(file) for state, file in ANSWERS[name].items()},
    )


# ---- a fifth adapter, from the Protocol alone


@define
class Fifth(Gateway):
    """A gateway of a third party: GET with a query, the key in a header of its own."""

    name = "fifth"
    base_url = "https://fifth.example"
    kinds = ("text-to-video",)

    api_key: Secret

    def submit(self, request: Request, key: str) -> Exchange[Accepted]:
        if not isinstance(request, TextToVideo) or request.duration > 10:
            raise InvalidRequestError("no", code="INVALID_PARAMETER", field="duration", stage="validate")
        response = yield HttpRequest("POST", "/jobs", json={"text": request.prompt, "seconds": request.duration})
        return Accepted(self._id(self._body(response)))

    def poll(self, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
        (task_id,) = task_ids
        response = yield HttpRequest("GET", f"/jobs/{segment(task_id)}")
        body = self._body(response)
        url = body.get("url")
        if isinstance(url, str) and url.startswith("https://") and url.isprintable():
            return {task_id: Snapshot(task_id, Status.SUCCEEDED, urls=(url,))}
        return {task_id: Snapshot(task_id, Status.IN_PROGRESS)}

    def authorize(self, request: HttpRequest, now: float) -> HttpRequest:
        return evolve(request, headers={**request.headers, "X-Key": self.api_key.reveal()})

    def _body(self, response: HttpResponse) -> Mapping[str, Any]:
        if response.status == 429:
            raise RateLimitError(http_status=429)
        if response.status == 401:
            raise AuthenticationError(http_status=401)
        if 400 <= response.status < 500:
            raise InvalidRequestError(http_status=response.status)
        if response.status >= 300:
            raise GatewayUnavailableError(http_status=response.status)
        body = response.json()
        if not isinstance(body, dict):
            raise ProtocolError(http_status=response.status)
        return body

    def _id(self, body: Mapping[str, Any]) -> str:
        if not is_task_id(body.get("id")):
            raise ProtocolError(code="no_task_id")
        return str(body["id"])


ACCEPTED = HttpResponse(200, body=b'{"id":"job-1"}')
DONE = HttpResponse(200, body=b'{"id":"job-1","url":"https://fifth.example/a.mp4"}')


def _check(gateway: Gateway) -> None:
    check_gateway(
        gateway,
        api_key=API_KEY,
        accepted=lambda request: ACCEPTED if request.path == "/jobs" else DONE,
        running=ACCEPTED,
        succeeded=DONE,
        requests=[TextToVideo("x", duration=10)],
        refused=[TextToVideo("x", duration=11)],
    )


def test_a_fifth_adapter_made_from_the_protocol_alone_can_keep_the_contract() -> None:
    _check(Fifth(Secret(API_KEY)))


@frozen
class Broken:
    """A way to break the contract, and what the suite says of it."""

    says: str
    change: Mapping[str, Any]


def _sends_first(self: Fifth, request: Request, key: str) -> Exchange[Accepted]:
    response = yield HttpRequest("POST", "/jobs", json={})
    return Accepted(self._id(self._body(response)))


def _sends_the_key(self: Fifth, request: Request, key: str) -> Exchange[Accepted]:
    response = yield HttpRequest("POST", "/jobs", json={"auth": [{"key": self.api_key.reveal()}]})
    return Accepted(self._id(self._body(response)))


_COUNT = iter(range(10_000))


def _never_twice_the_same(self: Fifth, request: Request, key: str) -> Exchange[Accepted]:
    response = yield HttpRequest("POST", "/jobs", json={"nonce": next(_COUNT)})
    return Accepted(self._id(self._body(response)))


def _takes_any_id(self: Fifth, body: Mapping[str, Any]) -> str:
    return str(body.get("id"))


def _trusts_json(self: Fifth, response: HttpResponse) -> Any:
    return json.loads(response.body)


def _rejects_trouble(self: Fifth, response: HttpResponse) -> Any:
    if response.status >= 300:
        raise InvalidRequestError(http_status=response.status)
    body = response.json()
    return body if isinstance(body, dict) else {}


def _again_on_trouble(self: Fifth, response: HttpResponse) -> Any:
    if response.status >= 300:
        raise RateLimitError(http_status=response.status)
    body = response.json()
    return body if isinstance(body, dict) else {}


def _lies_about_the_status(self: Fifth, response: HttpResponse) -> Any:
    if response.status != 200:
        raise GatewayUnavailableError(http_status=418)
    body = response.json()
    return body if isinstance(body, dict) else {}


def _raw_path(self: Fifth, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
    (task_id,) = task_ids
    response = yield HttpRequest("GET", f"/jobs/{task_id}")
    done = response.status == 200 and b'"url"' in response.body and response.body.startswith(b'{"id":"job-1"')
    urls = ("https://fifth.example/a.mp4",) if done else ()
    return {task_id: Snapshot(task_id, Status.SUCCEEDED if done else Status.IN_PROGRESS, urls=urls)}


def _always_done(self: Fifth, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
    (task_id,) = task_ids
    yield HttpRequest("GET", f"/jobs/{segment(task_id)}")
    return {task_id: Snapshot(task_id, Status.SUCCEEDED)}


def _absurd(self: Fifth, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
    (task_id,) = task_ids
    yield HttpRequest("GET", f"/jobs/{segment(task_id)}")
    return {task_id: Snapshot(task_id, Status.IN_PROGRESS, progress=45.0)}


def _another(self: Fifth, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
    (task_id,) = task_ids
    yield HttpRequest("GET", f"/jobs/{segment(task_id)}")
    return {"other": Snapshot("other", Status.IN_PROGRESS)}


def _quotes_verbatim(self: Fifth, response: HttpResponse) -> Any:
    if response.status >= 300:
        raise GatewayUnavailableError(response.body[:2000].decode("utf-8", "replace"), http_status=response.status)
    return Fifth._body(self, response)


def _quotes_everything(self: Fifth, response: HttpResponse) -> Any:
    if response.status >= 300:
        raise GatewayUnavailableError(ascii(response.body), http_status=response.status)
    return Fifth._body(self, response)


def _believes_any_price(self: Fifth, task_ids: Sequence[str]) -> Exchange[Mapping[str, Snapshot]]:
    (task_id,) = task_ids
    response = yield HttpRequest("GET", f"/jobs/{segment(task_id)}")
    said = self._body(response).get("credits")
    price = Decimal(said) if type(said) in (int, float) and said >= 0 else None
    done = b'"url"' in response.body and response.body.startswith(b'{"id":"job-1"')
    urls = ("https://fifth.example/a.mp4",) if done else ()
    status = Status.SUCCEEDED if done else Status.IN_PROGRESS
    return {task_id: Snapshot(task_id, status, urls=urls, credits=price)}


def _shows_any_bytes(self: Fifth, response: HttpResponse) -> Any:
    try:
        return Fifth._body(self, response)
    except ProtocolError as error:
        raise error.evolve(raw=response.body[:200].decode("utf-8", "replace")) from None


def _changes_the_path(self: Fifth, request: HttpRequest, now: float) -> HttpRequest:
    return evolve(request, path="/other", headers={"X-Key": "k"})


def _adds_nothing(self: Fifth, request: HttpRequest, now: float) -> HttpRequest:
    return request


def _key_in_the_query(self: Fifth, request: HttpRequest, now: float) -> HttpRequest:
    return evolve(request, query={**request.query, "key": self.api_key.reveal()})


BROKEN = [
    Broken("is not refused", {"submit": _sends_first}),
    Broken("the API key is in the request", {"submit": _sends_the_key}),
    Broken("not the same HTTP request twice", {"submit": _never_twice_the_same}),
    Broken("accepts the task id", {"_id": _takes_any_id}),
    Broken("not a KlingError", {"_body": _trusts_json}),
    Broken("says that nothing was done", {"_body": _rejects_trouble}),
    Broken("says that nothing was done", {"_body": _again_on_trouble}),
    Broken("http_status is 418", {"_body": _lies_about_the_status}),
    Broken("percent-encoded", {"poll": _raw_path}),
    Broken("where <Status.IN_PROGRESS", {"poll": _always_done}),
    Broken("progress is 45.0", {"poll": _absurd}),
    Broken("asked was job-1", {"poll": _another}),
    Broken("is not printable", {"_body": _quotes_verbatim}),
    Broken("is not a bounded text", {"_body": _quotes_everything}),
    Broken("credits are", {"poll": _believes_any_price}),
    Broken("raw is not printable", {"_body": _shows_any_bytes}),
    Broken("changes path", {"authorize": _changes_the_path}),
    Broken("adds nothing", {"authorize": _adds_nothing}),
    Broken("shows the API key", {"authorize": _key_in_the_query}),
    Broken("shows the API key", {"__repr__": lambda self: f"Fifth({self.api_key.reveal()})"}),
    Broken("poll_batch", {"poll_batch": 0}),
    Broken("base_url", {"base_url": "fifth.example"}),
    Broken("kinds", {"kinds": ("text-to-speech",)}),
    Broken("rates", {"rates": ("10/s",)}),
    Broken("name", {"name": ""}),
    Broken("dedupes_by_key", {"dedupes_by_key": "yes"}),
    Broken("prices_as_of", {"prices_as_of": "2026"}),
    Broken("the estimate", {"estimate": lambda self, request: 5}),
]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: "-".join(broken.change) + " " + broken.says)
def test_the_suite_finds_every_breach(broken: Broken) -> None:
    adapter = type("Fifth", (Fifth,), dict(broken.change))
    with pytest.raises(AssertionError, match=r".") as caught:
        _check(adapter(Secret(API_KEY)))
    assert broken.says in str(caught.value)
