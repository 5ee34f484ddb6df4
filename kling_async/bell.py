"""Waiting until something has changed, or has come to its end whatever happens to who waits."""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

ENDINGS = 5.0
"""Seconds that something which was cut off may take to end: a user's input, a download."""


class Bell:
    """Wakes everybody who waits, as often as it is rung."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    async def rung(self, until: float | None = None) -> None:
        """Wait for the next ring, or until a moment of the loop's clock."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        timer = loop.call_at(until, _resolve, waiter) if until is not None else None
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)
            if timer is not None:
                timer.cancel()

    def ring(self) -> None:
        """Wake everybody who waits."""
        for waiter in self._waiting:
            _resolve(waiter)


def _resolve(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)


async def ended(task: asyncio.Future[Any], patience: float | None = None) -> bool:
    """Wait until something has ended, and do not leave before; True if the waiting was cancelled.

    Args:
        task: what is waited for.
        patience: seconds after the first cancellation when it is left all the same, for an end that is told from
            another thread: Ctrl-C may strike right where it is told. None (default) for what cannot get lost.
    """
    clock = asyncio.get_running_loop().time
    cancelled_at: float | None = None
    while not task.done():
        left = None if patience is None or cancelled_at is None else cancelled_at + patience - clock()
        if left is not None and left <= 0:
            break
        try:
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError:
            cancelled_at = clock() if cancelled_at is None else cancelled_at
    return cancelled_at is not None


async def to_its_end(task: asyncio.Future[T]) -> T:
    """Await something that must not be cut short; a cancellation is passed on afterwards."""
    cancelled = await ended(task)
    value = task.result()
    if cancelled:
        raise asyncio.CancelledError
    return value


async def carried_out(begin: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do something that must not be cut short; a cancellation is passed on afterwards.

    It runs as a task of its own. Where that one is cancelled, too, as all are when an event loop goes down, it is begun
    once more.
    """
    task = asyncio.ensure_future(begin())
    cancelled = await ended(task)
    if task.cancelled():
        task = asyncio.ensure_future(begin())
        cancelled = await ended(task) or cancelled
    if cancelled and not task.cancelled() and task.exception() is None:
        raise asyncio.CancelledError
    task.result()


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Do something in a thread, to its end: a thread cannot be cancelled, and must not go on behind our back.

    A cancelled one is waited for only so long: see `ENDINGS`.
    """
    future = asyncio.get_running_loop().run_in_executor(None, partial(work, *arguments))
    cancelled = await ended(future, ENDINGS)
    if not future.done():
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise asyncio.CancelledError
    value = future.result()
    if cancelled:
        raise asyncio.CancelledError
    return value
