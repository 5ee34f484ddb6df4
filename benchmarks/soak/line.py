"""A session in virtual time over the hostile gateway in the same process: its line, its clock, its settings."""

import asyncio
import selectors
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import Any, Self
from urllib.parse import unquote

from benchmarks.cpu_run import cpu_seconds
from benchmarks.memory_run import peak_memory
from benchmarks.soak.gateway import KEY, PRICES, Hostile
from benchmarks.soak.verdict import Tally
from benchmarks.virtual import START, Jumping, VirtualLoop
from kling_async import KlingSession, Timeouts
from kling_async.errors import ConnectionFailedError, ResponseLostError
from kling_async.flow.backoff import retry_after
from kling_async.network import Fence, Fetched
from kling_async.sandbox import Call
from kling_async.wire import HttpRequest, HttpResponse

ROUND_TRIP = 0.08
UNREACHABLE_SHARE = 0.004
"""Of all requests, so many find no connection."""
SLOTS = 500
LEAST = 20_000.0
"""Seconds of virtual time that any run may take: jobs that never end are given up after an hour."""
THREAD_PATIENCE = 20.0


class Line:
    """Carries requests straight to a gateway in the same process.

    Args:
        gateway: who answers.
        seed: what draws the requests that find no connection.
    """

    def __init__(self, gateway: Hostile, seed: int) -> None:
        self._gateway = gateway
        self._random = Random(f"{seed}/line")
        self.requests = 0

    async def send(self, request: HttpRequest, *, timeout: float, fence: Fence | None, fresh: bool) -> HttpResponse:
        """Carry one request; it takes the time of a round trip."""
        if self._random.random() < UNREACHABLE_SHARE:
            raise ConnectionFailedError("no connection", code="refused", stage="connect")
        if fence is not None:
            await fence.pass_through()
        self.requests += 1
        clock = asyncio.get_running_loop().time
        headers = {name.lower(): value for name, value in request.headers.items()}
        call = Call(request.method, unquote(request.path), dict(request.query), headers, request.body() or b"")
        await asyncio.sleep(ROUND_TRIP / 2)
        reply = self._gateway.handle(call, clock())
        late = reply.effect.delay + ROUND_TRIP > timeout
        if reply.effect.ending == "hang" or late:
            await asyncio.sleep(timeout - ROUND_TRIP / 2)
            raise ResponseLostError("it took too long", code="timeout")
        await asyncio.sleep(ROUND_TRIP / 2 + reply.effect.delay)
        if reply.effect.ending != "answer":
            raise ResponseLostError("the connection was closed", code="disconnected")
        said = {name.lower(): value for name, value in reply.headers.items()}
        return HttpResponse(reply.status, said, reply.body, retry_after(said.get("retry-after"), time.time()))

    def fetch(
        self, url: str, headers: Mapping[str, str], *, guarded: bool, stall: float
    ) -> AbstractAsyncContextManager[Fetched]:
        """There is nothing to fetch."""
        raise NotImplementedError

    async def close(self) -> None:
        """There is nothing to close."""


class LineSession(KlingSession):
    """A session over a line, with jitter that can be drawn again."""

    def __init__(self, gateway: str, line: Line, seed: int, **settings: Any) -> None:
        super().__init__(gateway, api_key=KEY, base_url="http://127.0.0.1:9", **settings)
        self._line = line
        self._seed = seed

    async def __aenter__(self) -> Self:
        """Open the session."""
        await super().__aenter__()
        if self._engine is not None:
            self._engine.random.seed(self._seed)
        return self

    def _transport(self) -> Line:
        return self._line


class Counting(Jumping):
    """Counts how often the loop wakes up, and lets no time pass while a thread owes the loop something."""

    loop: "SoakLoop"
    wakeups = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready."""
        self.wakeups += 1
        if self.loop.owed and (timeout is None or timeout > 0):
            return selectors.DefaultSelector.select(self, THREAD_PATIENCE)
        return super().select(timeout)


class SoakLoop(VirtualLoop):
    """Virtual time, with the wake-ups counted; `owed` is how many answers of threads the loop waits for."""

    def __init__(self) -> None:
        self.now = START
        self.owed = 0
        self.counting = Counting()
        self.counting.loop = self
        asyncio.SelectorEventLoop.__init__(self, self.counting)

    def wait_for(self, answer: "asyncio.Future[Any]") -> None:
        """Let time stand still until a thread has answered."""
        self.owed += 1
        answer.add_done_callback(self._answered)

    def _answered(self, _: "asyncio.Future[Any]") -> None:
        self.owed -= 1


def slots_of(jobs: int) -> int:
    """How many jobs are in flight: fewer in a small run, so that it goes through the same as a large one."""
    return max(25, min(SLOTS, jobs // 20))


def gateway_of(dialect: str, jobs: int, seed: int) -> Hostile:
    """A gateway that runs fewer jobs at once than the client would like, and whose account is filled ten times."""
    return Hostile(
        jobs=jobs,
        seed=seed,
        patience=Timeouts().submit,
        purse=PRICES[dialect] * jobs / 10,
        refilled_after=120.0,
        unknown_for=20.0,
        max_running=slots_of(jobs) * 24 // 25,
        epoch=1_700_000_000 - START,
        public_url="http://127.0.0.1:9",
    )


def measured(work: Callable[[], Awaitable[None]], gateway: Hostile, line: Line, tally: Tally) -> dict[str, Any]:
    """Run a soak to its end on a loop of its own; returns what it came to.

    Raises `TimeoutError` where the end does not come within ten times the virtual time that the slots would need.
    """
    begun, cpu = time.perf_counter(), cpu_seconds()
    most = LEAST + 10 * tally.jobs * gateway.median / slots_of(tally.jobs)
    with asyncio.Runner(loop_factory=SoakLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, SoakLoop)
        runner.run(_within(most, work))
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
    return {
        **tally.figures(gateway.record),
        "gateway": gateway.record.totals,
        "refills": gateway.refills,
        "requests": line.requests,
        "wakeups": loop.counting.wakeups,
        "tasks_left": len(left),
        "peak": peak_memory(),
        "wall": time.perf_counter() - begun,
        "cpu": cpu_seconds() - cpu,
        "virtual": loop.now - START,
    }


async def _within(seconds: float, work: Callable[[], Awaitable[None]]) -> None:
    async with asyncio.timeout(seconds):
        await work()
