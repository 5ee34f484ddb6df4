"""The clients that are compared, each used as its own documentation shows for many jobs, with its own defaults."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from attrs import frozen

from benchmarks.peers.terms import Work


@frozen
class Ending:
    """How a client said that a prompt ended.

    Args:
        prompt: whose job it was.
        ended: when the client said so, on the clock of `time.monotonic`, which all processes of a machine share.
        video: the video's address or id; None: there is none.
        error: the class and the words of the error.
        says: all that the error or the caller's own variables say, where a job's id may stand.
        url: the address of the failed request, which may hold the id if somebody digs for it.
        in_doubt: whether the client says that the job's fate cannot be known.
    """

    prompt: str
    ended: float
    video: str | None = None
    error: str = ""
    says: str = ""
    url: str = ""
    in_doubt: bool = False


Gather = Callable[[Sequence[str]], Awaitable[list[Ending]]]
"""Makes videos for all prompts."""
Held = list[str]
"""Job ids that the caller's own code holds in a variable when an error comes."""
Make = Callable[[str, Held], Awaitable[str]]
"""Makes one video; returns its address or id."""


@frozen
class Client:
    """One client.

    Args:
        name: as it is told and chosen.
        module: where it is in `benchmarks.peers.clients`.
        dialect: the API that it speaks.
        needs: modules that must be there.
        defaults: what it does by itself, in words.
        bounded: whether it keeps to the jobs in flight that a run is told; one that does not has another ideal.
    """

    name: str
    module: str
    dialect: str
    needs: tuple[str, ...]
    defaults: str
    bounded: bool = True


Opened = Callable[[Work], AbstractAsyncContextManager[Gather]]
"""Every client's module has `opened`, of this type."""

ALL = (
    Client(
        "kling_async",
        "kling",
        "kling3api",
        (),
        "`session.gather`; looks when the job could be done, at least 1 s apart; submits again only what surely "
        "was not accepted, looks again after any fault",
    ),
    Client(
        "kling_async-auto",
        "kling_auto",
        "kling3api",
        (),
        "the same, told neither the jobs in flight nor the rate: it finds out, and may have more in flight than the "
        "others where nothing refuses them",
        bounded=False,
    ),
    Client(
        "script",
        "script",
        "kling3api",
        ("tenacity", "aiolimiter"),
        "aiohttp, `tenacity.retry` (5 tries on any error, 1 to 10 s apart) around every request, "
        "`aiolimiter.AsyncLimiter` on submits, a look every 5 s",
    ),
    Client(
        "fal-client",
        "fal",
        "fal",
        ("fal_client",),
        "`AsyncClient.subscribe`; a look every 0.1 s, then the result; 10 tries on 408, 409, 429, lost connections "
        "and timeouts, POSTs as well; none on 500",
    ),
    Client(
        "replicate",
        "replicate",
        "replicate",
        ("replicate",),
        "`async_run`; the submit is held back for 60 s (scaled), then a look every 0.5 s; 10 tries of a GET on "
        "429, 503, 504; none of a POST, on 500 or on a lost connection",
    ),
    Client(
        "runwayml",
        "runway",
        "runway",
        ("runwayml",),
        "`text_to_video.create`, `wait_for_task_output`; a look every 4.5 to 7.5 s; 3 tries on 408, 409, 429, 5xx "
        "and lost connections, POSTs as well, 0.5 to 8 s apart",
    ),
    Client(
        "openai",
        "openai",
        "openai",
        ("openai",),
        "`videos.create_and_poll`; a look every 1 s, the first at once; 3 tries on 408, 409, 429, 5xx and lost "
        "connections, POSTs as well, 0.5 to 8 s apart",
    ),
)


async def each(prompts: Sequence[str], concurrency: int, make: Make) -> list[Ending]:
    """Make all videos with an asyncio task per prompt and a semaphore, as people do."""
    slots = asyncio.Semaphore(concurrency)

    async def one(prompt: str) -> Ending:
        held: Held = []
        async with slots:
            try:
                video = await make(prompt, held)
            except Exception as error:
                return failed(prompt, error, held)
            return Ending(prompt, time.monotonic(), video)

    return await asyncio.gather(*map(one, prompts))


def failed(prompt: str, error: Exception, held: Held) -> Ending:
    """Return the ending that an error tells of."""
    ended = time.monotonic()
    own = {name: value for name, value in vars(error).items() if "request" not in name or isinstance(value, str)}
    return Ending(
        prompt, ended, error=f"{type(error).__name__}: {error}"[:200], says=f"{error} {own} {held}", url=url_of(error)
    )


def url_of(error: Exception) -> str:
    """Return the address of the request that failed, where the error keeps it."""
    for holder in (error, getattr(error, "response", None)):
        try:
            request: Any = getattr(holder, "request", None) or getattr(holder, "request_info", None)
        except RuntimeError:  # httpx: the property is there, the request is not
            continue
        if request is not None:
            return str(request.url)
    return ""
