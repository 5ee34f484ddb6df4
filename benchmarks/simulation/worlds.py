"""The gateways of the simulation, each with its limits and the number of jobs to bring through."""

import math
from collections.abc import Callable
from random import Random

from attrs import evolve, frozen

from benchmarks.simulation.limits import Bucket, Limit, Slots, Steps, Window
from benchmarks.simulation.server import Manners, Server

MEDIAN, SIGMA = 60.0, 0.4
"""Job durations: log-normal, this median in seconds, this sigma of the logarithm."""
MEAN = MEDIAN * math.exp(SIGMA**2 / 2)

PLAIN = Manners()
TELLS = Manners(retry_after=True)
CODES = Manners(codes=True)
SHARED = Manners(counts_polls=True)

Maker = Callable[[Random, int], Limit]
"""Makes a limit anew for a run of so many jobs; draws what is random in it."""


@frozen
class World:
    """One gateway and a batch of jobs.

    Args:
        jobs: how many jobs there are.
        limits: what the gateway allows.
        manners: how it refuses.
        median: median seconds of a job.
    """

    jobs: int
    limits: tuple[Maker, ...]
    manners: Manners = PLAIN
    median: float = MEDIAN

    def durations(self, seed: int) -> list[float]:
        """Draw how long each job runs, in the order of acceptance."""
        random = Random(f"durations {seed}")
        return [random.lognormvariate(math.log(self.median), SIGMA) for _ in range(self.jobs)]

    def drawn(self, seed: int) -> tuple[Limit, ...]:
        """Return its limits at the beginning of a run."""
        random = Random(f"limits {seed}")
        return tuple(make(random, self.jobs) for make in self.limits)

    def server(self, seed: int) -> Server:
        """Return the gateway at the beginning of a run."""
        return Server.of(self.drawn(seed), self.durations(seed), self.manners)

    def smaller(self, share: int) -> "World":
        """Return the same gateway with fewer jobs, one in `share`."""
        return evolve(self, jobs=max(20, self.jobs // share))

    @property
    def has_slots(self) -> bool:
        """Whether the number of running jobs is limited."""
        return any(isinstance(limit, Slots) for limit in self.drawn(0))


def rate(first: float, then: float | None = None, *, burst: float | None = None, penal: bool = False) -> Maker:
    """A token bucket of `first` requests a second, with a second's worth of burst; `then` from about half-way."""

    def make(_: Random, jobs: int) -> Limit:
        steps = Steps(first) if then is None else Steps(first, then, jobs / first / 2)
        return Bucket(steps, first if burst is None else burst, penal)

    return make


def window(count: int, per: float) -> Maker:
    """At most `count` requests in each window of `per` seconds; the run begins anywhere within one."""
    return lambda random, _: Window(count, per, phase=-random.uniform(0, per))


def slots(first: int, then: int | None = None) -> Maker:
    """At most `first` running jobs; `then` from about half-way."""

    def make(_: Random, jobs: int) -> Limit:
        return Slots(Steps(first) if then is None else Steps(first, then, jobs * MEAN / first / 2))

    return make


WORLDS = {
    "rate2": World(300, (rate(2),)),
    "rate10": World(1000, (rate(10),)),
    "rate50": World(3000, (rate(50),)),
    "rate200": World(5000, (rate(200),)),
    "rate10burst1": World(1000, (rate(10, burst=1),)),
    "rate10penal": World(1000, (rate(10, penal=True),)),
    "window20": World(1000, (window(20, 10),)),
    "rate10tells": World(1000, (rate(10),), TELLS),
    "rate200tells": World(5000, (rate(200),), TELLS),
    "window20tells": World(1000, (window(20, 10),), TELLS),
    "rate50to25": World(3000, (rate(50, 25),)),
    "rate50to100": World(3000, (rate(50, 100),)),
    "rate10shared": World(1000, (rate(10),), SHARED),
    "rate50shared": World(3000, (rate(50),), SHARED),
    "slots3": World(150, (slots(3),)),
    "slots20": World(1000, (slots(20),)),
    "slots100": World(4000, (slots(100),)),
    "slots20to10": World(1000, (slots(20, 10),)),
    "slots20to40": World(1000, (slots(20, 40),)),
    "slots20codes": World(1000, (slots(20),), CODES),
    "slots20short": World(1000, (slots(20),), median=15.0),
    "rate10slots100": World(4000, (rate(10), slots(100))),
    "rate10slots100codes": World(4000, (rate(10), slots(100)), CODES),
    "rate10slots100shared": World(2000, (rate(10), slots(100)), SHARED),
}
"""By name. A rate limit has a second's worth of burst unless the name says otherwise; "tells": refusals carry
`Retry-After`; "codes": they say which limit was met; "shared": looks count as well."""

GROUPS = {
    "rate": [name for name, world in WORLDS.items() if not world.has_slots],
    "slots": [name for name, world in WORLDS.items() if world.has_slots],
}
