"""The sandbox on a port: an aiohttp application that enacts what the replies say about the wire."""

import asyncio
import socket
import struct
import threading
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from aiohttp import web
from attrs import define, field

from kling_async.sandbox.core import Sandbox
from kling_async.sandbox.ledger import Ledger
from kling_async.sandbox.wire import Call, Reply

MOST_BYTES = 25 * 1024 * 1024
"""The largest request body that is read."""

_CLOSING = web.AppKey("closing", asyncio.Event)


@define(eq=False)
class SandboxServer:
    """A running sandbox. `url` is its origin, like "http://127.0.0.1:8080"."""

    url: str
    sandbox: Sandbox

    @property
    def ledger(self) -> Ledger:
        """The ledger of the sandbox."""
        return self.sandbox.ledger


def create_app(sandbox: Sandbox) -> web.Application:
    """The sandbox as an aiohttp application, on the clock of its event loop.

    Run it with `handler_cancellation=True`, as `serve` does, so that a client that hangs up is noticed.
    """
    app = web.Application(client_max_size=MOST_BYTES)
    closing = app[_CLOSING] = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        if sandbox.public_url is None:
            sandbox.public_url = f"{request.scheme}://{request.host}"
        call = Call(
            request.method,
            request.path,
            dict(request.query) if request.query_string else {},
            {name.lower(): value for name, value in request.headers.items()},
            await request.read() if request.body_exists else b"",
        )
        reply = sandbox.handle(call, asyncio.get_running_loop().time())
        if reply.effect.ending == "answer" and not reply.effect.delay:
            return web.Response(status=reply.status, headers=reply.headers, body=reply.body)
        try:
            return await _enact(request, reply, closing)
        except (asyncio.CancelledError, ConnectionError):
            if reply.submit is not None:
                sandbox.lost(reply.submit)
            raise

    async def start(_app: web.Application) -> None:
        if sandbox.epoch is None:
            sandbox.epoch = time.time() - asyncio.get_running_loop().time()

    async def stop(_app: web.Application) -> None:
        closing.set()

    app.router.add_route("*", "/{path:.*}", handle)
    app.on_startup.append(start)
    app.on_shutdown.append(stop)
    return app


@asynccontextmanager
async def serve(
    sandbox: Sandbox, host: str = "127.0.0.1", port: int = 0, *, allow_any_host: bool = False
) -> AsyncIterator[SandboxServer]:
    """Serve a sandbox until the block ends. Port 0 takes a free one; only loopback hosts unless `allow_any_host`."""
    if not allow_any_host and not _loopback(host):
        raise ValueError(f"{host} is not a loopback address; the sandbox lets everybody in (see allow_any_host)")
    runner = web.AppRunner(create_app(sandbox), access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        address = runner.addresses[0]
        name = f"[{address[0]}]" if ":" in address[0] else address[0]
        sandbox.public_url = f"http://{name}:{address[1]}"
        yield SandboxServer(sandbox.public_url, sandbox)
    finally:
        await runner.cleanup()


@define(eq=False)
class ThreadedServer:
    """A sandbox served from a thread with an event loop of its own, for tests that are not asynchronous.

    `with ThreadedServer(Sandbox()) as server: ... server.url`. The sandbox may be scripted and its ledger read from
    any thread meanwhile.
    """

    sandbox: Sandbox = field(factory=Sandbox)
    host: str = "127.0.0.1"
    port: int = 0
    url: str = field(init=False, default="")
    _loop: asyncio.AbstractEventLoop | None = field(init=False, default=None)
    _thread: threading.Thread | None = field(init=False, default=None)
    _stack: AsyncExitStack = field(init=False, factory=AsyncExitStack)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the sandbox."""
        return self.sandbox.ledger

    def __enter__(self) -> Self:
        loop = self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=loop.run_forever, name="kling-sandbox", daemon=True)
        self._thread.start()
        entering = self._stack.enter_async_context(serve(self.sandbox, self.host, self.port))
        try:
            self.url = asyncio.run_coroutine_threadsafe(entering, loop).result().url
        except BaseException:
            self._stop(loop)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._stack.aclose(), self._loop).result()
            self._stop(self._loop)

    def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join()
        loop.close()
        self._loop = self._thread = None


async def _enact(request: web.Request, reply: Reply, closing: asyncio.Event) -> web.StreamResponse:
    """Wait, then answer, cut the answer short, hang or hang up."""
    effect = reply.effect
    if effect.delay or effect.ending == "hang":
        await _wait(closing, None if effect.ending == "hang" else effect.delay)
    if effect.ending == "answer":
        response = web.Response(status=reply.status, headers=reply.headers, body=reply.body)
        await response.prepare(request)
        await response.write_eof()
        return response
    if effect.ending == "cut":
        return await _cut(request, reply)
    _hang_up(request, reset=effect.ending == "reset")
    return web.Response()


async def _wait(closing: asyncio.Event, seconds: float | None) -> None:
    """Wait so long, or until the server closes; the client's hanging up cancels it."""
    try:
        async with asyncio.timeout(seconds):
            await closing.wait()
    except TimeoutError:
        return


async def _cut(request: web.Request, reply: Reply) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    response.content_length = len(reply.body)
    await response.prepare(request)
    await response.write(reply.body[: reply.effect.cut_at])
    _hang_up(request, reset=False)
    return response


def _hang_up(request: web.Request, *, reset: bool) -> None:
    """Close the connection, after what was written; at once and with a TCP reset if asked for."""
    transport = request.transport
    if transport is None:
        return
    if not reset:
        transport.close()
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
