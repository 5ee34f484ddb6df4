"""The library itself as a client of a simulated gateway: a real `KlingSession` whose requests go down a line."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Self

from benchmarks.simulation.line import Line
from benchmarks.simulation.server import Answer
from kling_async import CapacityError, KlingError, KlingSession, TaskFuture, TextToVideo
from kling_async.gateways import Accepted
from kling_async.gateways.kling3api import Kling3Api
from kling_async.network import Fence, Fetched
from kling_async.requests import Request
from kling_async.wire import Exchange, HttpRequest, HttpResponse


class CodedGateway(Kling3Api):
    """The dialect of kling3api.com, with a word of its own for too many running jobs, which that gateway lacks."""

    def submit(self, request: Request, key: str) -> Exchange[Accepted]:
        """Tell a full gateway from a fast one by the code of the refusal."""
        try:
            return (yield from super().submit(request, key))
        except KlingError as error:
            if error.code != "TOO_MANY_TASKS":
                raise
            full = CapacityError(error.message, gateway=self.name, http_status=429, code=error.code)
        raise full


class LineTransport:
    """Speaks the dialect of kling3api.com over a line."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def send(self, request: HttpRequest, *, timeout: float, fence: Fence | None, fresh: bool) -> HttpResponse:
        """Carry one request; the line loses none and is never late."""
        if fence is not None:
            await fence.pass_through()
        if request.method == "POST":
            assert request.json is not None
            answer = await self._line.submit(request.json["prompt"])
        else:
            answer = await self._line.poll(int(request.query["task_id"].removeprefix("job-")))
        return _refusal(answer) if answer.job is None else _told(answer)

    def fetch(
        self, url: str, headers: Mapping[str, str], *, guarded: bool, stall: float
    ) -> AbstractAsyncContextManager[Fetched]:
        """There is nothing to fetch."""
        raise NotImplementedError

    async def close(self) -> None:
        """There is nothing to close."""


def _told(answer: Answer) -> HttpResponse:
    status, urls = ("SUCCESS", '["https://videos.example/1.mp4"]') if answer.done else ("IN_PROGRESS", "null")
    data = f'{{"task_id":"job-{answer.job}","status":"{status}","consumed_credits":200,"response":{urls}}}'
    return HttpResponse(200, {}, f'{{"code":200,"message":"success","data":{data}}}'.encode())


def _refusal(answer: Answer) -> HttpResponse:
    code = f'"{answer.code}"' if answer.code else "429"
    body = f'{{"code":{code},"message":"Too many requests"}}'.encode()
    if answer.retry_after is None:
        return HttpResponse(429, {}, body)
    return HttpResponse(429, {"retry-after": str(answer.retry_after)}, body, float(answer.retry_after))


class LineSession(KlingSession):
    """A session over a line.

    Args:
        line: what carries its requests.
        seed: where its jitter comes from.
        settings: of the session.
    """

    def __init__(self, line: Line, seed: int, **settings: Any) -> None:
        super().__init__(CodedGateway("k-simulated"), base_url="http://127.0.0.1:9", **settings)
        self._line = line
        self._seed = seed

    async def __aenter__(self) -> Self:
        """Open the session with jitter that can be drawn again."""
        await super().__aenter__()
        if self._engine is not None:
            self._engine.random.seed(self._seed)
        return self

    def _transport(self) -> LineTransport:
        return LineTransport(self._line)


def requests(jobs: int) -> Iterator[TextToVideo]:
    """As many requests, each with a prompt of its own."""
    return (TextToVideo(f"a paper boat in the rain, take {number}") for number in range(jobs))


def watch(future: TaskFuture, line: Line) -> None:
    """Have the ledger told when the outcome of a job is there."""

    def over(done: TaskFuture) -> None:
        if done.task_id is not None and done.exception() is None:
            line.knows(int(done.task_id.removeprefix("job-")))

    future.add_done_callback(over)


async def batch(line: Line, jobs: int, seed: int, **settings: Any) -> None:
    """Bring a batch of jobs through, all submitted at once."""
    async with LineSession(line, seed, **settings) as session:
        futures = [session.submit(request) for request in requests(jobs)]
        for future in futures:
            watch(future, line)
        for future in futures:
            await future.outcome()
