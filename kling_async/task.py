"""The handle for one submitted request. It waits, tells and withdraws; the session does the work."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Callable, Generator
from contextvars import Context, copy_context
from decimal import Decimal
from typing import Any, Literal, Protocol

from attrs import evolve

from kling_async.errors import Charged, ConfigurationError, KlingError
from kling_async.flow.durations import Learner
from kling_async.flow.polling import Forecast
from kling_async.gateways.protocol import Accepted
from kling_async.requests import Request
from kling_async.results import Failure, Outcome, Snapshot, Status, Success, Timing, Video

log = logging.getLogger("kling_async")


class Caretaker(Protocol):
    """What a task-future asks of the one who looks after it."""

    loop: asyncio.AbstractEventLoop

    def withdraw(self, future: "TaskFuture", *, unsent_only: bool = False) -> bool:
        """Stop looking after a job that its owner cancelled."""
        ...


class Recorder(Protocol):
    """Keeps the durable record of one job; see `kling_async.batch`."""

    identity: str
    """The job's identity at the gateway."""

    async def intent(self) -> None:
        """Record that the job is about to be sent; what this raises keeps every byte back."""
        ...

    async def accepted(self, accepted: Accepted) -> None:
        """Record the gateway's id, before anybody sees it. Raises `JournalError` for another job's id."""
        ...

    def postponed(self) -> None:
        """Record that the gateway surely did not take the job, which will be sent again."""
        ...


# What stands before the hash in a key that was derived from a request; see `kling_async.batch.keys`.
_WORDS = re.compile(r"^[a-z0-9-]+-(?=[0-9a-f]{16}(-[0-9]+)?$)")


