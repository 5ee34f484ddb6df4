"""What a gateway says that a job costs, held against its published prices. What does not fit is reported, no more."""

import logging
from collections.abc import Callable

from kling_async.results import Cost, Snapshot, Status
from kling_async.task import TaskFuture

log = logging.getLogger("kling_async")

MOST_REPORTED = 100
"""Differences of which a session warns; a gateway could think of a new one for each job."""


class Claims:
    """Reports what a gateway says of prices, and does not fit: the first time as a warning, then as information."""

    def __init__(self) -> None:
        self._reported: set[tuple[str, str]] = set()

    def heard(self, job: TaskFuture, snapshot: Snapshot, estimate: Callable[[], Cost | None]) -> None:
        """Take in what an answer says of a job's price.

        Args:
            job: the job, as it was known before.
            snapshot: the answer.
            estimate: returns what the job should cost; called only where there is something to hold against it.
        """
        said = snapshot.odd_credits
        if snapshot.status is Status.FAILED or (said is None and snapshot.credits in (None, job.credits)):
            return  # what has failed may be given back
        cost = estimate()
        if said is not None:
            claim = f"{said}, which is no amount and is dropped"
        elif cost is None or snapshot.credits is None or snapshot.credits == cost.amount:
            return
        else:
            claim = f"{snapshot.credits:f} {cost.unit}"
        expected = str(cost) if cost is not None else "an unknown amount"
        news = (expected, claim) not in self._reported and len(self._reported) < MOST_REPORTED
        if news:
            self._reported.add((expected, claim))
        words = "job %s (task %s) should cost %s; the gateway says %s"
        log.log(logging.WARNING if news else logging.INFO, words, job.key, snapshot.task_id, expected, claim)
