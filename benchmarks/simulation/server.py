"""A gateway as a model: it accepts or refuses, runs jobs for drawn durations, and keeps a ledger."""

import math
from collections.abc import Iterable, Iterator, Sequence

from attrs import define, field, frozen

from benchmarks.simulation.ledger import Ledger
from benchmarks.simulation.limits import SLACK, Limit, Slots


@frozen
class Answer:
    """What the gateway answers.

    Args:
        job: the job's number; None where the request was refused.
        done: whether it has ended.
        retry_after: whole seconds, of a refusal that says how long to wait.
        code: the gateway's word for a refusal, where it has one.
    """

    job: int | None = None
    done: bool = False
    retry_after: int | None = None
    code: str | None = None


@frozen
class Manners:
    """How a gateway refuses, and what it counts.

    Args:
        retry_after: it says when to come again, in whole seconds.
        codes: it says which limit was met: "RATE_LIMITED" or "TOO_MANY_TASKS".
        counts_polls: looks take from the same allowance as submits.
    """

    retry_after: bool = False
    codes: bool = False
    counts_polls: bool = False


@define
class Server:
    """A gateway with limits.

    Args:
        limits: what it allows; a submit must satisfy all of them, and a counted look all but the slots.
        durations: seconds that each job runs, in the order of acceptance.
        manners: how it refuses.
        ledger: its record.
    """

    limits: tuple[Limit, ...]
    durations: Iterator[float]
    manners: Manners
    ledger: Ledger
    _rates: tuple[Limit, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._rates = tuple(limit for limit in self.limits if not isinstance(limit, Slots))

    @classmethod
    def of(cls, limits: Iterable[Limit], durations: Iterable[float], manners: Manners = Manners()) -> "Server":
        """Return a gateway at the beginning of a run."""
        return cls(tuple(limits), iter(durations), manners, Ledger())

    def submit(self, now: float, name: str) -> Answer:
        """Answer a submit."""
        refusal = self._refusal(now, self.limits)
        if refusal is not None:
            self.ledger.refused_submits += 1
            return refusal
        end = now + next(self.durations)
        for limit in self.limits:
            limit.take(now, end)
        return Answer(self.ledger.accept(now, end, name))

    def poll(self, now: float, job: int) -> Answer:
        """Answer a look at a job."""
        if self.manners.counts_polls:
            refusal = self._refusal(now, self._rates)
            if refusal is not None:
                self.ledger.refused_polls += 1
                return refusal
            for limit in self._rates:
                limit.take(now, now)
        self.ledger.polls[job] += 1
        return Answer(job, done=self.ledger.ended[job] <= now)

    def _refusal(self, now: float, limits: Sequence[Limit]) -> Answer | None:
        """Return the answer to a request that comes too early, or None."""
        wait, met = 0.0, None
        for limit in limits:
            due = limit.next_time(now) - now
            if due > SLACK and due > wait:
                wait, met = due, limit
        if met is None:
            return None
        for limit in limits:
            limit.refuse(now)
        code = ("TOO_MANY_TASKS" if isinstance(met, Slots) else "RATE_LIMITED") if self.manners.codes else None
        return Answer(retry_after=max(1, math.ceil(wait)) if self.manners.retry_after else None, code=code)
