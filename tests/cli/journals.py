"""Journals for the tests of the commands that read them: made once through the public API, against the sandbox."""

import asyncio
import json
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from kling_async import KlingSession, PollPlan, Timeouts
from kling_async.batch.journal import Journal
from kling_async.batch.keys import Planned
from kling_async.requests import ReferenceToVideo, Request, TextToVideo
from kling_async.sandbox import Sandbox
from kling_async.sandbox.server import ThreadedServer

JOBS: Mapping[str, Request] = {
    "boat": TextToVideo("a paper boat"),
    "fox": ReferenceToVideo("a fox", images=["https://example.com/fox.png"]),
    "wolf": TextToVideo("a wolf [sandbox: fail RISK]"),
    "crow": TextToVideo("a crow [sandbox: reject INVALID_PROMPT]"),
    "lost": TextToVideo("a lost answer [sandbox: drop_after_accept]"),
    "slow": TextToVideo("a slow one [sandbox: stuck]"),
    "dear": TextToVideo("a dear one", duration=15, quality="pro"),
}
"""Two that are done, one each of failed, rejected, in doubt, late and not sent."""


@cache
def _varied() -> bytes:
    with tempfile.TemporaryDirectory() as place, ThreadedServer(Sandbox(speed=1000)) as server:
        path = Path(place) / "varied.db"
        asyncio.run(_made(path, server.url))
        return path.read_bytes()


async def _made(path: Path, url: str) -> None:
    settings: dict[str, Any] = {"rate": None, "poll": PollPlan(0.02, 0.02, 0.1), "timeouts": Timeouts(generation=1)}
    async with (
        KlingSession("kling3api", api_key="any", base_url=url, **settings) as session,
        session.batch(path, download_to=path.parent / "videos", max_cost_per_job=700) as batch,
    ):
        batch.add([Planned(key, request, row=row) for row, (key, request) in enumerate(JOBS.items(), 1)])
        async for _ in batch.run():
            pass


def varied(path: Path) -> Path:
    """Put a journal of all kinds of jobs at a path that nobody drives."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_varied())
    change(path, "UPDATE batch SET source = '/data/shots.csv', directory = '/data/videos'")
    return path


def driven(path: Path) -> Journal:
    """Return a journal that this process drives until it is closed."""
    return Journal(path, gateway="kling3api", unit="credits", base_url="http://127.0.0.1:1")


def change(path: Path, sql: str, *values: object) -> None:
    """Change a journal behind its back."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(sql, values)


def sandboxed(path: Path) -> None:
    """Mark a journal as one of a sandbox run."""
    change(path, "UPDATE batch SET options = ?", json.dumps({"sandbox": True}))
