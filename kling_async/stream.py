"""Outcomes in the order in which they come, from requests that are pulled only as slots free up."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from kling_async.bell import Bell
from kling_async.errors import ConfigurationError
from kling_async.requests import Request
from kling_async.results import Outcome
from kling_async.task import TaskFuture, is_elsewhere, is_running_here

Item: TypeAlias = Request | tuple[str, Request]
"""A request, or a key of your own and a request."""

Requests: TypeAlias = Iterable[Item] | AsyncIterable[Item]


UNREAD = 64
"""Outcomes that wait for a slow reader before no more requests are pulled, however many jobs others have open."""
UNSEEN, FOR_EACH_READ = 100, 2
"""Where nobody has set a number of slots, so many jobs are paid for before the first outcome is read, and so many more
for each that is: an endless input must not spend without end on what nobody has looked at."""


class Space(Protocol):
    """How many jobs may be open at once, and who reads what is to be made."""

    loop: asyncio.AbstractEventLoop
    moved: Bell
    """Rung when there may be more room."""
    slots: int | None
    """The most jobs in flight, or None where nobody has set that."""

    @property
    def room(self) -> int:
        """How many jobs should be open now."""
        ...

    def feed(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Read a user's input in the background."""
        ...


class Stream(AsyncIterator[Outcome]):
    """An asynchronous iterator of outcomes in completion order.

    Requests are pulled while fewer jobs than the session has slots are unfinished or wait to be taken by the reader.
    Leaving early, by `break`, an exception or `aclose`, withdraws what was not sent; what was sent goes on being
    followed by the session. An error of the input itself is raised after the outcomes of what came before it.
    """

    def __init__(self, requests: Requests, submit: Callable[[Item], TaskFuture], space: "Space") -> None:
        self._belt = _Belt(submit, space)
        self._requests = requests

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        self._belt.start(self._requests)
        return await self._belt.next()

    async def aclose(self) -> None:
        """Leave early; see the class."""
        self._belt.stop()

    def end_input(self) -> None:
        """Pull no more requests; the outcomes of those that were submitted still come."""
        self._belt.end_input()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._belt.stop()

    def __del__(self) -> None:
        # A `break` drops the last reference to this handle, though not to the belt: nobody is left to read.
        self._belt.abandon()


class _Belt:
    """What lies between the input and the reader. Its feeder and its jobs know it; the reader's handle owns it."""

    def __init__(self, submit: Callable[[Item], TaskFuture], space: Space) -> None:
        self._submit = submit
        self._space = space
        self._open: set[TaskFuture] = set()
        self._ready: deque[TaskFuture] = deque()
        self._read = 0
        self._feeder: asyncio.Task[None] | None = None
        self._finished = False
        self._error: Exception | None = None
        self._bell = space.moved

    def start(self, requests: Requests) -> None:
        self._check_place()
        if self._feeder is None and not self._finished:
            self._feeder = self._space.feed(self._feed(requests))

    async def next(self) -> Outcome:
        while not self._ready:
            if self._finished and not self._open:
                error, self._error = self._error, None
                raise error or StopAsyncIteration
            await self._bell.rung()
        future = self._ready.popleft()
        self._read += 1
        self._bell.ring()
        return await future.outcome()

    async def _feed(self, requests: Requests) -> None:
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    await self._take(request)
            else:
                for request in requests:
                    await self._take(request)
        except Exception as error:  # noqa: BLE001 - it is the user's own and reaches the reader
            self._error = error
        except asyncio.CancelledError:
            if not self._finished:
                self._error = RuntimeError("the input of the stream was cancelled")
        finally:
            self._finished = True
            self._bell.ring()
            if isinstance(requests, AsyncIterator) and hasattr(requests, "aclose"):
                with contextlib.suppress(Exception):
                    await requests.aclose()

    async def _take(self, request: Item) -> None:
        future = self._submit(request)
        self._open.add(future)
        future.add_done_callback(self._done)
        while self._is_full() and not self._finished:
            await self._bell.rung()

    def _is_full(self) -> bool:
        room = self._space.room
        if self._space.slots is None:
            room = min(room, UNSEEN + FOR_EACH_READ * self._read)
        return len(self._open) + len(self._ready) >= room or len(self._ready) >= UNREAD

    def _done(self, future: TaskFuture) -> None:
        if future in self._open:
            self._open.discard(future)
            self._ready.append(future)
            self._bell.ring()

    def end_input(self) -> None:
        self._finished = True
        feeder, self._feeder = self._feeder, None
        if feeder is None or self._space.loop.is_closed():
            return
        if not feeder.done():
            feeder.cancel()
        self._bell.ring()

    def abandon(self) -> None:
        """Stop, in whatever thread the garbage collector came by, and also after the event loop has been closed."""
        loop = self._space.loop
        if is_running_here(loop):
            self.stop()
        else:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.stop)

    def _check_place(self) -> None:
        if is_elsewhere(self._space.loop):
            raise ConfigurationError("this stream belongs to another event loop; use it where its session is")

    def stop(self) -> None:
        if self._space.loop.is_closed():
            return
        self._check_place()
        self.end_input()
        left, self._open = self._open, set()
        for future in left:
            future.withdraw_unsent()
        self._bell.ring()
