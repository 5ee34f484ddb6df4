"""What really happened in one run: every job's true course, and every request that was refused."""

import math

from attrs import define, field


@define
class Ledger:
    """The gateway's own record, in seconds since the run began, and when the client knew. Jobs count from 0.

    Args:
        accepted: when each job was accepted.
        ended: when it really ended.
        known: when its outcome was in the client's hands; NaN until then.
        polls: how often it was looked at.
        names: what each job was asked for as.
        duplicates: jobs that were asked for under the name of another: paid twice.
        refused_submits: submits that were answered with 429.
        refused_polls: looks that were answered with 429.
    """

    accepted: list[float] = field(factory=list)
    ended: list[float] = field(factory=list)
    known: list[float] = field(factory=list)
    polls: list[int] = field(factory=list)
    names: set[str] = field(factory=set)
    duplicates: int = 0
    refused_submits: int = 0
    refused_polls: int = 0

    def accept(self, now: float, end: float, name: str) -> int:
        """Record a job that was accepted; returns its number."""
        self.accepted.append(now)
        self.ended.append(end)
        self.known.append(math.nan)
        self.polls.append(0)
        self.duplicates += name in self.names
        self.names.add(name)
        return len(self.accepted) - 1

    @property
    def refused(self) -> int:
        """Requests that were answered with 429."""
        return self.refused_submits + self.refused_polls

    def delays(self) -> list[float]:
        """Return for each job whose outcome is known how many seconds after its end that was."""
        return [known - end for known, end in zip(self.known, self.ended, strict=True) if not math.isnan(known)]

    def makespan(self) -> float:
        """Return when the last outcome was in the client's hands."""
        return max((known for known in self.known if not math.isnan(known)), default=math.nan)
