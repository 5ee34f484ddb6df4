"""Waiting until something has changed, or has come to its end whatever happens to who waits."""

import asyncio
import errno
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
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


class _Daemons(Executor):
    """Gives each piece of work a thread of its own, for which no program waits at its end.

    Ctrl-C that strikes while work is handed to a thread may leave a lock of it taken for ever. An event loop would wait
    for such a thread of its own executor when it closes, and so would the interpreter.
    """

    def submit(self, work: Callable[P, T], /, *given: P.args, **named: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        run = partial(_run, future, partial(work, *given, **named))
        try:
            threading.Thread(target=run, name="kling-work", daemon=True).start()
        except RuntimeError:  # so it is told that the system has no room for another
            raise OSError(errno.EAGAIN, "no thread can be started") from None
        return future


_DAEMONS = _Daemons()


def _run(future: Future[T], work: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(work())
    except BaseException as error:  # noqa: BLE001 - is raised where the future is awaited
        future.set_exception(error)


async def in_thread(work: Callable[..., T], *arguments: Any) -> T:
    """Do something in a thread, to its end: a thread cannot be cancelled, and must not go on behind our back.

    A cancelled one is waited for only so long: see `ENDINGS`.
    """
    future = asyncio.get_running_loop().run_in_executor(_DAEMONS, partial(work, *arguments))
    cancelled = await ended(future, ENDINGS)
    if not future.done():
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
        raise asyncio.CancelledError
    value = future.result()
    if cancelled:
        raise asyncio.CancelledError
    return value
