"""The answers written by hand from the documents, and what drives an adapter with one of them."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import field, frozen

from kling_async.gateways import Gateway, HttpRequest, HttpResponse, talk
from kling_async.gateways.apiin import ApiIn
from kling_async.gateways.apimart import ApiMart
from kling_async.gateways.kling3api import Kling3Api
from kling_async.gateways.klinggenerator import KlingGenerator
from kling_async.requests import Request, TextToVideo

BODIES = Path(__file__).parent / "bodies"
API_KEY = "sk-canary-0123456789"
KEY = "key-of-this-job"
GATEWAYS: Mapping[str, Gateway] = {
    adapter.name: adapter(API_KEY) for adapter in (Kling3Api, ApiIn, KlingGenerator, ApiMart)
}
PLAIN = TextToVideo("a paper boat in the rain")
POLLED = {
    "kling3api": "n75abc123kling3",
    "apiin": "n75xxxx_kling3",
    "klinggenerator": "job_abc123xyz789",
    "apimart": "task_01KV0000000000000000000000",
}


@frozen
class Case:
    """One answer and what must be read from it."""

    gateway: str
    name: str
    of: str
    body: bytes
    http: int
    headers: Mapping[str, str]
    retry_after: float | None
    expected: Mapping[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.gateway}: {self.name}"


def cases() -> Iterator[Case]:
    for path in sorted(BODIES.glob("*/cases.toml")):
        for row in tomllib.loads(path.read_text(encoding="utf-8"))["case"]:
            body = (path.parent / row.pop("file")).read_bytes() if "file" in row else row.pop("text").encode()
            yield Case(
                path.parent.name,
                row.pop("name"),
                row.pop("of"),
                body,
                row.pop("http", 200),
                row.pop("headers", {}),
                row.pop("retry_after", None),
                row,
            )


def sent(gateway: str, request: Request) -> HttpRequest:
    """The one request that a submit sends."""
    return next(GATEWAYS[gateway].submit(request, KEY))


def answered(
    gateway: str, of: str, response: HttpResponse, task_ids: Sequence[str] = (), request: Request = PLAIN
) -> Any:
    """What a conversation makes of an answer: Accepted, a Snapshot, a Balance or a URL."""
    adapter = GATEWAYS[gateway]
    if of == "submit":
        return talk(adapter.submit(request, KEY), lambda _: response)
    if of == "poll":
        (task_id,) = task_ids or (POLLED[gateway],)
        return talk(adapter.poll([task_id]), lambda _: response)[task_id]
    exchange = adapter.balance() if of == "balance" else adapter.upload("a.jpg", "image/jpeg", b"\xff\xd8")
    assert exchange is not None
    return talk(exchange, lambda _: response)
