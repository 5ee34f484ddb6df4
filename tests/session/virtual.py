"""Sessions in virtual time: a transport without sockets, over a sandbox in the same process."""

import asyncio
from urllib.parse import unquote

from benchmarks.virtual import START, VirtualLoop
from benchmarks.virtual import Jumping as _Jumping
from kling_async import KlingSession
from kling_async.errors import ConnectionFailedError, ResponseLostError
from kling_async.flow.backoff import retry_after
from kling_async.sandbox import Call, Sandbox
from kling_async.wire import HttpResponse

__all__ = ["START", "MemoryTransport", "VirtualLoop", "VirtualSession", "_Jumping", "now"]


class MemoryTransport:
    """Carries requests straight to a sandbox; each takes `rtt` seconds of virtual time."""

    def __init__(self, sandbox: Sandbox, rtt: float = 0.08):
        self.sandbox = sandbox
        self.rtt = rtt
        self.log = []
        self.down = False
        self.closed = False
        self.in_flight = 0
        self.most_in_flight = 0

    async def send(self, request, *, timeout, fence, fresh):
        loop = asyncio.get_running_loop()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self.down:
                raise ConnectionFailedError("no connection", code="refused", stage="connect")
            if fence is not None:
                await fence.pass_through()
            self.log.append((loop.time(), request.method, request.path, dict(request.query)))
            async with asyncio.timeout(timeout):
                await asyncio.sleep(self.rtt / 2)
                reply = self.sandbox.handle(_call(request), loop.time())
                await asyncio.sleep(self.rtt / 2 + reply.effect.delay)
                if reply.effect.ending == "hang":
                    await asyncio.sleep(10**9)
        except TimeoutError:
            raise ResponseLostError("too long", code="timeout") from None
        finally:
            self.in_flight -= 1
        if reply.effect.ending != "answer":
            raise ResponseLostError("hung up", code="disconnected")
        headers = {name.lower(): value for name, value in reply.headers.items()}
        return HttpResponse(reply.status, headers, reply.body, retry_after(headers.get("retry-after"), 0.0))

    async def close(self):
        self.closed = True

    def times(self, method):
        return [at for at, made, _, _ in self.log if made == method]


def _call(request):
    headers = {name.lower(): value for name, value in request.headers.items()}
    return Call(request.method, unquote(request.path), dict(request.query), headers, request.body() or b"")


class VirtualSession(KlingSession):
    """A session over a sandbox in the same process, in whatever time its loop keeps."""

    def __init__(self, sandbox=None, gateway="kling3api", *, rtt=0.08, **settings):
        settings.setdefault("api_key", "k-virtual-secret")
        super().__init__(gateway, **settings)
        self.sandbox = sandbox or Sandbox(epoch=1_700_000_000 - START)
        self.sandbox.epoch = self.sandbox.epoch if self.sandbox.epoch is not None else 1_700_000_000 - START
        self.sandbox.public_url = self.sandbox.public_url or "http://127.0.0.1:9"
        self.wire = MemoryTransport(self.sandbox, rtt)

    def _transport(self):
        return self.wire


def now():
    return asyncio.get_running_loop().time()
