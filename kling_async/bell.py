"""Waiting until something has changed, or has come to its end whatever happens to who waits."""

import asyncio


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


async def to_its_end(task: asyncio.Future[None]) -> None:
    """Await something that must not be cut short; a cancellation is passed on afterwards."""
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError
