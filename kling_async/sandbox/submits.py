"""A submit: the checks in the order of a gateway, the charge, and the directives in a prompt."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from attrs import define

from kling_async.sandbox.directives import directives, once
from kling_async.sandbox.faults import Action, Answer, Fate, Twist
from kling_async.sandbox.jobs import Dialect, Refusal, view
from kling_async.sandbox.spoil import answers, refused, spoil
from kling_async.sandbox.wire import Call, Reply, bearer, json_object, json_reply

if TYPE_CHECKING:
    from kling_async.sandbox.core import Sandbox
    from kling_async.sandbox.ledger import Submit

_KEY = re.compile(r"[\x21-\x7e]{1,191}")


@define(eq=False)
class Visit:
    """A call at a moment, to one dialect of the sandbox."""

    box: Sandbox
    dialect: Dialect
    call: Call
    now: float


def submit(box: Sandbox, dialect: Dialect, call: Call, now: float) -> Reply:
    """Answer a submit and write it into the ledger."""
    visit, body = Visit(box, dialect, call, now), json_object(call.body)
    prompt = _prompt(body)
    entry = box.ledger.open(now, dialect.name, prompt, call.headers.get("idempotency-key"))
    try:
        actions = [*box.scripted.pick("submit", prompt, bearer(call)), *_directed(box, dialect, prompt)]
    except ValueError as error:
        actions = [Answer("unknown directive", False, "body", 400, body=dialect.refusal(Refusal(400, str(error))))]
    answer, delay = answers(actions)
    reply = None
    if answer is None or answer.accept:
        try:
            reply = _take(visit, body, entry, actions)
        except Refusal as refusal:
            reply = refused(dialect, refusal)
    reply = spoil(reply, answer, delay, dialect)
    reply.submit = entry.seq
    box.ledger.close(entry, reply.status, reply.effect.ending == "answer")
    return reply


def admit(box: Sandbox, call: Call, now: float, gateway: str) -> str:
    """The key of a call that may come in; a refusal for a wrong key or too many calls."""
    key = bearer(call)
    if not key or (box.api_keys is not None and key not in box.api_keys):
        raise Refusal(401)
    wait = box.buckets.take(key, box.rate, box.burst, now)
    if wait > 0:
        # Only apimart is known to tell how long to wait.
        raise Refusal(429, retry_after=str(math.ceil(wait)) if gateway == "apimart" else None)
    return key


def _prompt(body: dict[str, Any] | None) -> str:
    """What names a job in the ledger: its prompt, or the prompts of its shots."""
    if body is None:
        return ""
    if isinstance(body.get("prompt"), str):
        return str(body["prompt"])
    shots = body.get("multi_prompt")
    return " / ".join(str(s.get("prompt")) for s in shots if isinstance(s, dict)) if isinstance(shots, list) else ""


def _directed(box: Sandbox, dialect: Dialect, prompt: str) -> list[Action]:
    """What the prompt asks for; an answer is spoilt once for each prompt, so that the job can go on."""
    if "[sandbox:" not in prompt.lower():
        return []
    found = []
    for name, action in directives(prompt):
        place = (prompt, name)
        if not once(name, action):
            found.append(action)
        elif not box.directed[place]:
            box.directed[place] += 1
            found.append(action)
    return found


def _take(visit: Visit, body: dict[str, Any] | None, entry: Submit, actions: list[Action]) -> Reply:
    """Accept and charge, replay an earlier answer, or refuse."""
    box, dialect, call, now = visit.box, visit.dialect, visit.call, visit.now
    key = admit(box, call, now, dialect.name)
    if body is None:
        raise Refusal(400, "The body must be a JSON object")
    name = entry.idempotency_key if dialect.name == "apimart" else None
    if name is not None:
        replayed = _replay(box, (key, name), body, entry)
        if replayed is not None:
            return replayed
    _count(box, dialect, key, now)
    order = dialect.order(body)
    if box.max_running is not None and box.ledger.running >= box.max_running:
        raise Refusal(429, "Too many tasks are running")
    if not box.can_pay(order.price):
        raise Refusal(402, "Insufficient account balance." if dialect.name == "apimart" else "")
    task_id = dialect.task_id(order, box.ids, box.wall(now))
    task = box.begin(order, dialect.name, task_id, entry.seq, now)
    _twist(task, actions, now)
    box.schedule(task)
    box.ledger.accept(entry, task_id, order.price)
    reply = json_reply(200, dialect.accepted(view(task, now, box.wall(0), box.origin), call.headers))
    version = call.headers.get("x-apimart-response-version")
    if dialect.name == "apimart" and version:
        reply.headers["X-APIMart-Response-Version"] = version
    if name is not None:
        box.replays[key, name] = (body, Reply(200, {**reply.headers}, reply.body), task_id)
    return reply


def _replay(box: Sandbox, place: tuple[str, str], body: dict[str, Any], entry: Submit) -> Reply | None:
    """The earlier answer to the same key and body; a refusal when the body is another one."""
    if not _KEY.fullmatch(place[1]):
        raise Refusal(400, "Idempotency-Key must be 1 to 191 visible ASCII characters", field="Idempotency-Key")
    earlier = box.replays.get(place)
    if earlier is None:
        return None
    known, reply, task_id = earlier
    if known != body:
        message = "idempotency_key_reused: the key was used with another request"
        raise Refusal(409, message, reason="IDEMPOTENCY_KEY_REUSED")
    entry.replayed, entry.task_id = True, task_id
    return Reply(200, {**reply.headers, "Idempotency-Replayed": "true"}, reply.body)


def _count(box: Sandbox, dialect: Dialect, key: str, now: float) -> None:
    """Count a submit of klinggenerator against the day's quota."""
    if dialect.name != "klinggenerator" or box.daily_quota is None:
        return
    if not box.quota.remaining(key, box.daily_quota, box.wall(now)):
        raise Refusal(429, "Rate limit exceeded: the daily quota is used up")
    box.quota.use(key)


def _twist(task: Any, actions: list[Action], now: float) -> None:
    """Give a new task its fate and its traits."""
    for action in actions:
        if isinstance(action, Fate):
            task.reason, task.code = action.reason, action.code
            if action.after is not None:
                task.ends_at = now + action.after
        elif isinstance(action, Twist):
            task.traits.append(action)
