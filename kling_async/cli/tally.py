"""What a run has come to so far: counts, money, what did not work, and how long the rest should take."""

from collections import Counter
from decimal import Decimal

from attrs import define, field

from kling_async.cli.events import Event

_ENDS = ("succeeded", "failed", "in_doubt", "late", "not_sent")


@define
class Tally:
    """The counts of one run. `now` is always seconds of one monotonic clock.

    Args:
        total: jobs of the run.
        began: when it began.
        counts: how often each kind of event happened.
        spent: what the gateway says the ended jobs cost.
        unpriced: jobs that were charged, or may have been, without a word on how much.
        troubles: every event that is no success, in order.
        running: when each job that is being made was accepted.
        left_out: rows that are not valid and no jobs of this run.
        recorded: whether a journal has the jobs, so that nobody needs to take up a task by its id.
    """

    total: int
    began: float
    counts: Counter[str] = field(factory=Counter)
    spent: Decimal = Decimal(0)
    unpriced: int = 0
    troubles: list[Event] = field(factory=list)
    running: dict[str, float] = field(factory=dict)
    seconds: float = 0.0
    timed: int = 0
    left_out: int = 0
    recorded: bool = False

    def take(self, event: Event, now: float) -> None:
        """Count one event."""
        self.counts[event.kind] += 1
        if event.kind == "accepted" and event.job is not None:
            self.running[event.job.key] = now
        if event.kind in _ENDS:
            self._end(event)
        if event.kind in ("failed", "in_doubt", "late", "not_sent", "download_failed"):
            self.troubles.append(event)

    def _end(self, event: Event) -> None:
        if event.job is not None:
            self.running.pop(event.job.key, None)
        if event.credits is not None:
            self.spent += event.credits
        elif event.charged in ("yes", "unknown") and event.kind != "in_doubt":
            self.unpriced += 1
        if event.kind == "succeeded" and event.seconds is not None:
            self.seconds += event.seconds
            self.timed += 1

    @property
    def ended(self) -> int:
        """Jobs that have an end."""
        return sum(self.counts[kind] for kind in _ENDS)

    @property
    def failures(self) -> int:
        """Jobs that ended without a video, and videos that could not be downloaded."""
        return self.counts["failed"] + self.counts["in_doubt"] + self.counts["download_failed"]

    def left(self, now: float, slots: int | None) -> float | None:
        """Return seconds until the rest should be done; None while that is still being learned.

        Computed from how long a job takes and how many run at once: the overall rate is 0 until the first job ends.
        """
        if self.timed < min(20, max(3, self.total // 5)):
            return None
        mean = self.seconds / self.timed
        rest = [max(mean - (now - since), mean / 10) for since in self.running.values()]
        waiting = max(0, self.total - self.ended - len(rest))
        lanes = min(slots or waiting + len(rest), waiting + len(rest))
        if not lanes:
            return 0.0
        return max((waiting * mean + sum(rest)) / lanes, max(rest, default=0.0))
