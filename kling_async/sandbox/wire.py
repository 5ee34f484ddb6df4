"""What goes over the wire, as values: a call, the reply to it, and what the connection does with the reply."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from attrs import define, field, frozen

Ending = Literal["answer", "drop", "reset", "cut", "hang"]


@frozen
class Call:
    """One HTTP request. Header names are in lower case, the path is without the query and percent-decoded."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = field(default={}, repr=False)
    body: bytes = b""


@frozen
class Effect:
    """What the wire does after waiting `delay` seconds.

    "answer" sends the reply; "drop" closes the connection without a byte; "reset" does so with a TCP reset; "cut"
    promises the whole body in Content-Length, sends `cut_at` bytes of it and closes; "hang" never answers.
    """

    ending: Ending = "answer"
    delay: float = 0.0
    cut_at: int = 0


ANSWER = Effect()


@define
class Reply:
    """One HTTP answer. `submit` is the number in the ledger when it answers a submit."""

    status: int
    headers: dict[str, str]
    body: bytes
    effect: Effect = ANSWER
    submit: int | None = None


def json_reply(status: int, document: object) -> Reply:
    """A reply with a JSON body."""
    return Reply(status, {"Content-Type": "application/json"}, json.dumps(document).encode())


def bearer(call: Call) -> str:
    """The key of the Authorization header, or ""."""
    scheme, _, key = call.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


def json_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, or None."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
