"""A gateway that speaks all four dialects, for demos and tests: jobs, money, videos and faults, on loopback only."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kling_async.sandbox.core import Sandbox
from kling_async.sandbox.faults import (
    OPERATIONS,
    Action,
    Answer,
    Fate,
    Operation,
    Rule,
    Twist,
    accepted_then,
    answer,
    drop_after_accept,
    drop_before_accept,
    empty,
    ends_after,
    expired_link,
    fail,
    garbage,
    half_body,
    hang_after_accept,
    html,
    http,
    lie_about,
    no_url,
    not_a_video,
    reset_after_accept,
    slow,
    stuck,
    truncated_mp4,
)
from kling_async.sandbox.ledger import Ledger, Submit
from kling_async.sandbox.wire import Call, Effect, Reply

if TYPE_CHECKING:
    from kling_async.sandbox.server import SandboxServer, ThreadedServer, create_app, serve

__all__ = [
    "OPERATIONS",
    "Action",
    "Answer",
    "Call",
    "Effect",
    "Fate",
    "Ledger",
    "Operation",
    "Reply",
    "Rule",
    "Sandbox",
    "SandboxServer",
    "Submit",
    "ThreadedServer",
    "Twist",
    "accepted_then",
    "answer",
    "create_app",
    "drop_after_accept",
    "drop_before_accept",
    "empty",
    "ends_after",
    "expired_link",
    "fail",
    "garbage",
    "half_body",
    "hang_after_accept",
    "html",
    "http",
    "lie_about",
    "no_url",
    "not_a_video",
    "reset_after_accept",
    "serve",
    "slow",
    "stuck",
    "truncated_mp4",
]

_SERVER = {"SandboxServer", "ThreadedServer", "create_app", "serve"}


def __getattr__(name: str) -> Any:
    # The server is the only part that needs aiohttp, which takes a while to import.
    if name in _SERVER:
        return getattr(import_module("kling_async.sandbox.server"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
