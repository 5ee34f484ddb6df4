"""Where each path leads: the documented endpoints of the four gateways, and the sandbox's own pages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kling_async.sandbox.apiin import ApiIn
from kling_async.sandbox.apimart import CREDITS_PER_USD, ApiMart
from kling_async.sandbox.downloads import download
from kling_async.sandbox.faults import Operation, Twist
from kling_async.sandbox.files import File, serve_file
from kling_async.sandbox.jobs import Dialect, Refusal, Task, view
from kling_async.sandbox.kling3api import Kling3Api
from kling_async.sandbox.klinggenerator import KlingGenerator
from kling_async.sandbox.spoil import answers, lied, refused, spent, spoil
from kling_async.sandbox.submits import Visit, admit, submit
from kling_async.sandbox.uploads import uploaded
from kling_async.sandbox.wire import Call, Reply, bearer, json_reply
from kling_async.sandbox.words import ALPHABET, word

if TYPE_CHECKING:
    from kling_async.sandbox.core import Sandbox

KLING3API, APIIN, KLINGGENERATOR, APIMART = Kling3Api(), ApiIn(), KlingGenerator(), ApiMart()
_SUBMITS: dict[str, Dialect] = {
    "/api/generate": KLING3API,
    "/api/v1/videos/generations": APIIN,
    "/v1/generate": KLINGGENERATOR,
    "/v1/videos/generations": APIMART,
}
_POLLS: tuple[tuple[str, Dialect, Operation], ...] = (
    ("/api/v1/tasks/", APIIN, "poll"),
    ("/v1/jobs/", KLINGGENERATOR, "poll"),
    ("/v1/tasks/", APIMART, "poll"),
)
_PREFIXES = {dialect.name: prefix for prefix, dialect, _ in _POLLS}
_OTHERS: dict[str, tuple[Dialect, Operation]] = {
    "/api/status": (KLING3API, "poll"),
    "/v1/uploads/images": (APIMART, "upload"),
    "/v1/balance": (APIMART, "balance"),
    "/balance": (APIMART, "balance"),
    "/v1/user/balance": (APIMART, "balance"),
    "/user/balance": (APIMART, "balance"),
}


def route(box: Sandbox, call: Call, now: float) -> Reply:
    """Answer a call by its path."""
    path = call.path
    if path.startswith("/_sandbox/"):
        return _own(box, call, now)
    dialect = _SUBMITS.get(path)
    if dialect is not None:
        reply = submit(box, dialect, call, now) if call.method == "POST" else _wrong_method(dialect)
        return _with_quota(box, dialect, call, reply, now)
    place = _OTHERS.get(path) or next((each[1:] for each in _POLLS if path.startswith(each[0])), None)
    if place is None:
        return json_reply(404, {"error": {"code": 404, "message": f"No such path: {path}", "type": "not_found"}})
    dialect, operation = place
    return _with_quota(box, dialect, call, _guarded(box, dialect, operation, call, now), now)


def _wrong_method(dialect: Dialect) -> Reply:
    return refused(dialect, Refusal(405, "Method not allowed"))


def _with_quota(box: Sandbox, dialect: Dialect, call: Call, reply: Reply, now: float) -> Reply:
    """klinggenerator tells on every answer what is left of the day's quota."""
    if dialect is KLINGGENERATOR and box.daily_quota is not None:
        left = box.quota.remaining(bearer(call), box.daily_quota, box.wall(now))
        reply.headers["X-RateLimit-Remaining"] = str(left)
    return reply


def _guarded(box: Sandbox, dialect: Dialect, operation: Operation, call: Call, now: float) -> Reply:
    """A call that is no submit: count it, ask the script, do the work unless an action forbids it."""
    if call.method != ("POST" if operation == "upload" else "GET"):
        return _wrong_method(dialect)
    task = _task(box, dialect, call) if operation == "poll" else None
    _note(box, operation, task)
    actions = box.scripted.pick(operation, task.order.prompt if task else "", bearer(call))
    answer, delay = answers(actions)
    reply = None
    if answer is None or answer.accept:
        try:
            admit(box, call, now, dialect.name)
            if operation == "poll":
                reply = _poll(Visit(box, dialect, call, now), task, [a for a in actions if isinstance(a, Twist)])
            else:
                reply = _balance(box) if operation == "balance" else _upload(box, call, now)
        except Refusal as refusal:
            reply = refused(dialect, refusal)
    return spoil(reply, answer, delay, dialect)


