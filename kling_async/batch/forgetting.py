"""When a simulated gateway ends with its program, what it alone knew is begun anew."""

import time
from decimal import Decimal

from kling_async.batch import entry as steps
from kling_async.batch.entry import Entry, left_behind
from kling_async.batch.journal import Journal
from kling_async.batch.states import State, Step
from kling_async.errors import GenerationFailedError, SubmissionInDoubtError

_GONE = "the simulated gateway ended with its program"


def forget(journal: Journal) -> int:
    """Plan a new attempt for every job that was under way, or made and not downloaded; returns how many."""
    under_way = (State.SUBMITTING, State.ACCEPTED, State.SUCCEEDED)
    jobs = list(journal.each(under_way))
    for entry in jobs:
        ended = _ended(journal, entry)
        journal.write_now(ended, steps.retried(ended), Step.RETRIED, left_behind(ended))
    return len(jobs)


def _ended(journal: Journal, entry: Entry) -> Entry:
    now = time.time()
    if entry.state is State.SUBMITTING:
        lost = steps.postponed(entry)
        lost = journal.write_now(entry, lost, Step.POSTPONED)
        refused = steps.rejected(lost, SubmissionInDoubtError(_GONE, charged="no"), now)
        return journal.write_now(lost, refused, Step.REJECTED)
    if entry.state is State.ACCEPTED:
        failed = steps.failed(entry, GenerationFailedError(_GONE, charged="no"), "no", Decimal(0), now)
        return journal.write_now(entry, failed, Step.FAILED)
    return entry
