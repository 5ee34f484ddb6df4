"""A web application (FastAPI) that makes videos: submit, ask, or watch the progress as server-sent events.

    export KLING_GATEWAY=apimart KLING_API_KEY=...
    uvicorn --app-dir examples web_app:app

    curl -d '{"prompt": "a paper boat in the rain"}' -H 'Content-Type: application/json' \
         -H 'Idempotency-Key: order-123' localhost:8000/videos      # 202 at once: {"id": "order-123", ...}
    curl localhost:8000/videos/order-123                            # where it stands
    curl -N localhost:8000/videos/order-123/events                  # every change, up to the end

Without an account and without money, against the sandbox:

    python -m kling_async.sandbox --port 8080 --speed 5 &
    export KLING_GATEWAY=apimart KLING_API_KEY=any KLING_BASE_URL=http://127.0.0.1:8080

The jobs live in this one process: run one worker.
"""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import FrameType
from typing import Annotated, Any, TypedDict

from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from kling_async import InvalidRequestError, KlingSession, PollPlan, SessionClosedError, TaskFuture, request_from

SOMEBODY_WATCHES = PollPlan(maximum=2)

Handler = Callable[[int, FrameType | None], Any]


class State(TypedDict):
    """What the application holds while it runs."""

    session: KlingSession
    videos: dict[str, TaskFuture]


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[State]:
    """One session as long as the application runs."""
    async with KlingSession(poll=SOMEBODY_WATCHES) as session, closed_by_signal(session):
        yield State(session=session, videos={})


@asynccontextmanager
async def closed_by_signal(session: KlingSession) -> AsyncIterator[None]:
    """Close the session as soon as the server is told to stop.

    A server first waits for its open responses and only then ends the lifespan; the streams end with their jobs.
    """
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    before = handlers()

    def pass_on(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stop.set)
        before[number](number, frame)

    async def close() -> None:
        await stop.wait()
        await session.aclose()

    closing = asyncio.create_task(close())
    for number in before:
        signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        stop.set()
        await closing


def handlers() -> dict[int, Handler]:
    """Return what the server has set for the signals that stop it; nothing where it runs in a thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    return {number: handler for number, handler in found.items() if callable(handler)}


app = FastAPI(title="Videos", lifespan=lifespan)


@app.exception_handler(InvalidRequestError)
async def refused(request: Request, error: InvalidRequestError) -> JSONResponse:
    """Say what is wrong with a request."""
    return JSONResponse(error.to_dict(), status_code=422)


@app.exception_handler(SessionClosedError)
async def closing(request: Request, error: SessionClosedError) -> JSONResponse:
    """Take nothing on any more."""
    return JSONResponse({"message": "the application is closing"}, status_code=503)


def known(request: Request, id: str) -> TaskFuture:  # noqa: A002 - the name in the path
    """Return the job of that id."""
    videos: dict[str, TaskFuture] = request.state.videos
    if id not in videos:
        raise HTTPException(404, "there is no such video")
    return videos[id]


Known = Annotated[TaskFuture, Depends(known)]
IdempotencyKey = Annotated[str | None, Header(pattern=r"^[A-Za-z0-9._~-]{1,100}$")]


@app.post("/videos", status_code=202)
async def submit(
    row: dict[str, Any], request: Request, response: Response, idempotency_key: IdempotencyKey = None
) -> dict[str, Any]:
    """Submit a job and return its id at once; the same Idempotency-Key again is the same job, paid for once."""
    session: KlingSession = request.state.session
    future = session.submit(request_from(row), key=idempotency_key)
    if future.done() and isinstance(error := future.exception(), InvalidRequestError):
        raise error
    request.state.videos[future.key] = future
    response.headers["Location"] = f"/videos/{future.key}"
    return await told(future)


@app.get("/videos/{id}")
async def status(future: Known) -> dict[str, Any]:
    """Tell where a job stands, or how it ended."""
    return await told(future)


@app.get("/videos/{id}/events", response_class=EventSourceResponse)
async def events(future: Known) -> AsyncIterator[ServerSentEvent]:
    """Tell every change, and at last how the job ended. A reader that goes away changes nothing for the job."""
    async for snapshot in future.updates():
        yield ServerSentEvent(event="update", data=snapshot.to_dict())
    yield ServerSentEvent(event="end", data=await told(future))


async def told(future: TaskFuture) -> dict[str, Any]:
    """Return what is known of a job as JSON can hold it."""
    seen = await future.outcome() if future.done() else future.snapshot()
    return {"id": future.key, **seen.to_dict()}
