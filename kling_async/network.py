"""What the session needs of the network, without naming who carries it: the transport, and the send fence."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from attrs import define, frozen

from kling_async.wire import HttpRequest, HttpResponse


@define
class Fence:
    """Tells what is known of a paid request: whether a byte of it may have left, and the whole answer to it.

    The transport awaits `pass_through` once it has a connection and before it writes anything, so that a `before` which
    fails or is cancelled keeps everything back.

    Args:
        sent: becomes True right before the first byte leaves.
        before: awaited there first: the place for a durable record of the intent.
        answer: the answer to the conversation's latest request, once it is here whole.
    """

    sent: bool = False
    before: Callable[[], Awaitable[None]] | None = None
    answer: HttpResponse | None = None

    async def pass_through(self) -> None:
        """Run `before`, then let the bytes go."""
        if self.before is not None:
            await self.before()
        self.sent = True


@frozen
class Fetched:
    """The head of a download's answer, and its body in pieces."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


class Transport(Protocol):
    """What the session needs of the network."""

    async def send(self, request: HttpRequest, *, timeout: float, fence: Fence | None, fresh: bool) -> HttpResponse:
        """Send one request and return the whole answer within `timeout` seconds.

        Raises `ConnectionFailedError` if no byte left, `ResponseLostError` or `ProtocolError` otherwise.
        """
        ...

    def fetch(
        self, url: str, headers: Mapping[str, str], *, guarded: bool, stall: float
    ) -> AbstractAsyncContextManager[Fetched]:
        """Return an async context manager that yields `Fetched`, without credentials and without redirects."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...
