"""Jobs that keep coming, so many in flight, and a budget for looks: how soon clients notice the ends."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from statistics import fmean, quantiles

from attrs import frozen

from benchmarks.simulation.law import LogNormal
from benchmarks.simulation.line import RTT, Line
from benchmarks.simulation.pollers import Policy, Pollster, backing_off, round_robin, scheduled, waiting_for
from benchmarks.simulation.server import Server
from benchmarks.simulation.session import LineSession, watch
from benchmarks.virtual import run
from kling_async import PollPlan, RateLimit, TextToVideo, Timeouts

LAW = LogNormal(90.0, 0.35)
USED = 0.99
"""The share of the budget that the best schedule plans for: with all of it, looks would queue without end."""


@frozen
class Setting:
    """One stream of jobs.

    Args:
        jobs: how many are in flight on average.
        looks: the budget, in looks per job.
        warm_up: seconds of virtual time that are not measured.
        measured: seconds that are.
        rtt: median seconds of a round trip.
    """

    jobs: int
    looks: float
    warm_up: float
    measured: float
    rtt: float = RTT

    @property
    def arriving(self) -> float:
        """Jobs per second."""
        return self.jobs / LAW.mean

    @property
    def budget(self) -> float:
        """Looks per second."""
        return self.looks * self.arriving


@frozen
class Noticed:
    """What one run came to, over the outcomes that came within the measured time.

    Args:
        mean, half, most: seconds from a job's end until its outcome was in the client's hands: the mean, the median,
            and what 95 of 100 stay below.
        looks: looks per outcome.
        outcomes: how many there were.
        cpu: CPU microseconds of the whole run per look: the client, its submits and the simulation.
    """

    mean: float
    half: float
    most: float
    looks: float
    outcomes: int
    cpu: float


Submit = Callable[[str], None]
Work = Callable[[Submit], Awaitable[None]]
Client = Callable[[Line, Setting, int, Work], Awaitable[None]]
"""Does the work of submitting one job after another, and looks after the jobs meanwhile."""


async def library(line: Line, setting: Setting, seed: int, work: Work) -> None:
    """This library, told how many requests a second it has, for submits and looks together."""
    session = LineSession(
        line,
        seed,
        concurrency=None,
        rate=RateLimit(setting.arriving + setting.budget),
        poll=PollPlan(minimum=1.0, maximum=1e6),
        timeouts=Timeouts(generation=None),
    )
    async with session:

        def submit(name: str) -> None:
            watch(session.submit(TextToVideo(name)), line)

        await work(submit)


async def polling(make: Callable[[Setting], Policy], line: Line, setting: Setting, seed: int, work: Work) -> None:
    """A policy with a budget for looks of its own; its submits wait for nothing."""
    pollster = Pollster(line, make(setting), setting.budget)
    await work(pollster.submit)
    pollster.stop()


TITLES = {
    "library": "this library",
    "robin": "round robin",
    "backoff": "2 s, 1.5 times as long each time, up to 30 s",
    "mean": "at the mean duration, then every 5 s",
    "early": "at 0.8 of the mean, then every 5 s",
    "best": "the best schedule, the law known",
}
CLIENTS: dict[str, Client] = {
    "library": library,
    "robin": partial(polling, lambda _: round_robin),
    "backoff": partial(polling, lambda _: backing_off),
    "mean": partial(polling, lambda _: waiting_for(LAW.mean)),
    "early": partial(polling, lambda _: waiting_for(0.8 * LAW.mean)),
    "best": partial(polling, lambda setting: scheduled(LAW, USED * setting.looks)),
}


def noticed(client: str, setting: Setting, seed: int) -> Noticed:
    """Run a client; the same seed gives the same run, but for its CPU."""
    return run(_noticed(client, setting, seed))


async def _noticed(client: str, setting: Setting, seed: int) -> Noticed:
    random = Random(f"arrivals {seed}")
    server = Server.of((), LAW.draws(Random(f"durations {seed}")))
    line = Line(server, Random(f"line {seed}"), setting.rtt)
    marks: list[tuple[float, int]] = []

    async def work(submit: Submit) -> None:
        number, due, end = 0, 0.0, setting.warm_up
        for _ in range(2):
            while due < end:
                await asyncio.sleep(due - line.now())
                submit(f"a paper boat in the rain, take {number}")
                number += 1
                due += random.expovariate(setting.arriving)
            marks.append((time.process_time(), sum(server.ledger.polls)))
            end += setting.measured

    await CLIENTS[client](line, setting, seed, work)
    (cpu, looks), (cpu_then, looks_then) = marks
    begin, end = setting.warm_up, setting.warm_up + setting.measured
    pairs = zip(server.ledger.known, server.ledger.ended, strict=True)
    delays = [known - ended for known, ended in pairs if begin <= known < end]
    cuts = quantiles(delays, n=20)
    made = looks_then - looks
    return Noticed(
        mean=fmean(delays),
        half=cuts[9],
        most=cuts[18],
        looks=made / len(delays),
        outcomes=len(delays),
        cpu=1e6 * (cpu_then - cpu) / made,
    )
