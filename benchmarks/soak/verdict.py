"""What the soak claims: for every request one outcome, which agrees with what the gateway has on record."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from attrs import define, field, frozen

from benchmarks.soak.record import Record
from kling_async import Failure, Outcome, Status, Success

MOST_WORDS = 20
"""Contradictions that are told in full; all of them are counted."""


@frozen
class Ended:
    """What the client says of one job.

    Args:
        number: which one.
        kind: the class of its end.
        status: in words of the library.
        task_id: the gateway's id, or None.
        charged: "yes", "no" or "unknown".
    """

    number: int
    kind: str
    status: str
    task_id: str | None
    charged: str


def ended(number: int, outcome: Outcome) -> Ended:
    """Return an outcome as the few facts that are checked."""
    match outcome:
        case Success(task_id=task_id):
            return Ended(number, "Success", Status.SUCCEEDED, task_id, "yes")
        case Failure(error=error, status=status, task_id=task_id, charged=charged):
            code = f" ({error.code})" if error.code == "no_video" else ""
            return Ended(number, f"{type(error).__name__}{code}", status, task_id, charged)


def contradiction(end: Ended, charges: int, refunds: int, spoilt: bool, task_id: str | None) -> str | None:
    """Return in which way an end contradicts the gateway's record, or None where both agree.

    Args:
        end: what the client says.
        charges: how often the gateway has accepted and charged the job.
        refunds: how often it gave that back.
        spoilt: nobody could know from an answer of the gateway what became of the job.
        task_id: the gateway's id of it, or None.
    """
    doubted = end.status == Status.IN_DOUBT
    if charges > 1:
        return f"was paid for {charges} times"
    if doubted:
        return None if spoilt else "is in doubt, and every answer was clear"
    if charges and end.task_id is None:
        return "was accepted, and the client has no id of it"
    if not charges and end.task_id is not None:
        return "was never accepted, and the client has an id of it"
    if charges and end.task_id != task_id:
        return f"is task {task_id}, and the client has {end.task_id}"
    if end.charged == "no" and charges > refunds:
        return "was paid for, and the client says it was not"
    if end.charged == "yes" and charges <= refunds and end.status != Status.IN_PROGRESS:
        return "was not paid for, and the client says it was"
    return None


@define
class Tally:
    """Counts outcomes, and holds each against the gateway's record.

    Args:
        jobs: how many requests there are, numbered from 0.
        resolves: the gateway recognises a job that is sent again, so that few stay in doubt.
    """

    jobs: int
    resolves: bool
    kinds: Counter[str] = field(init=False, factory=Counter)
    contradictions: int = field(init=False, default=0)
    words: list[str] = field(init=False, factory=list)
    doubted: bytearray = field(init=False)
    _seen: bytearray = field(init=False)
    _charges: bytearray = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.doubted, self._seen, self._charges = (bytearray(self.jobs) for _ in range(3))

    @property
    def outcomes(self) -> int:
        """How many outcomes there were."""
        return self.kinds.total()

    def take(self, end: Ended, record: Record) -> None:
        """Count an outcome, and hold it against what the gateway has on record now."""
        number = end.number
        self.kinds[end.kind] += 1
        if self._seen[number]:
            self._object(number, "has two outcomes")
        self._seen[number] = 1
        self.doubted[number] = end.status == Status.IN_DOUBT
        self._charges[number] = record.charges[number]
        taken = record.latest.get(number)
        spoilt = bool(record.spoilt[number])
        words = contradiction(
            end, record.charges[number], record.refunds[number], spoilt, taken.task_id if taken else None
        )
        if words is not None:
            self._object(number, f"({end.kind}) {words}")
        if spoilt and not self.doubted[number] and not self.resolves:
            self._object(number, f"({end.kind}) had an answer that nobody can read, and is not in doubt")

    def finish(self, record: Record) -> None:
        """Hold everything against the record once nothing happens any more."""
        for number in range(self.jobs):
            if not self._seen[number]:
                self._object(number, "has no outcome")
            if record.charges[number] > 1:
                self._object(number, f"was paid for {record.charges[number]} times in the end")
            if record.charges[number] != self._charges[number] and not self.doubted[number]:
                self._object(number, "was accepted after its outcome")

    def _object(self, number: int, words: str) -> None:
        self.contradictions += 1
        if len(self.words) < MOST_WORDS:
            self.words.append(f"job {number} {words}")

    def figures(self, record: Record) -> dict[str, Any]:
        """Return the counts."""
        return {
            "jobs": self.jobs,
            "outcomes": self.outcomes,
            "kinds": dict(self.kinds.most_common()),
            "in_doubt": sum(self.doubted),
            "in_doubt_and_accepted": sum(map(bool, _both(self.doubted, record.charges))),
            "accepted": sum(map(bool, record.charges)),
            "duplicates": sum(count > 1 for count in record.charges),
            "contradictions": self.contradictions,
            "words": self.words,
        }


def _both(left: Iterable[int], right: Iterable[int]) -> Iterable[int]:
    return (one and other for one, other in zip(left, right, strict=True))
