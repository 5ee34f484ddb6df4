"""The gateway of the soak: the sandbox, with a fault drawn for each call and an account that runs out of money."""

import json
import math
from random import Random
from typing import Any

from attrs import define, field

from benchmarks.soak.faults import TWIN, UNKNOWN_SHARE, Fault, Mixture, of_downloads, of_looks, of_submits
from benchmarks.soak.record import Record, number_in
from kling_async.sandbox import Action, Call, Operation, Reply, Sandbox, answer, http

SUBMITS = ("/api/generate", "/v1/videos/generations")
BALANCE = "/v1/balance"
VIDEOS = "/_sandbox/videos/"
PRICES = {"kling3api": 200.0, "apimart": 3.36}
"""Credits of one job of the soak."""
KEY = "k-soak"


@define(eq=False, kw_only=True)
class Hostile(Sandbox):
    """A sandbox that spoils some of its answers; see `benchmarks.soak.faults`.

    Args:
        jobs: how many there are, numbered from 0.
        patience: seconds after which the client gives an answer up.
        purse: credits with which the account is filled each time.
        refilled_after: seconds from a 402 until somebody fills the account again.
        unknown_for: seconds for which some jobs are unknown after they were accepted.
    """

    jobs: int
    patience: float
    purse: float
    refilled_after: float
    unknown_for: float
    refills: int = field(init=False, default=0)
    record: Record = field(init=False)
    _mixtures: dict[Operation, Mixture] = field(init=False)
    _random: Random = field(init=False)
    _refill_at: float = field(init=False, default=math.inf)
    _unknown: dict[str, float] = field(init=False, factory=dict)
    _looked_at: str | None = field(init=False, default=None)
    _looked_when: float = field(init=False, default=-math.inf)

    def __attrs_post_init__(self) -> None:
        self.balance = self.purse
        super().__attrs_post_init__()
        self.ledger = self.record = Record(jobs=self.jobs)
        self._random = Random(f"{self.seed}/unknown")
        self._mixtures = {
            "submit": Mixture(of_submits(self.patience), Random(f"{self.seed}/submits")),
            "poll": Mixture(of_looks(self.patience), Random(f"{self.seed}/looks")),
            "download": Mixture(of_downloads(), Random(f"{self.seed}/downloads")),
        }

    def handle(self, call: Call, now: float) -> Reply:
        """Answer one call, with the fault that is drawn for it."""
        with self._lock:
            if now >= self._refill_at:
                self._refill_at = math.inf
                self.refills += 1
                self.top_up(self.purse)
            if call.path in SUBMITS:
                return self._submitted(call, now)
            if call.path.startswith(VIDEOS):
                self._strike("download", now)
            elif not call.path.startswith("/_sandbox/") and call.path != BALANCE:
                self._looked(call, now)
            return super().handle(call, now)

    def over(self, number: int) -> None:
        """Forget a job of which the client has told how it ended."""
        taken = self.record.over(number)
        if taken is not None:
            self.tasks.pop(taken.task_id, None)
            self.replays.pop((KEY, taken.key or ""), None)
            self._unknown.pop(taken.task_id, None)

    def _strike(self, operation: Operation, now: float) -> Fault | None:
        """Draw a fault for the call that follows, and note it."""
        fault = self._mixtures[operation].draw()
        # A session knows the ids of its own jobs: an older one's would not be found out.
        if fault is None or (fault.name == TWIN and now - self._looked_when > self.refilled_after):
            return None
        self.record.struck[f"{operation}: {fault.name}"] += 1
        if fault.name != TWIN:
            self.next(fault.action, on=operation)
        return fault

    def _submitted(self, call: Call, now: float) -> Reply:
        number = number_in(json.loads(call.body)["prompt"])
        before = self.record.accepted
        fault = self._strike("submit", now)
        if fault is not None and fault.name == TWIN:
            self.next(self._twin(number), on="submit")
        reply = super().handle(call, now)
        accepted = self.record.accepted > before
        if fault is not None and fault.doubtful and (accepted or fault.name != TWIN):
            self.record.spoilt[number] = 1
        if accepted and self._random.random() < UNKNOWN_SHARE:
            self._unknown[self.record.latest[number].task_id] = now + self.unknown_for
        if reply.status == 402 and self._refill_at == math.inf:
            self._refill_at = now + self.refilled_after
        return reply

    def _twin(self, number: int) -> Action:
        """Take the job, and give it the id of one that the client knows already."""
        other = self._looked_at or ""

        def renamed(said: Any) -> Any:
            own = self.record.latest.get(number)
            return said if own is None else json.loads(json.dumps(said).replace(own.task_id, other))

        return answer(renamed, accept=True)

    def _looked(self, call: Call, now: float) -> None:
        task_id = call.query.get("task_id") or call.path.rpartition("/")[2]
        if now < self._unknown.get(task_id, -math.inf):
            self.record.struck["poll: not known yet"] += 1
            self.next(http(404), on="poll")
            return
        self._unknown.pop(task_id, None)
        self._looked_at, self._looked_when = task_id, now
        self._strike("poll", now)
