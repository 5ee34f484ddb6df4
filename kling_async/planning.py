"""Plans looks: learns from each one how long jobs take, and asks the poll policy when the next is worth its price."""

import math
from typing import TYPE_CHECKING

from kling_async.flow.durations import Learner, of_request
from kling_async.flow.polling import KNOWN_JOBS, Sight, first_look, forecast, next_look, spread
from kling_async.results import Snapshot, Status
from kling_async.task import TaskFuture

if TYPE_CHECKING:
    from kling_async.engine import Engine

JUDGED_AGAIN, JUDGED_AGAIN_NEW = 10.0, 2.0
JUDGED_AGAIN_CROWDED, CROWD = 30.0, 50_000
"""A planned look is judged anew after so many seconds, since prices and laws change: soon for a kind of job that is
still unknown, less often for a crowd."""
CLOCKS_DIFFER = 5.0
"""Seconds by which the gateway's times may contradict our own before they are not believed."""


class Planning:
    """Plans looks for an engine."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine
        self._kept = {"eta": Learner(), "progress": Learner()}

    def begin(self, job: TaskFuture) -> None:
        """Plan the first look at a job that the gateway has just taken."""
        engine = self._engine
        job.kind = engine.durations.of(*of_request(job.request)) if job.request is not None else None
        if job.kind is not None:
            engine.price.accepted(job.kind, engine.now())
        self._hear(job, job.snapshot(), 0.0)
        self._plan(job)

    def seen_running(self, job: TaskFuture, snapshot: Snapshot) -> None:
        """Take note that a look found a job running, and plan the next one."""
        age = _age(job)
        if job.kind is not None:
            job.kind.running(job.seen_age, age)
        if job.promise is not None:
            self._kept[job.promise.kind].running(0.0, job.promise.scaled(age))
        job.seen_age = age
        self._hear(job, snapshot, age)
        self._plan(job)

    def seen_ended(self, job: TaskFuture, snapshot: Snapshot | None = None) -> None:
        """Take note that a look found a job ended, and what that says of others."""
        age = max(_age(job), job.seen_age)
        exact = None if snapshot is None else _told(snapshot, job.seen_age, age)
        if job.kind is not None:
            job.kind.ended(job.seen_age, age, exact)
        if job.promise is not None:
            scaled = job.promise.scaled
            self._kept[job.promise.kind].ended(0.0, scaled(age), scaled(exact) if exact is not None else None)
        seconds = exact if exact is not None else age
        lag = age - exact if exact is not None else (age - job.seen_age) / 2
        self._engine.gate.ended(self._engine.now(), seconds if job.kind is not None else None, lag)

    def missed(self, job: TaskFuture) -> None:
        """Plan the next look after one that brought nothing."""
        self._plan(job)

    def soon(self, job: TaskFuture) -> None:
        """Look again as soon as the plan allows."""
        self._engine.look_in(job, self._engine.plan.minimum)

    def judge(self, job: TaskFuture) -> None:
        """Judge anew when to look at a job, without a request."""
        self._plan(job, since=job.looked_at)

    def _hear(self, job: TaskFuture, snapshot: Snapshot, age: float) -> None:
        """Take in what the gateway says of the job's end."""
        eta = None
        if snapshot.estimated_at is not None and snapshot.created_at is not None:
            eta = (snapshot.estimated_at - snapshot.created_at).total_seconds() - age
        job.promise = forecast(age, snapshot.progress, eta)

    def _plan(self, job: TaskFuture, since: float | None = None) -> None:
        """Plan the next look: seconds after `since`, or from now."""
        engine = self._engine
        now = engine.now()
        if job.deadline is not None and now >= job.deadline:
            engine.give_up(job)
            return
        if engine.price.stale(now):
            engine.price.judge(now, engine.scarcity(now))
        begun = job.accepted_at if job.accepted_at is not None else now
        start = begun if job.looked_at is None else now if since is None else since
        wait, judged_in = self._set_by_user(job), math.inf
        if wait is None:
            sight = self._sight(job, now)
            wait = self._worth_it(job, sight, start - begun)
            judged_in = self._judged_in(known=sight.known)
        if job.looked_at is not None or engine.plan.first is None:
            wait = spread(engine.plan, wait, _phase(job, 0.5698402909980532))
        engine.look_in(job, max(start + wait - now, 0.0), judged_in=judged_in)

    def _set_by_user(self, job: TaskFuture) -> float | None:
        """Return the wait where the plan leaves nothing to judge: a first look that is set, or one fixed gap."""
        plan = self._engine.plan
        if job.looked_at is None and plan.first is not None:
            return min(plan.first, plan.maximum)
        fixed = plan.minimum == plan.maximum and not job.missed and self._engine.price.value <= plan.price
        return plan.minimum if fixed else None

    def _worth_it(self, job: TaskFuture, sight: Sight, age: float) -> float:
        plan = self._engine.plan
        if job.looked_at is None:
            return first_look(plan, sight, _phase(job, 0.7548776662466927))
        return next_look(plan, sight, age, job.missed)

    def _judged_in(self, *, known: bool) -> float:
        if self._engine.plan.minimum == self._engine.plan.maximum:
            return math.inf
        if self._engine.running > CROWD:
            return JUDGED_AGAIN_CROWDED
        return JUDGED_AGAIN if known else JUDGED_AGAIN_NEW

    def _sight(self, job: TaskFuture, now: float) -> Sight:
        engine = self._engine
        learner = job.kind if job.kind is not None else engine.durations.all
        together = min(engine.gateway.poll_batch, max(engine.running, 1))
        return Sight(
            learner.law(now),
            (learner.family or learner).jobs >= KNOWN_JOBS,
            engine.price.value / together,
            job.promise,
            self._kept[job.promise.kind].law(now) if job.promise is not None else None,
        )


def _age(job: TaskFuture) -> float:
    """Return how old a job was when it was last asked about."""
    if job.accepted_at is None or job.looked_at is None:
        return 0.0
    return max(0.0, job.looked_at - job.accepted_at)


def _told(snapshot: Snapshot, seen: float, age: float) -> float | None:
    """Return how long the gateway says the job took, if our own looks do not contradict it."""
    if snapshot.created_at is None or snapshot.finished_at is None or snapshot.status is not Status.SUCCEEDED:
        return None
    told = (snapshot.finished_at - snapshot.created_at).total_seconds()
    return min(max(told, seen), age) if seen - CLOCKS_DIFFER <= told <= age + CLOCKS_DIFFER else None


def _phase(job: TaskFuture, step: float) -> float:
    """Return a number from 0 to 1 that is spread evenly over jobs and looks, and the same when judged anew."""
    return (job.number * step + job.polls * 0.618033988749895) % 1.0
