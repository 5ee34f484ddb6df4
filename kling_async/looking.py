"""Looking at running jobs: a failed look is a missed look, and what is final stays final."""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attrs import evolve

from kling_async import failpoints
from kling_async.endings import no_video, succeeded
from kling_async.errors import (
    AuthenticationError,
    KlingError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    as_word,
)
from kling_async.mishaps import tell_mishap
from kling_async.results import Snapshot, Status
from kling_async.task import TaskFuture

if TYPE_CHECKING:
    from kling_async.engine import Engine

log = logging.getLogger("kling_async")

NOT_FOUND_GRACE = 60.0
"""Seconds for which a new task may be unknown to the gateway: its own copies may lag behind."""
LOOKS_FOR_A_URL = 3
"""A success without a URL is looked at this often: gateways were seen to report the success first."""


class Looking:
    """Looks at jobs for an engine."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    async def look(self, jobs: list[TaskFuture]) -> None:
        """Look at some jobs with one request and plan the next look at each."""
        engine = self._engine
        begun = engine.now()
        for job in jobs:
            job.looking = True
            job.polls += 1
            job.looked_at = begun
        # A look that failed may have met a poisoned connection; the next one gets its own.
        fresh = any(job.missed for job in jobs)
        try:
            found = await self._ask(jobs, fresh=fresh)
            failpoints.reach("look.answered")
            engine.gate.looked(begun)
            for job in jobs:
                self._take_in(job, found.get(job.task_id or ""), begun, fresh=fresh)
        except asyncio.CancelledError:
            if not engine.closing:  # a stranger's doing: the jobs must not wait for this look for ever
                for job in jobs:
                    if not job.done():
                        engine.planning.missed(job)
            raise
        except KlingError as error:
            self._missed(jobs, error.evolve(stage="poll"), begun)
        except Exception as error:  # noqa: BLE001 - of the adapter, which may be a plug-in
            self._odd(jobs, error, begun)

    def _take_in(self, job: TaskFuture, snapshot: Snapshot | None, begun: float, *, fresh: bool) -> None:
        """Take in what was said of one job; what is odd about it is no matter of the others in the same answer."""
        try:
            self._seen(job, snapshot, fresh=fresh)
        except Exception as error:  # noqa: BLE001 - of the adapter's values
            self._odd([job], error, begun)

    def _odd(self, jobs: list[TaskFuture], error: Exception, begun: float) -> None:
        name = self._engine.gateway.name
        tell_mishap(f"the adapter {name} returned something odd", error, self._engine.gateway)
        words = f"the adapter failed: {type(error).__name__}"
        self._missed(jobs, ProtocolError(words, gateway=name, code="adapter", stage="poll"), begun)

    async def _ask(self, jobs: list[TaskFuture], *, fresh: bool) -> Mapping[str, Snapshot]:
        engine = self._engine
        ids = [job.task_id for job in jobs if job.task_id is not None]
        try:
            return await engine.talk.hold(engine.gateway.poll(ids), timeout=self._patience(jobs), fresh=fresh)
        finally:
            for job in jobs:
                job.looking = False

    def _patience(self, jobs: list[TaskFuture]) -> float:
        """Return the look's deadline: its own, cut where a job's time ends."""
        engine = self._engine
        ends = [job.deadline for job in jobs if job.deadline is not None]
        left = min(ends) - engine.now() if ends else engine.timeouts.poll
        return min(engine.timeouts.poll, max(left, 0.5))

    def _missed(self, jobs: list[TaskFuture], error: KlingError, begun: float) -> None:
        engine = self._engine
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            engine.refuse_looks(error)
            return
        if isinstance(error, RateLimitError):
            engine.refused_requests += 1
        if not isinstance(error, NotFoundError):
            engine.gate.look_failed(engine.now(), begun, error, engine.random.random(), jobs[0].key)
        for job in jobs:
            if isinstance(error, NotFoundError) and self._is_gone(job, error):
                continue
            self._again(job, error)

    def _again(self, job: TaskFuture, error: KlingError) -> None:
        engine = self._engine
        if job.done():
            return
        if error.code == "other_task" and not job.missed:
            log.warning("job %s (task %s) was answered with another task, which is ignored", job.label, job.task_id)
        job.missed += not isinstance(error, RateLimitError)  # that one is the account's, and waits like any look
        job.last_error = error.evolve(task_id=job.task_id, key=job.key)
        log.debug("job %s: a missed look: %s (%s)", job.key, type(error).__name__, as_word(error.code))
        engine.planning.missed(job)

    def _is_gone(self, job: TaskFuture, error: KlingError) -> bool:
        """End the following of a job that the gateway has not known for a minute; it may be there all the same."""
        engine = self._engine
        now = engine.now()
        if job.unknown_since is None:
            job.unknown_since = job.accepted_at if job.polls <= 1 and job.accepted_at is not None else now
            return job.done()  # once is never enough: the next look has a connection of its own
        if job.done() or now - job.unknown_since < NOT_FOUND_GRACE:
            return job.done()
        engine.fail(job, error.evolve(task_id=job.task_id, charged=job.charged()), Status.IN_PROGRESS)
        return True

    def _seen(self, job: TaskFuture, snapshot: Snapshot | None, *, fresh: bool) -> None:
        engine = self._engine
        if job.done():
            return
        if snapshot is None:
            self._missed([job], NotFoundError(gateway=engine.gateway.name, task_id=job.task_id), engine.now())
            return
        job.unknown_since = None
        if snapshot.status.terminal and not snapshot.named and not fresh:
            # A pooled connection may hold an answer meant for another look; only a fresh one is believed blindly.
            job.missed = max(1, job.missed)
            engine.planning.soon(job)
            return
        job.missed = 0
        shown = job.snapshot()
        if _says_nothing_new(shown, snapshot):
            engine.planning.seen_running(job, shown)
            return
        snapshot = engine.talk.cleaned(snapshot)
        engine.claims.heard(job, snapshot, lambda: engine.cost(job.request))
        if snapshot.credits is None and job.credits is not None and snapshot.status is not Status.FAILED:
            snapshot = evolve(snapshot, credits=job.credits)
        if snapshot.status is Status.SUCCEEDED:
            self._succeeded(job, snapshot)
        elif snapshot.status is Status.FAILED:
            engine.planning.seen_ended(job)
            engine.generation_failed(job, snapshot)
        else:
            if snapshot != shown:
                job.show(Status.IN_PROGRESS, snapshot)
            engine.planning.seen_running(job, snapshot)

    def _succeeded(self, job: TaskFuture, snapshot: Snapshot) -> None:
        engine = self._engine
        if snapshot.urls:
            log.info("job %s: succeeded", job.label)
            engine.claims.shown(job, snapshot)
            engine.planning.seen_ended(job, snapshot)
            engine.end(job, succeeded(job, snapshot, engine.now()), Status.SUCCEEDED, snapshot)
            return
        job.unfinished_looks += 1
        if job.unfinished_looks < LOOKS_FOR_A_URL:
            engine.planning.soon(job)
            return
        engine.fail(job, no_video(engine.gateway.name, snapshot, job.charged()), Status.FAILED, snapshot)

    def cancel_there(self, job: TaskFuture) -> None:
        """Cancel a job at the gateway, where it can; whether that works changes nothing for its owner."""
        self._engine.spawn(self._cancel(job, job.task_id or ""))

    async def _cancel(self, job: TaskFuture, task_id: str) -> None:
        try:
            exchange = self._engine.gateway.cancel(task_id)
            if exchange is not None:
                await self._engine.control(exchange)
        except Exception as error:  # noqa: BLE001 - the owner has let go of the job already
            log.info("job %s could not be cancelled at the gateway: %s", job.label, type(error).__name__)


_TOLD_WHILE_RUNNING = (
    *("status", "task_id", "raw_status", "progress", "urls", "thumbnail_url", "duration", "created_at"),
    *("finished_at", "estimated_at", "expires_at", "code", "message", "raw", "named", "odd_credits"),
)


def _says_nothing_new(shown: Snapshot, snapshot: Snapshot) -> bool:
    """Tell whether a job still runs and nothing else is said than before; many gateways name the credits only once."""
    if snapshot.status is not Status.IN_PROGRESS or snapshot.credits not in (None, shown.credits):
        return False
    return all(getattr(shown, name) == getattr(snapshot, name) for name in _TOLD_WHILE_RUNNING)
