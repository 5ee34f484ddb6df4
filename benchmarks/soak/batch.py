"""One soak of a durable batch in virtual time, in a process of its own: run after run over one journal on disk.

`python -m benchmarks.soak.batch --gateway kling3api --jobs 20000` prints its figures as JSON.
"""

import argparse
import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.soak.gateway import PRICES
from benchmarks.soak.line import Line, LineSession, SoakLoop, gateway_of, measured, slots_of
from benchmarks.soak.record import PROMPT
from benchmarks.soak.verdict import Ended, Tally
from kling_async import Status, TextToVideo, Timeouts
from kling_async.batch.batch import Batch
from kling_async.batch.reading import Reading
from kling_async.batch.states import State

MOST_RUNS = 100
PAUSE = 150.0
"""Seconds between two runs: somebody fills the account meanwhile."""
GENERATION = 900.0
"""Seconds after which a run stops looking at a job that does not end."""
_STATUS = {
    State.ACCEPTED: Status.IN_PROGRESS,
    State.SUCCEEDED: Status.SUCCEEDED,
    State.REJECTED: Status.FAILED,
    State.FAILED: Status.FAILED,
    State.IN_DOUBT: Status.IN_DOUBT,
}


class Soak:
    """A batch that is run again until everything of it was sent.

    Args:
        dialect: which gateway.
        jobs: how many.
        seed: everything random follows from it.
        path: the journal.
    """

    def __init__(self, dialect: str, jobs: int, seed: int, path: Path) -> None:
        self.dialect = dialect
        self.jobs = jobs
        self.seed = seed
        self.path = path
        self.gateway = gateway_of(dialect, jobs, seed)
        self.line = Line(self.gateway, seed)
        self.tally = Tally(jobs, resolves=dialect == "apimart")
        self.runs = 0
        self.read = 0

    async def run(self) -> None:
        """Run the batch, each time in a session of its own, until nothing of it is left to be sent."""
        while await self._once() and self.runs < MOST_RUNS:
            await asyncio.sleep(PAUSE)
        with Reading(self.path) as journal:
            for entry in journal.each(list(State)):
                known = _STATUS.get(entry.state)
                if known is not None:
                    charged = entry.charged or "unknown"
                    end = Ended(int(entry.key), str(entry.state), known, entry.task_id, charged)
                    self.tally.take(end, self.gateway.record)
        self.tally.finish(self.gateway.record)

    async def _once(self) -> int:
        """Make one run; returns how many jobs are still to be sent."""
        session = LineSession(
            self.dialect,
            self.line,
            self.seed + self.runs,
            concurrency=slots_of(self.jobs),
            rate=None,
            timeouts=Timeouts(generation=GENERATION),
        )
        self.runs += 1
        async with session, session.batch(self.path) as batch:
            _let_time_wait(batch)
            batch.add(self._requests())
            async for _ in batch.run():
                self.read += 1
            await batch.plan()
            summary = batch.summary()
        return summary.planned + summary.submitting

    def _requests(self) -> Iterator[tuple[str, TextToVideo]]:
        return ((str(number), TextToVideo(PROMPT.format(number))) for number in range(self.jobs))


def _let_time_wait(batch: Batch) -> None:
    """Let no virtual time pass while the thread that writes the journal is at work."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SoakLoop)
    assert batch._journal is not None
    writer = batch._journal._writer
    send = writer.send

    def counted(work: Callable[[Any], Any]) -> "asyncio.Future[Any]":
        answer = send(work)
        loop.wait_for(answer)
        return answer

    writer.send = counted  # type: ignore[method-assign]


def run(dialect: str, jobs: int, seed: int) -> dict[str, Any]:
    """Run one soak to its end; returns its figures."""
    with TemporaryDirectory() as directory:
        soak = Soak(dialect, jobs, seed, Path(directory) / "soak.db")
        found = measured(soak.run, soak.gateway, soak.line, soak.tally)
        size = soak.path.stat().st_size
    return {**found, "runs": soak.runs, "read": soak.read, "journal": size}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak.batch", description=__doc__)
    parser.add_argument("--gateway", choices=PRICES, default="kling3api")
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.getLogger("kling_async").setLevel(logging.ERROR)  # lies about tasks are what is wanted here
    print(json.dumps(run(given.gateway, given.jobs, given.seed)))
