"""One run of the journal benchmark, in a process of its own: `python -m benchmarks.journal_run --way steps ...`."""

import argparse
import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.cpu_run import cpu_seconds
from benchmarks.memory_run import peak_memory
from kling_async import KlingSession, TextToVideo, Video
from kling_async.batch import entry as steps
from kling_async.batch.entry import Entry
from kling_async.batch.journal import Journal
from kling_async.batch.keys import Names, named
from kling_async.batch.states import State, Step

PROMPT = "a paper boat drifts down a rainy street at dusk, warm light from shop windows, slow dolly shot, take"
PRICE = 200_000_000


async def stepped(journal: Journal, entries: Iterator[Entry], waits: list[float]) -> None:
    """Take jobs through the three steps of their life, each awaited: intent, task id, result."""
    for entry in entries:
        begun = time.perf_counter()
        sent = steps.intended(entry, time.time(), PRICE)
        await journal.write(entry, sent, Step.SUBMITTING)
        waits.append(time.perf_counter() - begun)
        task_id = f"n75abc{entry.id:06}kling3"
        taken = steps.accepted(sent, "kling3api", task_id, time.time(), None)
        await journal.write(sent, taken, Step.ACCEPTED, task_id)
        video = Video(task_id, f"https://cdn.example/{task_id}.mp4")
        await journal.write(taken, steps.succeeded(taken, video, None, time.time()), Step.SUCCEEDED)


async def run_steps(jobs: int, in_flight: int) -> dict[str, float]:
    """Measure the journal alone, with so many jobs waiting for it at once."""
    with TemporaryDirectory(dir=".") as directory:
        journal = Journal(Path(directory) / "batch.db", gateway="kling3api", unit="credits", base_url="")
        try:
            items = list(named((TextToVideo(f"{PROMPT} {number}") for number in range(jobs)), Names()))
            journal.add(items, [PRICE] * jobs)
            entries = iter(list(journal.each([State.PLANNED])))
            waits: list[float] = []
            cpu, wall = cpu_seconds(), time.perf_counter()
            await asyncio.gather(*(stepped(journal, entries, waits) for _ in range(in_flight)))
            cpu, wall = cpu_seconds() - cpu, time.perf_counter() - wall
        finally:
            journal.close()
    waits.sort()
    return {"cpu": cpu, "wall": wall, "p50": waits[len(waits) // 2], "p99": waits[len(waits) * 99 // 100]}


def make(path: Path, jobs: int) -> None:
    """Write a journal of many jobs: half of them made, a thousand at the gateway, the rest planned."""
    journal = Journal(path, gateway="kling3api", unit="credits", base_url="")
    try:
        names = Names()
        for first in range(0, jobs, 10_000):
            texts = (f"{PROMPT} {number}" for number in range(first, min(jobs, first + 10_000)))
            items = list(named((TextToVideo(text) for text in texts), names))
            journal.add(items, [PRICE] * len(items))
    finally:
        journal.close()
    made, running = jobs // 2, min(1000, jobs // 4)
    with sqlite3.connect(path) as connection:
        known = f"gateway = 'kling3api', task_id = 'n' || id, reserved = {PRICE}, intent_at = 1, accepted_at = 1"
        connection.execute(
            f"UPDATE job SET state = 'accepted', {known} WHERE id BETWEEN {made + 1} AND {made + running}"
        )
        video = json.dumps({"task_id": "n", "url": "https://cdn.example/n.mp4"})
        done = f"{known}, ended_at = 2, charged = 'yes', video = '{video}'"
        connection.execute(f"UPDATE job SET state = 'succeeded', {done} WHERE id <= {made}")
    connection.close()


async def run_open(jobs: int, path: str) -> dict[str, float]:
    """Open a journal of many jobs, and take up what an earlier run left at the gateway."""
    running = min(1000, jobs // 4)
    begun = time.perf_counter()
    async with KlingSession("kling3api", api_key="benchmark", base_url="http://127.0.0.1:9", rate=None) as session:
        batch = session.batch(path)
        async with batch:
            opened = time.perf_counter() - begun
            total = batch.summary().total
            counted = time.perf_counter() - begun
            reading = asyncio.ensure_future(anext(batch.run()))
            while (course := batch.under_way) is None or course.making < running:
                await asyncio.sleep(0.001)
            resumed = time.perf_counter() - begun
            reading.cancel()
            await asyncio.wait([reading])
    assert total == jobs
    peak = peak_memory() / 2**20
    return {"opened": opened, "counted": counted, "resumed": resumed, "peak_mib": peak}


def parser() -> argparse.ArgumentParser:
    """The options of one run."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.journal_run", description=__doc__)
    made.add_argument("--way", choices=("steps", "make", "open"), required=True)
    made.add_argument("--jobs", type=int, default=5000)
    made.add_argument("--in-flight", type=int, default=64)
    made.add_argument("--path", default="")
    return made


def main() -> None:
    """Run the command."""
    given = parser().parse_args()
    if given.way == "make":
        make(Path(given.path), given.jobs)
        print("{}")
        return
    ways: dict[str, Callable[[], dict[str, float]]] = {
        "steps": lambda: asyncio.run(run_steps(given.jobs, given.in_flight)),
        "open": lambda: asyncio.run(run_open(given.jobs, given.path)),
    }
    print(json.dumps(ways[given.way]()))


if __name__ == "__main__":
    main()
