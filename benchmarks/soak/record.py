"""The gateway's side of the soak: what was accepted and charged, in as few bytes for the last job as for the first."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from attrs import define, field, frozen

from kling_async.sandbox import Ledger, Submit

PROMPT = "a paper boat drifts down a rainy street at dusk, slow dolly shot, take {}"
_NUMBER = re.compile(r"take (\d+)$")


def number_in(prompt: str) -> int:
    """Return the number of the job that a prompt stands for."""
    found = _NUMBER.search(prompt)
    if found is None:
        raise ValueError(f"no prompt of the soak: {prompt!r}")
    return int(found[1])


@frozen
class Taken:
    """A job that the gateway took.

    Args:
        task_id: the gateway's id.
        seq: the number of the submit.
        key: the client's name for it, where the dialect has one.
    """

    task_id: str
    seq: int
    key: str | None


@define(eq=False)
class Record(Ledger):
    """A ledger that keeps some bytes of each job, and the rest only until the client has told how the job ended.

    Args:
        jobs: how many there are; they are numbered from 0.

    Attributes:
        calls: submits so far.
        charges: how often each job was accepted and charged.
        refunds: how often each was given back.
        spoilt: 1 for a job that was answered in such a way that nobody can know what became of it.
        latest: what was accepted last for each job that is not over.
        struck: how often each fault struck.
    """

    jobs: int = field(kw_only=True)
    calls: int = field(init=False, default=0)
    charges: bytearray = field(init=False)
    refunds: bytearray = field(init=False)
    spoilt: bytearray = field(init=False)
    latest: dict[int, Taken] = field(init=False, factory=dict)
    struck: Counter[str] = field(init=False, factory=Counter)
    _numbers: dict[int, int] = field(init=False, factory=dict)

    def __attrs_post_init__(self) -> None:
        self.charges, self.refunds, self.spoilt = (bytearray(self.jobs) for _ in range(3))

    def open(self, at: float, gateway: str, prompt: str, idempotency_key: str | None) -> Submit:
        """Note a submit call."""
        self.calls += 1
        return Submit(self.calls, at, gateway, prompt, idempotency_key=idempotency_key)

    def accept(self, entry: Submit, task_id: str, price: int) -> None:
        """Note that a submit was accepted and charged."""
        entry.accepted, entry.task_id = True, task_id
        number = number_in(entry.prompt)
        self.accepted += 1
        self.charges[number] = min(255, self.charges[number] + 1)
        self.latest[number] = Taken(task_id, entry.seq, entry.idempotency_key)
        self._numbers[entry.seq] = number
        self.running += 1
        self.max_running = max(self.max_running, self.running)

    def end(self, seq: int, refund: int) -> None:
        """Note that a task ended, with its refund."""
        self.running -= 1
        number = self._numbers.pop(seq, None)
        if refund and number is not None:
            self.refunds[number] = min(255, self.refunds[number] + 1)

    def lost(self, seq: int) -> None:
        """Note nothing: the faults say by themselves what is lost."""

    def over(self, number: int) -> Taken | None:
        """Forget what is not needed any more of a job that has its outcome."""
        taken = self.latest.pop(number, None)
        if taken is not None:
            self._numbers.pop(taken.seq, None)
            self.polls_per_task.pop(taken.task_id, None)
        return taken

    @property
    def totals(self) -> dict[str, Any]:
        """The sums."""
        return {
            "submits": self.calls,
            "accepted": self.accepted,
            "refunded": sum(self.refunds),
            "charged more than once": sum(count > 1 for count in self.charges),
            "spoilt": sum(self.spoilt),
            "looks": self.polls,
            "downloads": self.downloads,
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "most at once": self.max_running,
            "struck": dict(sorted(self.struck.items())),
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        return {
            "charges": list(self.charges),
            "refunds": list(self.refunds),
            "spoilt": list(self.spoilt),
            "ids": {str(number): taken.task_id for number, taken in self.latest.items()},
            "totals": self.totals,
        }

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> "Record":
        """Return the record of another process, as far as it is needed to judge outcomes."""
        made = cls(jobs=len(told["charges"]))
        made.charges[:], made.refunds[:] = bytes(told["charges"]), bytes(told["refunds"])
        made.spoilt[:] = bytes(told["spoilt"])
        made.latest.update({int(number): Taken(task_id, 0, None) for number, task_id in told["ids"].items()})
        return made
