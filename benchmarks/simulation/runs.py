"""One run of one client in one world, and what it came to."""

from random import Random
from statistics import fmean

from attrs import frozen

from benchmarks.simulation.clients import CLIENTS
from benchmarks.simulation.ideal import ideal
from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.line import Line
from benchmarks.simulation.worlds import WORLDS, World
from benchmarks.virtual import run


@frozen
class Run:
    """What one run came to.

    Args:
        makespan: seconds until the last outcome was in the client's hands, over the least that is possible.
        span: seconds until the last acceptance, over the least that is possible.
        refused: requests answered with 429, per job.
        polls: looks per job.
        delay: mean seconds from a job's end until its outcome was in the client's hands.
        lost: jobs that the client gave up.
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
    return result(run(ledger_of(client, where, seed)), where, seed)


async def ledger_of(client: str, world: World, seed: int) -> Ledger:
    """Run a client in a world and return the gateway's record."""
    line = Line(world.server(seed), Random(f"line {seed}"))
    await CLIENTS[client](line, world, seed)
    return line.server.ledger


def result(ledger: Ledger, world: World, seed: int) -> Run:
    """Compare what happened with what is possible."""
    best = ideal(world, seed)
    delays = ledger.delays()
    return Run(
        makespan=ledger.makespan() / best.makespan,
        span=ledger.accepted[-1] / best.span,
        refused=ledger.refused / world.jobs,
        polls=sum(ledger.polls) / world.jobs,
        delay=fmean(delays) if delays else float("nan"),
        lost=ledger.lost,
        duplicates=ledger.duplicates,
        virtual=ledger.makespan(),
    )
