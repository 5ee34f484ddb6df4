"""A gateway that speaks all four dialects, for demos and tests: jobs, money, videos and faults, on loopback only.

    sandbox = Sandbox(speed=100, balance=5_000)
    async with serve(sandbox) as server:                 # or: with ThreadedServer(sandbox) as server:
        ...                                              # server.url is the base URL; any key will do
    print(sandbox.ledger.totals)

or `python -m kling_async.sandbox --port 8080 --speed 50`, or, without a socket and in virtual time,
`sandbox.handle(Call("POST", "/api/generate", {}, {"authorization": "Bearer k"}, body), now=0.0)`.

The dialects share one port and are told apart by their paths: kling3api `/api/generate`, apiin
`/api/v1/videos/generations`, klinggenerator `/v1/generate`, apimart `/v1/videos/generations`. Nothing outside is ever
contacted: URLs in requests are checked, not fetched. Pages of its own: `GET /_sandbox/ledger`, `GET /_sandbox/health`,
`POST /_sandbox/reset`, and the videos.

Faults. `sandbox.next(action)` spoils the very next submit, `sandbox.script(action, on=, prompt=, api_key=, nth=,
times=, every=, share=)` every call that matches. Actions that spoil one answer:

    http(status, code, retry_after, body)     refused; nothing accepted
    drop_before_accept()                      the connection closes; nothing accepted
    drop_after_accept(), reset_after_accept(), hang_after_accept(), half_body()    accepted, and the answer is lost
    accepted_then(status)                     accepted, and answered with an error
    html(status), garbage(), empty(status), answer(body, status, accept=)          wrong answers
    slow(seconds)                             the true answer, late

Actions that go with a task from its submit on:

    fail(reason, code, after), stuck(), ends_after(seconds)
    no_url(times), lie_about(task_id=...)                     in its polls
    expired_link(status, times), truncated_mp4(), not_a_video()    in its download

Directives do the same from inside a prompt, in any dialect, so that a demo file can hold them:

    [sandbox: fail]  [sandbox: fail the reason]  [sandbox: stuck]  [sandbox: ends_after 5]
    [sandbox: reject INVALID_PROMPT]             HTTP 400 with that code, every time
    [sandbox: slow 3]                            answered 3 seconds late, every time
    [sandbox: 429 1]  [sandbox: 503]             refused with that status (and Retry-After: 1) once for each prompt
    [sandbox: drop_before_accept]  [sandbox: drop_after_accept]  [sandbox: reset_after_accept]
    [sandbox: hang_after_accept]  [sandbox: half_body]  [sandbox: accepted_then 503]
    [sandbox: html 502]  [sandbox: garbage]  [sandbox: empty 200]          once for each prompt
    [sandbox: no_url 1]  [sandbox: expired_link 403]  [sandbox: truncated_mp4]  [sandbox: not_a_video]

A directive that does not exist is refused with HTTP 400, which names it.
"""

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
