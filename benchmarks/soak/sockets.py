"""One soak over real sockets, in a process of its own: streams and downloads, with descriptors and memory counted.

`python -m benchmarks.soak.sockets --url http://127.0.0.1:8080 --gateway kling3api --jobs 20000 --rows FILE` prints its
figures as JSON, and writes what became of each job to the file.
"""

import argparse
import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TextIO

from attrs import astuple

from benchmarks.cpu_run import cpu_seconds
from benchmarks.memory_run import memory, peak_memory
from benchmarks.soak.gateway import KEY, PRICES
from benchmarks.soak.record import PROMPT, number_in
from benchmarks.soak.server import PATIENCE, REFILLED_AFTER
from benchmarks.soak.verdict import ended
from kling_async import (
    InsufficientCreditsError,
    KlingError,
    KlingSession,
    Outcome,
    PollPlan,
    RetryPolicy,
    Success,
    TextToVideo,
    Timeouts,
)
from kling_async.sandbox.mp4 import video

SAMPLES = 10
GENERATION = 15.0
"""Seconds after which a job that does not end is given up."""
DOWNLOADS_AT_ONCE = 8


def descriptors() -> int:
    """How many files and sockets this process has open."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class Soak:
    """One run.

    Args:
        url: where the gateway is.
        dialect: which gateway it is.
        jobs: how many.
        slots: jobs in flight.
        films: how many videos are downloaded.
        rows: where to write what became of each job.
        directory: where the videos go.
    """

    def __init__(
        self, url: str, dialect: str, jobs: int, *, slots: int, films: int, rows: TextIO, directory: Path
    ) -> None:
        self.url = url
        self.dialect = dialect
        self.jobs = jobs
        self.slots = slots
        self.every = max(1, jobs // films) if films else 0
        self.rows = rows
        self.directory = directory
        self.outcomes = 0
        self.sessions = 0
        self.asked = 0
        self.wrong: list[str] = []
        self.failed: list[str] = []
        self.memory: list[int] = []
        self.descriptors: list[int] = []
        self.after: list[int] = []
        self._numbers = iter(range(jobs))
        self._over = False
        self._money = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._places = asyncio.Semaphore(DOWNLOADS_AT_ONCE)

    async def run(self) -> None:
        """Stream all jobs; where a gateway cannot tell that the account was filled, a new session finds out."""
        while not self._over:
            self._money.set()
            self.sessions += 1
            async with self._session() as session:
                async for outcome in session.stream(self._requests()):
                    self._take(session, outcome)
                while self._errands:
                    await asyncio.wait(self._errands)
            await asyncio.sleep(REFILLED_AFTER * 1.2)
            self.after.append(descriptors())

    def _session(self) -> KlingSession:
        return KlingSession(
            self.dialect,
            api_key=KEY,
            base_url=self.url,
            concurrency=self.slots,
            rate=None,
            poll=PollPlan(minimum=0.1, maximum=2.0, price=0.02),
            timeouts=Timeouts(connect=5, submit=PATIENCE, poll=PATIENCE, generation=GENERATION),
            retry=RetryPolicy(initial=0.05, maximum=1.0),
        )

    async def _requests(self) -> AsyncIterator[TextToVideo]:
        while True:
            if self.dialect == "apimart":
                await self._money.wait()
            elif not self._money.is_set():
                return
            number = next(self._numbers, None)
            if number is None:
                self._over = True
                return
            yield TextToVideo(PROMPT.format(number))

    def _take(self, session: KlingSession, outcome: Outcome) -> None:
        assert isinstance(outcome.request, TextToVideo)
        number = number_in(outcome.request.prompt)
        print(json.dumps(astuple(ended(number, outcome))), file=self.rows)
        self.outcomes += 1
        if self.outcomes * SAMPLES % self.jobs < SAMPLES:
            self.memory.append(memory())
            self.descriptors.append(descriptors())
        if isinstance(outcome, Success):
            if self.every and number % self.every == 0:
                self._errand(self._download(session, number, outcome))
        elif isinstance(outcome.error, InsufficientCreditsError) and self._money.is_set():
            self._money.clear()
            if self.dialect == "apimart":
                self._errand(self._until_money(session))

    def _errand(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def _until_money(self, session: KlingSession) -> None:
        left = Decimal(0)
        while left < PRICES[self.dialect] * self.jobs / 10:  # what failed jobs give back is not worth beginning anew
            await asyncio.sleep(REFILLED_AFTER)
            with suppress(KlingError):
                left = (await session.balance()).amount or Decimal(0)
        self._money.set()

    async def _download(self, session: KlingSession, number: int, made: Success) -> None:
        self.asked += 1
        path = self.directory / f"{number}.mp4"
        async with self._places:
            try:
                await session.download(made, path)
            except KlingError as error:
                self.failed.append(f"job {number}: {error}")
                return
        if path.read_bytes() != video(made.task_id, "16:9", 5):
            self.wrong.append(f"job {number} has another file")


async def run(url: str, dialect: str, jobs: int, slots: int, films: int, rows: TextIO) -> dict[str, Any]:
    """Run one soak to its end; returns its figures."""
    with TemporaryDirectory() as directory:
        place = Path(directory)
        soak = Soak(url, dialect, jobs, slots=slots, films=films, rows=rows, directory=place)
        before = descriptors()
        begun, cpu = time.perf_counter(), cpu_seconds()
        await soak.run()
        wall, used = time.perf_counter() - begun, cpu_seconds() - cpu
        files = sorted(each.name for each in place.iterdir())
    return {
        "sessions": soak.sessions,
        "tasks_left": len(asyncio.all_tasks()) - 1,
        "descriptors_before": before,
        "descriptors": soak.descriptors,
        "descriptors_after": soak.after,
        "memory": soak.memory,
        "peak": peak_memory(),
        "films": {
            "asked": soak.asked,
            "whole": soak.asked - len(soak.failed) - len(soak.wrong),
            "failed": soak.failed,
            "wrong": soak.wrong,
            "strange_files": [name for name in files if not name.endswith(".mp4")],
        },
        "wall": wall,
        "cpu": used,
    }


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak.sockets", description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--gateway", choices=PRICES, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--films", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True)
    given = parser.parse_args()
    logging.getLogger("kling_async").setLevel(logging.ERROR)  # lies about tasks are what is wanted here
    with given.rows.open("w", encoding="utf-8") as rows:
        found = asyncio.run(run(given.url, given.gateway, given.jobs, given.slots, given.films, rows))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
