"""The three situations in which the clients are compared."""

from collections.abc import Sequence

from attrs import evolve, frozen

from benchmarks.peers.terms import Terms, ideal


@frozen
class Scenario:
    """One situation.

    Args:
        name: as it is told and chosen.
        words: what is special about it.
        terms: the gateway's.
        concurrency: jobs in flight that every client is told.
        told_rate: whether the clients that can be told of a rate are told the gateway's.
    """

    name: str
    words: str
    terms: Terms
    concurrency: int
    told_rate: bool = False

    @property
    def rate(self) -> float | None:
        """The documented limit, in submits per second."""
        return self.terms.rate if self.told_rate else None

    def ideal(self, prompts: Sequence[str], *, bounded: bool = True) -> float:
        """Return the seconds that these prompts take at best; `bounded`: with no more in flight than is told."""
        slots = min(self.concurrency if bounded else len(prompts), self.terms.slots or len(prompts))
        durations = [self.terms.duration(prompt) for prompt in prompts]
        return ideal(durations, slots, self.terms.rate, self.terms.burst)


def scenarios(median: float, concurrency: int) -> dict[str, Scenario]:
    """Return the situations.

    Args:
        median: seconds of the median job.
        concurrency: jobs in flight that every client is told; the limited gateway runs five eighths of them.
    """
    terms = Terms(median=median)
    slots = max(1, concurrency * 5 // 8)
    limited = evolve(terms, rate=20.0, burst=20.0, slots=slots)
    faulty = evolve(terms, refusals=0.03, errors=0.05, resets=0.02)
    words = {
        "plain": "no limits, no faults",
        "limited": f"20 submits per second, which those that can be told are told; {slots} slots, which nobody is told",
        "faulty": "of all requests 5 % answered with 500, 2 % read and cut off, 3 % answered with 429; half of the "
        "submits that meet the first two made a job all the same",
    }
    return {
        "plain": Scenario("plain", words["plain"], terms, concurrency),
        "limited": Scenario("limited", words["limited"], limited, concurrency, told_rate=True),
        "faulty": Scenario("faulty", words["faulty"], faulty, concurrency),
    }
