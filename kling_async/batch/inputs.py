"""Jobs on their way into the journal: lists at once, iterators a little at a time, as the run comes to them."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

from kling_async.batch.journal import Journal
from kling_async.batch.keys import BatchItem, Names, Planned, named
from kling_async.requests import Request

AT_ONCE = 100
"""Jobs that are planned ahead from an iterator."""

Price = Callable[[Request], int | None]
BatchItems: TypeAlias = Iterable[BatchItem] | AsyncIterable[BatchItem]


class Inputs:
    """What was added to a batch.

    Args:
        journal: takes the jobs in.
        price: what a request should cost, in millionths, or None.
    """

    def __init__(self, journal: Journal, price: Price) -> None:
        self._journal = journal
        self._price = price
        self._sources: deque[tuple[Iterator[Any] | AsyncIterator[Any], Names]] = deque()
        self._pulling: asyncio.Task[None] | None = None
        self.error: Exception | None = None

    def plan(self, items: Iterable[Any]) -> int:
        """Take jobs in at once, all or none; returns how many are new, or sent with a changed request."""
        return self._add(list(named(items, Names())))

    def later(self, items: BatchItems) -> None:
        """Take jobs in when the run comes to them."""
        source = aiter(items) if isinstance(items, AsyncIterable) else iter(items)
        self._sources.append((source, Names()))

    def _add(self, items: list[Planned]) -> int:
        new, changed = self._journal.add(items, [self._price(item.request) for item in items])
        return new + changed

    def pull(self, wake: Callable[[], None]) -> bool:
        """Have the next jobs taken in, unless that is under way; False where there are none left."""
        if self._pulling is not None:
            return True
        if not self._sources or self.error is not None:
            return False
        self._pulling = asyncio.get_running_loop().create_task(self._pull(wake))
        return True

    async def _pull(self, wake: Callable[[], None]) -> None:
        try:
            await self.some()
        except Exception as error:  # noqa: BLE001 - the user's own: it reaches the reader of the run
            self.error = error
        finally:
            self._pulling = None
            wake()

    async def some(self) -> int | None:
        """Take the next jobs in and return how many are new; None where there are none left."""
        while self._sources:
            source, names = self._sources[0]
            items = await _next(source)
            if items:
                return self._add(list(named(items, names)))
            self._sources.popleft()
        return None

    async def close(self) -> None:
        """Pull no more."""
        pulling = self._pulling
        if pulling is not None:
            pulling.cancel()
            await asyncio.wait([pulling])
        while self._sources:
            source, _ = self._sources.popleft()
            if hasattr(source, "aclose"):
                with contextlib.suppress(Exception):
                    await source.aclose()


async def _next(source: Iterator[Any] | AsyncIterator[Any]) -> list[Any]:
    """Return the next items: one of an asynchronous source, which may be slow, or some of another."""
    if not isinstance(source, AsyncIterator):
        return list(islice(source, AT_ONCE))
    try:
        return [await anext(source)]
    except StopAsyncIteration:
        return []