class TaskFuture:
    """A submitted request: await it for the video, watch it, keep its id.

    Any number of awaiters may wait; cancelling one of them harms nobody else and never touches the job. Works with
    `asyncio.wait_for`, `gather`, `as_completed` and anyio's scopes. It belongs to the event loop of its session.

    Attributes:
        key: the job's name in this session: yours, or a derived one.
        request: what was asked for; None for an attached job.
        task_id: the gateway's id, once the gateway has accepted the job.
        status: where the job stands.
    """

    __slots__ = (
        "__weakref__",
        "_callbacks",
        "_care",
        "_outcome",
        "_snapshot",
        "_waiters",
        "_watchers",
        "accepted_at",
        "attempts",
        "deadline",
        "due",
        "expiry",
        "first_sent",
        "key",
        "kind",
        "last_error",
        "looked_at",
        "looking",
        "losses",
        "lost",
        "missed",
        "moved",
        "named",
        "number",
        "order",
        "polls",
        "promise",
        "queued_at",
        "record",
        "refusals",
        "request",
        "seen_age",
        "slot",
        "status",
        "task_id",
        "timeout",
        "unfinished_looks",
        "unknown_since",
        "withdrawn",
    )

    def __init__(
        self, care: Caretaker, request: Request | None, key: str, *, named: bool, timeout: float | None, now: float
    ) -> None:
        self._care = care
        self._outcome: Outcome | None = None
        self._snapshot: Snapshot | None = None
        self._waiters: set[asyncio.Future[None]] | None = None
        self._watchers: set[asyncio.Future[None]] | None = None
        self._callbacks: list[tuple[Callable[[TaskFuture], object], Context]] | None = None
        self.request = request
        self.key = key
        self.status = Status.QUEUED
        self.task_id: str | None = None
        # What follows is the session's bookkeeping.
        self.timeout = timeout
        self.queued_at = now
        self.accepted_at: float | None = None
        self.deadline: float | None = None
        self.expiry: list[Any] | None = None
        self.attempts = 0
        self.refusals = 0
        self.polls = 0
        self.missed = 0
        self.moved = -1
        self.named = named
        self.order = 0
        self.number = 0
        self.due = 0.0
        self.kind: Learner | None = None
        self.promise: Forecast | None = None
        self.seen_age = 0.0
        self.unfinished_looks = 0
        self.looked_at: float | None = None
        self.looking = False
        self.slot = False
        self.withdrawn: Literal["no", "unsent", "yes"] = "no"
        self.last_error: KlingError | None = None
        self.lost: KlingError | None = None
        self.losses = 0
        self.first_sent = 0.0
        self.unknown_since: float | None = None
        self.record: Recorder | None = None

    @property
    def label(self) -> str:
        """What logs call the job: its key, without the words of a prompt that a derived one begins with."""
        return _WORDS.sub("", self.key)

    def __repr__(self) -> str:
        name = f" task_id={self.task_id!r}" if self.task_id else ""
        return f"<TaskFuture {self.key!r} {self.status.value}{name}>"

    @property
    def progress(self) -> float | None:
        """How far the gateway says the job is, 0.0 to 1.0, or None where it does not say."""
        return self._snapshot.progress if self._snapshot else None

    @property
    def credits(self) -> Decimal | None:
        """What the gateway says the job costs, or None where it has not said."""
        return self._snapshot.credits if self._snapshot else None

    def done(self) -> bool:
        """Tell whether the job has an outcome."""
        return self._outcome is not None

    def cancelled(self) -> bool:
        """Tell whether the job was withdrawn with `cancel`."""
        return self.status is Status.CANCELLED

    def __await__(self) -> Generator[Any, None, Video]:
        return self._video().__await__()

    async def _video(self) -> Video:
        await self._ended()
        return self.result()

    async def outcome(self) -> Outcome:
        """Wait for the end and return `Success` or `Failure`; never raises for the job's failure."""
        await self._ended()
        assert self._outcome is not None  # noqa: S101 - what _ended waited for
        return self._outcome

    async def accepted(self) -> str:
        """Wait until the gateway has the job and return its task id; raises what ended the job before that."""
        while self.task_id is None and self._outcome is None:
            await self._changed()
        if self.task_id is None or self.status is Status.IN_DOUBT:
            self.result()
        assert self.task_id is not None  # noqa: S101 - otherwise the outcome was a failure and has been raised
        return self.task_id

    async def updates(self) -> AsyncIterator[Snapshot]:
        """Yield a `Snapshot` at once, then one for each change, up to and including the last.

        A slow reader sees the newest state, not every one in between.
        """
        shown: Snapshot | None = None
        while True:
            ended = self.done()
            snapshot = self.snapshot()
            if snapshot != shown:
                yield snapshot
                shown = snapshot
            elif ended:
                return
            elif not self.done():
                await self._changed()

    def snapshot(self) -> Snapshot:
        """Return the newest state that is known, without asking the gateway."""
        if self._snapshot is None:
            return Snapshot(self.task_id, self.status)
        if self._snapshot.status is self.status:
            return self._snapshot
        return evolve(self._snapshot, status=self.status)

    def result(self) -> Video:
        """Return the video, or raise the failure; raises `asyncio.InvalidStateError` while the job runs."""
        match self._outcome:
            case Success(video=video):
                return video
            case Failure(error=error):
                raise error.evolve()
        raise asyncio.InvalidStateError("the job has not ended yet")

    def exception(self) -> KlingError | None:
        """Return the failure or None; raises `asyncio.InvalidStateError` while the job runs."""
        match self._outcome:
            case Success():
                return None
            case Failure(error=error):
                return error.evolve()
        raise asyncio.InvalidStateError("the job has not ended yet")

    def add_done_callback(self, callback: Callable[["TaskFuture"], object]) -> None:
        """Call `callback(future)` from the event loop once the job has ended; at once if it has.

        As with asyncio's futures, it is called in the context (`contextvars`) in which it was added.
        """
        added = callback, copy_context()
        if self.done():
            self._call_soon(*added)
        elif self._callbacks is None:
            self._callbacks = [added]
        else:
            self._callbacks.append(added)

    def remove_done_callback(self, callback: Callable[["TaskFuture"], object]) -> int:
        """Forget a callback; returns how often it had been added."""
        kept = [known for known in self._callbacks or () if known[0] != callback]
        removed = len(self._callbacks or ()) - len(kept)
        self._callbacks = kept or None
        return removed

    def cancel(self) -> bool:
        """Withdraw the job; False if it has ended already.

        What was not sent is never sent. A POST that has begun runs to its end, so that its id is not lost. After
        acceptance this stops following the job, and cancels it at the gateway where the gateway can; it may have
        been charged. Raises `ConfigurationError` when called from another thread.
        """
        return self._care.withdraw(self)

    def withdraw_unsent(self) -> bool:
        """Withdraw the job only if the gateway does not have it; a POST under way decides that for itself."""
        return self._care.withdraw(self, unsent_only=True)

    async def _ended(self) -> None:
        while self._outcome is None:
            if self._waiters is None:
                self._waiters = set()
            await self._wait_in(self._waiters)

    async def _changed(self) -> None:
        if self._watchers is None:
            self._watchers = set()
        try:
            await self._wait_in(self._watchers)
        finally:
            self._watchers = self._watchers or None

    async def _wait_in(self, waiters: set[asyncio.Future[None]]) -> None:
        if not is_running_here(self._care.loop):
            raise ConfigurationError("this task-future belongs to another event loop; await it where its session is")
        waiter = self._care.loop.create_future()
        waiters.add(waiter)
        try:
            await waiter
        finally:
            waiters.discard(waiter)

    def show(self, status: Status, snapshot: Snapshot | None = None) -> None:
        """Take in a new state and wake those who watch."""
        changed = status is not self.status or snapshot is not None
        self.status = status
        if snapshot is not None:
            self._snapshot = snapshot
        if changed and self._watchers:
            _wake(self._watchers)

    def end(self, outcome: Outcome, status: Status, snapshot: Snapshot | None = None) -> None:
        """Take in the outcome, once and for all, and wake everybody."""
        if self._outcome is not None:
            return
        self._outcome = outcome
        if self._care.loop.is_closed():
            self.status = status
            return  # nobody can wait any more
        self.show(status, snapshot)
        for waiters in (self._waiters, self._watchers):
            if waiters:
                _wake(waiters)
        callbacks, self._callbacks = self._callbacks, None
        for added in callbacks or ():
            self._call_soon(*added)

    def _call_soon(self, callback: Callable[["TaskFuture"], object], context: Context) -> None:
        self._care.loop.call_soon(_call, callback, self, context=context)

    def timing(self, now: float) -> Timing:
        """Return how long the job queued, ran and how often it was asked about, up to `now`."""
        if self.accepted_at is None:
            return Timing(now - self.queued_at, None, self.polls, self.attempts)
        return Timing(self.accepted_at - self.queued_at, now - self.accepted_at, self.polls, self.attempts)

    def charged(self) -> Charged:
        """Tell whether the job cost money, as far as is known."""
        if self.task_id is None:
            return "no" if self.lost is None else "unknown"
        spent = self.credits
        return "unknown" if spent is None else ("yes" if spent > 0 else "no")


def is_running_here(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether the caller runs on this event loop."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def is_elsewhere(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether the caller is on another event loop, or in another thread than one that runs."""
    try:
        return asyncio.get_running_loop() is not loop
    except RuntimeError:
        return loop.is_running()


def _wake(waiters: set[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def _call(callback: Callable[[TaskFuture], object], future: TaskFuture) -> None:
    try:
        callback(future)
    except Exception:
        log.exception("a done-callback of job %s failed", future.key)
