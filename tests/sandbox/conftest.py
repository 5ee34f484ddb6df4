"""Shared by the tests of the sandbox: a caller that speaks to it in virtual time."""

import json
from typing import Any

import pytest
from attrs import define

from kling_async.sandbox import Call, Reply, Sandbox

EPOCH = 1_770_000_000.0  # 2026-02-02T02:40:00Z


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@define
class Caller:
    """Calls a sandbox with a key; `now` is an argument."""

    box: Sandbox
    key: str | None = "key-1"

    def call(self, method: str, path: str, now: float = 0.0, body: bytes = b"", **headers: str) -> Reply:
        path, _, query = path.partition("?")
        pairs = dict(pair.split("=", 1) for pair in query.split("&") if pair)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None and not path.startswith("/_sandbox"):
            names.setdefault("authorization", f"Bearer {self.key}")
        return self.box.handle(Call(method, path, pairs, names, body), now)

    def post(self, path: str, document: Any, now: float = 0.0, **headers: str) -> tuple[int, Any]:
        reply = self.call("POST", path, now, json.dumps(document).encode(), **headers)
        return reply.status, json.loads(reply.body)

    def get(self, path: str, now: float = 0.0, **headers: str) -> tuple[int, Any]:
        reply = self.call("GET", path, now, **headers)
        return reply.status, json.loads(reply.body)


@pytest.fixture
def caller() -> Caller:
    return Caller(Sandbox(epoch=EPOCH, sigma=0.0))


@pytest.fixture
def caller_of() -> type[Caller]:
    return Caller
