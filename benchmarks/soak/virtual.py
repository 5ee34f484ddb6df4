"""One soak in virtual time, in a process of its own: a stream through one session, whose memory must stay flat.

`python -m benchmarks.soak.virtual --gateway kling3api --jobs 200000` prints its figures as JSON.
"""

import argparse
import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from decimal import Decimal
from typing import Any

from benchmarks.memory_run import memory
from benchmarks.soak.gateway import PRICES
from benchmarks.soak.line import Line, LineSession, gateway_of, measured, slots_of
from benchmarks.soak.record import PROMPT, number_in
from benchmarks.soak.verdict import Tally, ended
from kling_async import Failure, InsufficientCreditsError, KlingError, KlingSession, Outcome, TextToVideo
from kling_async.flow.account import BROKE_RETRY_SECONDS

SAMPLES = 10


class Soak:
    """One run.

    Args:
        dialect: which gateway.
        jobs: how many.
        seed: everything random follows from it.
    """

    def __init__(self, dialect: str, jobs: int, seed: int) -> None:
        self.dialect = dialect
        self.jobs = jobs
        self.seed = seed
        self.gateway = gateway_of(dialect, jobs, seed)
        self.line = Line(self.gateway, seed)
        self.tally = Tally(jobs, resolves=dialect == "apimart")
        self.memory: list[int] = []
        self._money = asyncio.Event()
        self._money.set()
        self._errand: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Stream all jobs through one session; an account without money is waited for."""
        async with LineSession(
            self.dialect, self.line, self.seed, concurrency=slots_of(self.jobs), rate=None
        ) as session:
            async for outcome in session.stream(self._requests()):
                self._take(session, outcome)
        if self._errand is not None:
            self._errand.cancel()
            await asyncio.wait([self._errand])
        self.tally.finish(self.gateway.record)

    async def _requests(self) -> AsyncIterator[TextToVideo]:
        for number in range(self.jobs):
            await self._money.wait()
            yield TextToVideo(PROMPT.format(number))

    def _take(self, session: KlingSession, outcome: Outcome) -> None:
        assert isinstance(outcome.request, TextToVideo)
        number = number_in(outcome.request.prompt)
        self.tally.take(ended(number, outcome), self.gateway.record)
        self.gateway.over(number)
        if self.tally.outcomes * SAMPLES % self.jobs < SAMPLES:
            self.memory.append(memory())
        broke = isinstance(outcome, Failure) and isinstance(outcome.error, InsufficientCreditsError)
        if broke and self._money.is_set():
            self._money.clear()
            self._errand = asyncio.create_task(self._until_money(session))

    async def _until_money(self, session: KlingSession) -> None:
        """Wait until somebody has filled the account: asked where the gateway can tell, waited out where it cannot."""
        try:
            if self.dialect == "apimart":
                await self._asked(session)
            else:
                await asyncio.sleep(BROKE_RETRY_SECONDS + 1)
        finally:
            self._money.set()

    async def _asked(self, session: KlingSession) -> None:
        left = Decimal(0)
        while left < self.gateway.purse / 2:  # what failed jobs give back is not worth beginning anew
            await asyncio.sleep(30)
            with suppress(KlingError):
                left = (await session.balance()).amount or Decimal(0)


def run(dialect: str, jobs: int, seed: int) -> dict[str, Any]:
    """Run one soak to its end, which comes in bounded virtual time; returns its figures."""
    soak = Soak(dialect, jobs, seed)
    return measured(soak.run, soak.gateway, soak.line, soak.tally) | {"memory": soak.memory}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak.virtual", description=__doc__)
    parser.add_argument("--gateway", choices=PRICES, default="kling3api")
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    logging.getLogger("kling_async").setLevel(logging.ERROR)  # lies about tasks are what is wanted here
    print(json.dumps(run(given.gateway, given.jobs, given.seed)))
