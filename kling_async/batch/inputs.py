"""Jobs on their way into the journal: lists at once, iterators a little at a time, as the run comes to them."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypeAlias

from attrs import define, field

from kling_async.batch.journal import Journal
from kling_async.batch.keys import BatchItem, Names, Planned, named
from kling_async.bell import ENDINGS
from kling_async.errors import InvalidRequestError
from kling_async.requests import Request

AT_ONCE = 100
"""Jobs that are planned ahead from an iterator."""

Price = Callable[[Request], int | None]
BatchItems: TypeAlias = Iterable[BatchItem] | AsyncIterable[BatchItem]


@define(eq=False)
class _Source:
    """An iterator of jobs: what it gave that is not in the journal yet, and what ended it before its time."""

    items: Iterator[Any] | AsyncIterator[Any]
    names: Names = field(factory=Names)
    pulled: list[Planned] = field(factory=list)
    error: Exception | None = None

    async def pull(self) -> None:
        """Have the next jobs ready: one of an asynchronous source, which may be slow, or some of another."""
        try:
            if isinstance(self.items, AsyncIterator):
                self.pulled.append(self.names.of(await anext(self.items)))
            else:
                # One by one, so that those before a fault are kept.
                self.pulled.extend(map(self.names.of, islice(self.items, AT_ONCE)))
        except StopAsyncIteration:
            return
        except Exception as error:  # noqa: BLE001 - the user's own: it is told after what came before it
            self.error = error

    async def close(self) -> None:
        """Tell an asynchronous source that nobody wants more of it."""
        if hasattr(self.items, "aclose"):
            with contextlib.suppress(Exception):
                async with asyncio.timeout(ENDINGS):
                    await self.items.aclose()


class Inputs:
    """What was added to a batch.

    Args:
        journal: takes the jobs in.
        price: what a request should cost, in millionths, or None.
    """

    def __init__(self, journal: Journal, price: Price) -> None:
        self._journal = journal
        self._price = price
        self._sources: deque[_Source] = deque()
        self._pulling: asyncio.Task[None] | None = None
        self._one_at_a_time = asyncio.Lock()
        self.error: Exception | None = None
        self.taken = 0

    def plan(self, items: Iterable[Any]) -> int:
        """Take jobs in at once, all or none; returns how many are new, or sent with a changed request."""
        return self._add(list(named(items, Names())))

    def later(self, items: BatchItems) -> None:
        """Take jobs in when the run comes to them."""
        self._sources.append(_Source(aiter(items) if isinstance(items, AsyncIterable) else iter(items)))

    def _add(self, items: list[Planned]) -> int:
        new, changed = self._journal.add(items, [self._price(item.request) for item in items])
        return new + changed

    def pull(self, wake: Callable[[], None]) -> bool:
        """Have the next jobs taken in, unless that is under way; False where there are none left."""
        if self._pulling is not None:
            return True
        if not self._sources or self.error is not None:
            return False
        self._pulling = asyncio.get_running_loop().create_task(self._pull())
        self._pulling.add_done_callback(partial(self._pulled, wake))
        return True

    async def _pull(self) -> None:
        try:
            await self.some()
        except Exception as error:  # noqa: BLE001 - the user's own: it reaches the reader of the run
            self.error = error

    def _pulled(self, wake: Callable[[], None], _: "asyncio.Task[None]") -> None:
        # From the event loop: an eager task may have ended before anybody knew of it.
        self._pulling = None
        wake()

    async def some(self) -> int | None:
        """Take the next jobs in and return how many are new; None where there are none left.

        What breaks an iterator, or is wrong with one of its items, ends it and is raised after what came before.
        """
        async with self._one_at_a_time:
            while self._sources:
                source = self._sources[0]
                if not source.pulled and source.error is None:
                    await source.pull()
                if source.pulled:
                    return self._take_in(source)
                self._sources.popleft()
                await source.close()
                if source.error is not None:
                    raise source.error
            return None

    def _take_in(self, source: _Source) -> int:
        """Take in what a source gave, or as much of it as comes before a job that cannot be taken."""
        new = 0
        try:
            new = self._add(source.pulled)
        except InvalidRequestError:
            for item in source.pulled:
                try:
                    new += self._add([item])
                except InvalidRequestError as error:
                    source.error = error
                    break
        self.taken += len(source.pulled)
        source.pulled = []
        return new

    async def close(self) -> None:
        """Pull no more."""
        pulling = self._pulling
        if pulling is not None:
            pulling.cancel()
            await asyncio.wait([pulling], timeout=ENDINGS)
        while self._sources:
            await self._sources.popleft().close()