def _note(box: Sandbox, operation: Operation, task: Task | None) -> None:
    ledger = box.ledger
    if operation == "poll":
        ledger.polls += 1
        if task is not None:
            ledger.polls_per_task[task.id] += 1
    elif operation == "balance":
        ledger.balances += 1
    else:
        ledger.uploads += 1


def _task(box: Sandbox, dialect: Dialect, call: Call) -> Task | None:
    name = call.query.get("task_id", "") if dialect is KLING3API else call.path.removeprefix(_PREFIXES[dialect.name])
    task = box.tasks.get(name)
    return task if task is not None and task.gateway == dialect.name else None


def _poll(visit: Visit, task: Task | None, twists: list[Twist]) -> Reply:
    box, dialect, call, now = visit.box, visit.dialect, visit.call, visit.now
    if dialect is KLING3API and not call.query.get("task_id"):
        raise Refusal(400, "task_id is required")
    if task is None:
        raise Refusal(404)
    if task.refused_link:
        task.refused_link = False
        task.links += 1
    seen = view(task, now, box.wall(0), box.origin)
    lies = []
    for twist in (*task.traits, *twists):
        if twist.name == "no_url" and seen.status == "succeeded" and not spent(twist, task.shown):
            seen.urls = []
        elif twist.name == "lie_about" and not spent(twist, box.ledger.polls_per_task[task.id] - 1):
            lies.append(twist)
    if seen.status == "succeeded":
        task.shown += 1
    document = dialect.status(seen)
    for twist in lies:
        lied(document, twist)
    return json_reply(200, document)


def _balance(box: Sandbox) -> Reply:
    used = box.ledger.net
    left = box.credits_left
    document = {
        "success": True,
        "remain_balance": -1 if left is None else left / CREDITS_PER_USD,
        "remain_credits": -1 if left is None else left,
        "used_balance": used / CREDITS_PER_USD,
        "used_credits": used,
        "unlimited_quota": left is None,
    }
    return json_reply(200, document)


def _upload(box: Sandbox, call: Call, now: float) -> Reply:
    name, kind, content = uploaded(call)
    stored = f"{word(box.ids, 16, ALPHABET)}.{kind.partition('/')[2]}"
    box.images[stored] = File(content, kind)
    document = {
        # On a host of its own, as at the vendor; a client refuses to send the address of this machine to a gateway.
        "url": f"https://upload.sandbox.example/_sandbox/images/{stored}",
        "filename": name,
        "content_type": kind,
        "bytes": len(content),
        "created_at": int(box.wall(now)),
    }
    return json_reply(200, document)


def _own(box: Sandbox, call: Call, now: float) -> Reply:
    """The sandbox's own pages: ledger, health, reset, and files, which need no key."""
    page, _, name = call.path.removeprefix("/_sandbox/").partition("/")
    method = "GET" if call.method == "HEAD" else call.method
    if (method, page, name) == ("POST", "reset", ""):
        box.reset()
        return json_reply(200, {"status": "ok"})
    if (method, page, name) == ("GET", "ledger", ""):
        return json_reply(200, box.snapshot())
    if (method, page, name) == ("GET", "health", ""):
        return json_reply(200, {"status": "ok", "running": box.ledger.running})
    if method == "GET" and page in {"videos", "thumbs"}:
        return download(box, call, page, name, now)
    if method == "GET" and page == "images" and name in box.images:
        return serve_file(call, box.images[name])
    return json_reply(404, {"error": {"code": 404, "message": "No such page of the sandbox", "type": "not_found"}})
