"""How an action changes a reply."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from kling_async.sandbox.faults import Action, Answer, Twist
from kling_async.sandbox.jobs import Dialect, Refusal
from kling_async.sandbox.wire import Effect, Reply, json_reply

_ALIASES = {"task_id": ("task_id", "job_id", "id"), "credits": ("consumed_credits", "credits_cost")}


def refused(dialect: Dialect | None, refusal: Refusal) -> Reply:
    """A refusal in the gateway's own envelope; in plain words for a file."""
    if dialect is None:
        reply = Reply(refusal.status, {"Content-Type": "text/plain; charset=utf-8"}, refusal.message.encode())
    else:
        reply = json_reply(refusal.status, dialect.refusal(refusal))
    if refusal.retry_after is not None:
        reply.headers["Retry-After"] = refusal.retry_after
    return reply


def answers(actions: Iterable[Action]) -> tuple[Answer | None, float]:
    """The action that decides about the answer, if any, and the seconds that all of them delay it."""
    found = [action for action in actions if isinstance(action, Answer)]
    deciding = [action for action in found if action.name != "slow"]
    return (deciding[0] if deciding else None), sum(action.delay for action in found)


def spoil(reply: Reply | None, answer: Answer | None, delay: float, dialect: Dialect | None) -> Reply:
    """The reply after the action; `reply` is None when the gateway did nothing."""
    if answer is None:
        assert reply is not None  # noqa: S101 - without an action there is a true answer
        changed = reply
    else:
        changed = _changed(reply, answer, dialect)
        changed.headers.update(answer.headers)
        if answer.retry_after is not None:
            changed.headers["Retry-After"] = answer.retry_after
        if answer.ending != "answer":
            changed.effect = Effect(answer.ending, delay, len(changed.body) // 2)
            return changed
    if delay:
        changed.effect = Effect("answer", delay)
    return changed


def lied(document: Any, twist: Twist) -> None:
    """Replace values in a poll's answer, at its top and under its `data`."""
    places = [document, document.get("data")] if isinstance(document, dict) else []
    for name, value in twist.fields:
        for place in places:
            if isinstance(place, dict):
                place.update({key: value for key in _ALIASES.get(name, (name,)) if key in place})


def spent(twist: Twist, shown: int) -> bool:
    """Whether a twist has been shown as often as it should be."""
    return twist.times is not None and shown >= twist.times


def _changed(reply: Reply | None, answer: Answer, dialect: Dialect | None) -> Reply:
    status = answer.status or (reply.status if reply else 500)
    if answer.says == "refusal" or (reply is None and answer.says == "truth"):
        return refused(dialect, Refusal(status, code=answer.code))
    if answer.says == "body":
        return _with_body(status, answer.body, reply)
    assert reply is not None  # noqa: S101 - the truth needs a true answer
    return reply


def _with_body(status: int, body: Any, reply: Reply | None) -> Reply:
    if callable(body):
        body = body(json.loads(reply.body) if reply else None)
    if isinstance(body, bytes):
        return Reply(status, {}, body)
    if isinstance(body, str):
        return Reply(status, {"Content-Type": "text/plain; charset=utf-8"}, body.encode("utf-8", "surrogatepass"))
    return json_reply(status, dict(body) if isinstance(body, Mapping) else body)
