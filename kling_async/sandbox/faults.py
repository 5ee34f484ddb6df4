"""Faults on demand: actions that spoil one answer or one task, and the rules that say when."""

from collections import deque
from collections.abc import Callable, Collection
from random import Random
from typing import Any, Literal

from attrs import define, field, frozen

from kling_async.sandbox.wire import Ending

Operation = Literal["submit", "poll", "download", "balance", "upload"]
OPERATIONS: tuple[Operation, ...] = ("submit", "poll", "download", "balance", "upload")


@frozen
class Answer:
    """Spoils one answer. With `accept` the gateway does its work first: a submit is accepted and charged."""

    name: str
    accept: bool
    says: Literal["truth", "refusal", "body"] = "truth"
    status: int | None = None
    code: str | None = None
    retry_after: str | None = None
    body: Any = None
    headers: tuple[tuple[str, str], ...] = ()
    ending: Ending = "answer"
    delay: float = 0.0


@frozen
class Fate:
    """Decides how an accepted task ends. `after` is in seconds, None for a drawn duration."""

    name: str
    after: float | None = None
    reason: str | None = None
    code: str | None = None


@frozen
class Twist:
    """Spoils what an accepted task shows: its polls or its video. The first `times` of them, None for all."""

    name: str
    times: int | None = None
    status: int = 200
    fields: tuple[tuple[str, Any], ...] = ()
    kind: str = ""


Action = Answer | Fate | Twist


