"""One run of one client in one world, and what it came to."""

import asyncio
import math
from contextlib import suppress
from random import Random
from statistics import fmean

from attrs import frozen

from benchmarks.simulation.clients import CLIENTS
from benchmarks.simulation.ideal import Ideal, ideal
from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.line import Line
from benchmarks.simulation.worlds import WORLDS, World
from benchmarks.virtual import run

PATIENCE = 40
"""A run that takes so many times as long as the ideal one is ended."""


@frozen
class Run:
    """What one run came to.

    Args:
        makespan: seconds until the last outcome was in the client's hands, over the least that is possible.
        span: seconds until the last acceptance, over the least that is possible.
        refused: requests answered with 429, per job.
        polls: looks per job.
        delay: mean seconds from a job's end until its outcome was in the client's hands.
        lost: jobs without an outcome: the client gave them up, or the run took too long.
        duplicates: jobs that were paid for twice.
        virtual: seconds of virtual time.
    """

    makespan: float
    span: float
    refused: float
    polls: float
    delay: float
    lost: int
    duplicates: int
    virtual: float


def one(client: str, world: str, seed: int, share: int = 1) -> Run:
    """Run a client in a world with one in `share` of its jobs; the same seed gives the same run."""
    where = WORLDS[world].smaller(share) if share > 1 else WORLDS[world]
    best = ideal(where, seed)
    return compared(run(ledger_of(client, where, seed, PATIENCE * best.makespan)), where, best)


async def ledger_of(client: str, world: World, seed: int, seconds: float) -> Ledger:
    """Run a client in a world for so many seconds at most, and return the gateway's record."""
    line = Line(world.server(seed), Random(f"line {seed}"))
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await CLIENTS[client](line, world, seed)
    return line.server.ledger


def compared(ledger: Ledger, world: World, best: Ideal) -> Run:
    """Compare what happened with what is possible."""
    delays = ledger.delays()
    return Run(
        makespan=ledger.makespan() / best.makespan,
        span=max(ledger.accepted, default=math.nan) / best.span,
        refused=ledger.refused / world.jobs,
        polls=sum(ledger.polls) / world.jobs,
        delay=fmean(delays) if delays else math.nan,
        lost=world.jobs - len(delays),
        duplicates=ledger.duplicates,
        virtual=ledger.makespan(),
    )
