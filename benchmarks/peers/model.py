"""The gateway behind every dialect: jobs, limits, faults, and a ledger by prompt. No I/O; `now` is an argument."""

from collections import Counter
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any, Literal

from attrs import Factory, asdict, define, frozen

from benchmarks.peers.terms import WARM_UP, Bucket, Terms


@define
class Job:
    """One job that was made, and will be paid for.

    Args:
        id: the gateway's name for it.
        prompt: whose job it is.
        created: when it was made.
        ends: when it is done; every job succeeds.
        looks: how often a client has looked at it.
    """

    id: str
    prompt: str
    created: float
    ends: float
    looks: int = 0


@frozen
class Made:
    """A submit that was accepted."""

    job: Job


@frozen
class Seen:
    """A look at a job; `done`: whether it has a video."""

    job: Job
    done: bool


@frozen
class Refused:
    """HTTP 429; nothing was done."""

    why: Literal["rate", "slots", "fault"]


@frozen
class Broken:
    """HTTP 500, or (`reset`) no answer at all; a submit may have made a job all the same."""

    reset: bool


@frozen
class Unknown:
    """HTTP 404: there is no such job."""


Answer = Made | Seen | Refused | Broken | Unknown


@define
class Gateway:
    """Jobs in memory, under the terms of one run."""

    terms: Terms
    _jobs: dict[str, Job] = Factory(dict)
    _tries: Counter[str] = Factory(Counter)
    _running: list[float] = Factory(list)
    _bucket: Bucket | None = None
    counts: Counter[str] = Factory(Counter)

    def __attrs_post_init__(self) -> None:
        if self.terms.rate is not None:
            self._bucket = Bucket(self.terms.rate, self.terms.burst)

    def submit(self, prompt: str, now: float) -> Answer:
        """Ask for a video."""
        if prompt.startswith(WARM_UP):
            return Made(self._make(prompt, now))
        self.counts["submits"] += 1
        self._tries[prompt] += 1
        fault, late = self._fault("submit", prompt, self._tries[prompt])
        refused = fault if isinstance(fault, Refused) else self._limit(now)
        if refused is not None:
            self.counts[f"refused_{refused.why}"] += 1
            return refused
        if fault is not None and not late:
            return fault
        made = Made(self._make(prompt, now))
        return fault or made

    def look(self, job_id: str, now: float) -> Answer:
        """Look at a job."""
        job = self._jobs.get(job_id)
        if job is None:
            return Unknown()
        if job.prompt.startswith(WARM_UP):
            return Seen(job, now >= job.ends)
        self.counts["looks"] += 1
        job.looks += 1
        fault, _ = self._fault("look", job_id, job.looks)
        if isinstance(fault, Refused):
            self.counts["refused_fault"] += 1
        return fault or Seen(job, now >= job.ends)

    def fetch(self, job_id: str, now: float) -> Answer:
        """Ask for the result of a job that was seen to be done, where that takes another request."""
        answer = self.look(job_id, now)
        if not self._jobs[job_id].prompt.startswith(WARM_UP):
            self.counts["looks"] -= 1
            self.counts["fetches"] += 1
        return answer

    def _limit(self, now: float) -> Refused | None:
        while self._running and self._running[0] <= now:
            heappop(self._running)
        if self.terms.slots is not None and len(self._running) >= self.terms.slots:
            return Refused("slots")
        if self._bucket is not None:
            if self._bucket.free_at(now) > now:
                return Refused("rate")
            self._bucket.take(now)
        return None

    def _fault(self, kind: str, name: str, number: int) -> tuple[Refused | Broken | None, bool]:
        """Return what goes wrong with this request, and whether only after it was carried out."""
        terms = self.terms
        if not terms.refusals + terms.errors + terms.resets:
            return None, False
        drawn = share(terms.seed, kind, name, number)
        late = share(terms.seed, "late", kind, name, number) < 0.5
        if drawn < terms.refusals:
            return Refused("fault"), False
        if drawn < terms.refusals + terms.errors:
            self.counts["errors"] += 1
            return Broken(reset=False), late
        if drawn < terms.refusals + terms.errors + terms.resets:
            self.counts["resets"] += 1
            return Broken(reset=True), late
        return None, False

    def _make(self, prompt: str, now: float) -> Job:
        job_id = digest(self.terms.seed, prompt, self._tries[prompt]).hex()
        job = self._jobs[job_id] = Job(job_id, prompt, now, now + self.terms.duration(prompt))
        if not prompt.startswith(WARM_UP):
            heappush(self._running, job.ends)
        return job

    def ledger(self) -> dict[str, Any]:
        """Return what was asked and made, without the warm-up."""
        jobs = [asdict(job) for job in self._jobs.values() if not job.prompt.startswith(WARM_UP)]
        return {"counts": dict(self.counts), "jobs": jobs}


def digest(*words: object) -> bytes:
    """Return twelve bytes that depend on the words alone."""
    return blake2b(" ".join(map(str, words)).encode(), digest_size=12).digest()


def share(*words: object) -> float:
    """Return a number from 0 to 1 that depends on the words alone."""
    return int.from_bytes(digest(*words)[:8], "big") / 2**64
