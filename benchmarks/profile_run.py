"""One run of the profile, in a process of its own: `python -m benchmarks.profile_run --part memory`.

Prints what jobs cost in CPU microseconds. The parts `memory` and `loopback` make whole jobs; the others repeat what one
room does for a submit, a look and a completion (the look that finds the video).
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from benchmarks.cpu_run import cpu_seconds
from kling_async import KlingSession, PollPlan, TextToVideo
from kling_async.endings import succeeded
from kling_async.gateways.kling3api import Kling3Api
from kling_async.network import Fence, Fetched
from kling_async.results import Snapshot, Status
from kling_async.task import TaskFuture
from kling_async.wire import HttpRequest, HttpResponse, talk

KEY = "a-key-for-the-profile"
ORIGIN = "http://127.0.0.1:8080"
PROMPT = "a paper boat in the rain, take 17"
GAP = 0.02
NEVER = 3000.0
"""Seconds before the first look of a job that is only submitted: longer than any run."""
TASK = "n75w1bfw6tk26jnkling3"
JOB = {
    "task_id": TASK,
    "status": "IN_PROGRESS",
    "consumed_credits": 200,
    "created_at": "2026-11-20T16:54:21Z",
    "request": {"type": "std-text-to-video", "prompt": PROMPT, "duration": 5, "aspect_ratio": "16:9"},
    "response": None,
    "error_message": None,
    "type": "std-text-to-video",
}
ACCEPTED = {name: JOB[name] for name in ("task_id", "status", "consumed_credits")}
DONE = JOB | {"status": "SUCCESS", "response": [f"{ORIGIN}/videos/{TASK}.mp4"]}


def body_of(data: Mapping[str, Any]) -> bytes:
    """The bytes of the answer that holds this."""
    return json.dumps({"code": 200, "message": "success", "data": data}).encode()


class InMemory:
    """A transport without a network, for jobs that end at a given look; it encodes what the real one encodes."""

    def __init__(self, looks: int) -> None:
        self._looks = looks
        self._seen: dict[str, int] = {}
        self._accepted, self._running, self._done = map(body_of, (ACCEPTED, JOB, DONE))

    async def send(self, request: HttpRequest, *, timeout: float, fence: Fence | None, fresh: bool) -> HttpResponse:
        """Answer like the gateway, after one turn of the loop."""
        request.url(ORIGIN)
        request.body()
        if fence is not None:
            await fence.pass_through()
        await asyncio.sleep(0)
        if request.method == "POST":
            task_id = f"n75w1bfw6tk26{len(self._seen):08}"
            self._seen[task_id] = 0
            return HttpResponse(200, {}, self._accepted.replace(TASK.encode(), task_id.encode()))
        task_id = request.query["task_id"]
        self._seen[task_id] += 1
        body = self._done if self._seen[task_id] >= self._looks else self._running
        return HttpResponse(200, {}, body.replace(TASK.encode(), task_id.encode()))

    def fetch(
        self, url: str, headers: Mapping[str, str], *, guarded: bool, stall: float
    ) -> AbstractAsyncContextManager[Fetched]:
        """Nothing is downloaded here."""
        raise NotImplementedError

    async def close(self) -> None:
        """There is nothing to close."""


class InMemorySession(KlingSession):
    """A session whose requests stay in this process."""

    looks = 1

    def _transport(self) -> InMemory:
        return InMemory(self.looks)


@asynccontextmanager
async def session_for(url: str, first: float, looks: int) -> AsyncIterator[KlingSession]:
    """A session at this address, or in memory without one."""
    plan = PollPlan(first=first, minimum=GAP, maximum=max(first, GAP))
    kind = KlingSession if url else InMemorySession
    session = kind("kling3api", api_key=KEY, base_url=url or ORIGIN, concurrency=None, rate=None, poll=plan)
    if isinstance(session, InMemorySession):
        session.looks = looks
    async with session:
        yield session


async def made(url: str, prompts: Sequence[str], looks: int) -> float:
    """CPU seconds of jobs from the request to the outcome."""
    async with session_for(url, GAP, looks) as session:
        begun = cpu_seconds()
        outcomes = await session.gather(TextToVideo(prompt) for prompt in prompts)
        spent = cpu_seconds() - begun
    if not all(outcome.ok for outcome in outcomes):
        raise RuntimeError("a job failed")
    return spent


async def submitted(url: str, prompts: Sequence[str]) -> float:
    """CPU seconds of jobs from the request to their acceptance."""
    async with session_for(url, NEVER, 1) as session:
        begun = cpu_seconds()
        jobs = [session.submit(TextToVideo(prompt)) for prompt in prompts]
        while not all(job.task_id for job in reversed(jobs)):
            await asyncio.sleep(GAP)
        return cpu_seconds() - begun


async def whole(url: str, jobs: int, looks: int) -> dict[str, float]:
    """Microseconds of a submitted job (looks: 0), or of one that was looked at so often."""
    prompts = [f"{PROMPT}, {number}" for number in range(jobs)]

    def work(some: Sequence[str]) -> Awaitable[float]:
        return made(url, some, looks) if looks else submitted(url, some)

    await work(prompts[:50])
    return {"job": await work(prompts) / jobs * 1e6}


def microseconds(work: Callable[[], object], times: int) -> float:
    """CPU of one call: the least of five rounds, since other programs only ever add to it."""
    spent = []
    for _ in range(5):
        begun = time.process_time()
        for _ in range(times):
            work()
        spent.append(time.process_time() - begun)
    return min(spent) / times * 1e6


def rooms(times: int) -> dict[str, dict[str, float]]:
    """Microseconds of the rooms that can be asked alone, by room, for a submit, a look and a completion."""
    gateway = Kling3Api(KEY)
    request = TextToVideo(PROMPT)
    ids = [TASK]
    posted, asked = next(gateway.submit(request, "key")), next(gateway.poll(ids))
    accepted, running, done = (HttpResponse(200, {}, body_of(data)) for data in (ACCEPTED, JOB, DONE))
    snapshot = talk(gateway.poll(ids), lambda _: done)[TASK]

    def adapter(exchange: Callable[[], Any], sent: HttpRequest, answer: HttpResponse) -> float:
        def work() -> None:
            gateway.authorize(sent, 0.0)
            talk(exchange(), lambda _: answer)

        return microseconds(work, times) - microseconds(answer.json, times)

    def wire(sent: HttpRequest, answer: HttpResponse) -> float:
        def work() -> None:
            sent.url(ORIGIN)
            sent.body()
            answer.json()

        return microseconds(work, times)

    return {
        "request": {"submit": microseconds(lambda: TextToVideo(PROMPT), times), "look": 0.0, "completion": 0.0},
        "adapter": {
            "submit": adapter(lambda: gateway.submit(request, "key"), posted, accepted),
            "look": adapter(lambda: gateway.poll(ids), asked, running),
            "completion": adapter(lambda: gateway.poll(ids), asked, done),
        },
        "wire": {"submit": wire(posted, accepted), "look": wire(asked, running), "completion": wire(asked, done)},
        "task": asyncio.run(task_future(request, snapshot, times)),
    }


async def task_future(request: TextToVideo, snapshot: Snapshot, times: int) -> dict[str, float]:
    """Microseconds of the handle itself: made, told of an acceptance, ended and awaited."""
    care: Any = argparse.Namespace(loop=asyncio.get_running_loop())

    def accepted() -> TaskFuture:
        job = TaskFuture(care, request, "key", named=False, timeout=60.0, now=0.0)
        job.show(Status.SUBMITTING)
        job.task_id, job.accepted_at = snapshot.task_id, 1.0
        job.show(Status.IN_PROGRESS, Snapshot(snapshot.task_id, Status.IN_PROGRESS))
        return job

    def ended() -> None:
        job = accepted()
        job.end(succeeded(job, snapshot, 2.0), Status.SUCCEEDED, snapshot)
        with suppress(StopIteration):
            job.outcome().send(None)

    submit = microseconds(accepted, times)
    return {"submit": submit, "look": 0.0, "completion": microseconds(ended, times) - submit}


def run(part: str, url: str, jobs: int, looks: int) -> Any:
    """Make the run."""
    if part == "rooms":
        return rooms(jobs)
    if bool(url) is not (part == "loopback"):
        raise ValueError("loopback needs --url, and nothing else takes one")
    return asyncio.run(whole(url, jobs, looks))


def parser() -> argparse.ArgumentParser:
    """The options of one run."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.profile_run", description=__doc__)
    made.add_argument("--part", choices=("rooms", "memory", "loopback"), required=True)
    made.add_argument("--url", default="")
    made.add_argument("--jobs", type=int, default=1000)
    made.add_argument("--looks", type=int, default=1, help="the look that finds a job done; 0: submit only")
    return made


if __name__ == "__main__":
    print(json.dumps(run(**vars(parser().parse_args()))))
