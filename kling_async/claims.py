"""What a gateway says of a job's price and prompt, held against ours. What does not fit is reported, no more."""

import logging
from collections.abc import Callable

from kling_async.results import Cost, Snapshot, Status
from kling_async.task import TaskFuture

log = logging.getLogger("kling_async")

MOST_REPORTED = 100
"""Differences of which a session warns; a gateway could think of a new one for each job."""


class Claims:
    """Reports what a gateway says of jobs, and does not fit.

    Prices are warned of the first time, and told as information then; another prompt is warned of each time, since
    the film may be another's.
    """

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
        log.log(logging.WARNING if news else logging.INFO, words, job.label, snapshot.task_id, expected, claim)

    def shown(self, job: TaskFuture, snapshot: Snapshot) -> None:
        """Take in which prompt the answer to an ended job shows: a gateway may have mixed up two tasks."""
        if job.request is None or snapshot.prompt is None:
            return
        ours, theirs = _letters(job.request.prompt), _letters(snapshot.prompt)
        if not (ours.startswith(theirs) or theirs.startswith(ours)):
            log.warning("job %s (task %s): the gateway shows another prompt than was sent", job.label, snapshot.task_id)


def _letters(text: str) -> str:
    """Return what is left of a prompt where a gateway has tidied, cut or escaped it."""
    return "".join(filter(str.isalnum, text)).casefold()[:1000]
