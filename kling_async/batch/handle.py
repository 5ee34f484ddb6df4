"""The handle of one run: outcomes as they complete, and nothing more is paid for once nobody reads them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from types import TracebackType
from typing import Self

import anyio

from kling_async.batch.course import Course
from kling_async.bell import carried_out
from kling_async.errors import ConfigurationError, SessionClosedError
from kling_async.results import Outcome
from kling_async.task import is_running_here


class BatchRun(AsyncIterator[Outcome]):
    """The outcomes of one run, as they complete. Leaving early sends nothing new and keeps what was sent on record."""

    def __init__(self, course: Course, earlier: Iterator[Outcome], over: Callable[[Course], None]) -> None:
        self.course = course
        self._earlier = earlier
        self._over = over
        self._closed = False
        self._pid = os.getpid()
        self._loop = asyncio.get_running_loop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        if self._closed:
            raise StopAsyncIteration
        self._check_place()
        for outcome in self._earlier:
            return outcome
        try:
            return await self.course.next()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._closed = True
            self._over(self.course)
            raise

    async def aclose(self) -> None:
        """Leave early: nothing new is sent, and what is being sent comes to its end."""
        if not self._closed and os.getpid() == self._pid:
            self._check_place()
            self._closed = True
            with anyio.CancelScope(shield=True):
                await carried_out(self.course.close)
            self._over(self.course)

    def _check_place(self) -> None:
        if not is_running_here(self._loop):
            raise ConfigurationError("this run belongs to another event loop; read it where its batch was opened")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A `break` drops this handle: nobody is left to read, so nothing more is paid for.
        if self._closed:
            return
        self.course.left = True
        reason = SessionClosedError("the loop over the run was left; what is not sent stays planned")
        if is_running_here(self._loop):
            self.course.stop(reason)
        else:  # the garbage collector may come by in any thread, and after the event loop has been closed
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.course.stop, reason)