def http(
    status: int,
    code: str | None = None,
    retry_after: float | str | None = None,
    body: object = None,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """Refuse with an HTTP status in the gateway's own envelope; nothing is accepted.

    `code` replaces the gateway's error code. `retry_after` is sent verbatim: seconds, an HTTP date or junk.
    `body` replaces the envelope: text, bytes, or anything that JSON can hold.
    """
    says: Literal["refusal", "body"] = "refusal" if body is None else "body"
    after = None if retry_after is None else str(retry_after)
    return Answer("http", False, says, status, code, after, body, headers)


def drop_before_accept() -> Answer:
    """Close the connection without an answer; the job was not accepted and nothing charged."""
    return Answer("drop_before_accept", False, ending="drop")


def drop_after_accept() -> Answer:
    """Take the job, charge for it, then close the connection without an answer."""
    return Answer("drop_after_accept", True, ending="drop")


def reset_after_accept() -> Answer:
    """Take the job, charge for it, then reset the connection (TCP RST)."""
    return Answer("reset_after_accept", True, ending="reset")


def half_body() -> Answer:
    """Do the work, promise the whole answer in Content-Length and send half of it."""
    return Answer("half_body", True, ending="cut")


def hang_after_accept() -> Answer:
    """Take the job, charge for it, and never answer."""
    return Answer("hang_after_accept", True, ending="hang")


def slow(seconds: float) -> Answer:
    """Answer truthfully, `seconds` later; not divided by the sandbox's speed."""
    return Answer("slow", True, delay=seconds)


def html(status: int = 502, *, accept: bool = False) -> Answer:
    """An HTML page, as a proxy in front of a gateway sends it."""
    page = f"<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>"
    headers = (("Content-Type", "text/html; charset=utf-8"),)
    return Answer("html", accept, "body", status, body=page, headers=headers)


def garbage(*, accept: bool = True) -> Answer:
    """Status 200 and a body that is announced as JSON and is none; by default the job was accepted."""
    headers = (("Content-Type", "application/json"),)
    return Answer("garbage", accept, "body", 200, body='{"code":200,"data":{"task_', headers=headers)


def empty(status: int = 200, *, accept: bool = True) -> Answer:
    """A status and no body at all; by default the job was accepted."""
    return Answer("empty", accept, "body", status, body=b"")


def answer(
    body: object | Callable[[Any], object],
    status: int = 200,
    *,
    accept: bool = False,
    headers: tuple[tuple[str, str], ...] = (),
) -> Answer:
    """Any answer: text, bytes, or anything that JSON can hold.

    With `accept` the job is accepted and charged all the same, and `body` may be a function that is given the true
    answer (a parsed JSON document) and returns what to send.
    """
    return Answer("answer", accept, "body", status, body=body, headers=headers)


def accepted_then(status: int) -> Answer:
    """Take the job, charge for it, and answer with that error status in the gateway's own envelope."""
    return Answer("accepted_then", True, "refusal", status)


def fail(reason: str = "generation failed", code: str | None = None, after: float | None = None) -> Fate:
    """Accept the task and let it fail later, with the credits refunded.

    `code` is shown by gateways that have a field for it. `after` seconds, or a drawn duration.
    """
    return Fate("fail", after, reason, code)


def stuck() -> Fate:
    """Accept the task and never end it."""
    return Fate("stuck", float("inf"))


def ends_after(seconds: float) -> Fate:
    """Accept the task and end it after exactly `seconds`; not divided by the sandbox's speed."""
    return Fate("ends_after", seconds)


def no_url(times: int | None = None) -> Twist:
    """Say that the task succeeded without giving a video: in the first `times` such answers, None for always."""
    return Twist("no_url", times)


def lie_about(*, times: int | None = None, **fields: object) -> Twist:
    """Answer polls with other values: `lie_about(task_id="n75other")`.

    `task_id` and `credits` stand for the gateway's own names of them; any other name is replaced where the answer has
    it. Without fields, the answer is about another task.
    """
    return Twist("lie_about", times, fields=tuple((fields or {"task_id": "another-task"}).items()))


def expired_link(status: int = 403, times: int = 1) -> Twist:
    """The first `times` links to the video answer with `status`; a poll after a refused download gives a new link."""
    return Twist("expired_link", times, status)


def truncated_mp4() -> Twist:
    """The video ends in the middle, with a Content-Length that says so."""
    return Twist("truncated_mp4")


def not_a_video(content_type: str = "video/mp4") -> Twist:
    """An HTML page where the video should be."""
    return Twist("not_a_video", kind=content_type)


@define(eq=False)
class Rule:
    """One line of a script. `seen` counts the calls that it might apply to, `fired` those that it did apply to."""

    action: Action
    on: Operation | None
    prompt: str | None
    api_key: str | None = field(repr=False)
    nth: int | Collection[int] | None
    times: int | None
    every: int | None
    share: float | None
    random: Random
    seen: int = 0
    fired: int = 0

    def applies(self, operation: Operation, prompt: str, key: str) -> bool:
        """Whether it strikes this call; counts it."""
        if self.on is not None and self.on != operation:
            return False
        if (self.prompt is not None and self.prompt not in prompt) or self.api_key not in {None, key}:
            return False
        self.seen += 1
        if self.times is not None and self.fired >= self.times:
            return False
        if self.nth is not None and self.seen not in ({self.nth} if isinstance(self.nth, int) else self.nth):
            return False
        if (self.every and self.seen % self.every) or (self.share is not None and self.random.random() >= self.share):
            return False
        self.fired += 1
        return True


@define(eq=False)
class Script:
    """The rules of a sandbox and the actions that wait for the very next call."""

    seed: int
    rules: list[Rule] = field(factory=list)
    queued: dict[Operation, deque[Action]] = field(factory=dict)

    def add(self, action: Action, on: Operation | None, **when: Any) -> Rule:
        """A new rule; a fate belongs to a submit, and so does a twist unless it is for polls or downloads."""
        if on is not None and on not in OPERATIONS:
            raise ValueError(f"on must be one of {', '.join(OPERATIONS)} or None, not {on!r}")
        if on is None and not isinstance(action, Answer):
            on = "submit"
        if isinstance(action, Fate) and on != "submit":
            raise ValueError(f"{action.name}() decides about a task: it works on submits only")
        rule = Rule(action, on, **when, random=Random(f"{self.seed}/rule/{len(self.rules)}"))
        self.rules.append(rule)
        return rule

    def pick(self, operation: Operation, prompt: str, key: str) -> list[Action]:
        """The actions that strike this call, the queued one first."""
        found: list[Action] = []
        waiting = self.queued.get(operation)
        if waiting:
            found.append(waiting.popleft())
        if self.rules:
            found += [rule.action for rule in self.rules if rule.applies(operation, prompt, key)]
        return found
