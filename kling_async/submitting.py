"""Sending a job: one POST at a time, and what its answer means for the job and for the account."""

import asyncio
import hashlib
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from kling_async import failpoints
from kling_async.endings import succeeded
from kling_async.errors import (
    AuthenticationError,
    CapacityError,
    ConnectionFailedError,
    InsufficientCreditsError,
    KlingError,
    PermissionDeniedError,
    ProtocolError,
    QuotaExhaustedError,
    RateLimitError,
    SessionClosedError,
)
from kling_async.flow.decision import Fate, decide, in_doubt
from kling_async.gateways.protocol import Accepted
from kling_async.mishaps import tell_mishap
from kling_async.network import Fence
from kling_async.requests import Request
from kling_async.results import Snapshot, Status
from kling_async.task import TaskFuture

if TYPE_CHECKING:
    from kling_async.engine import Engine

log = logging.getLogger("kling_async")

FIND_WAITS = (0.0, 2.0, 5.0, 15.0, 40.0)
"""Seconds between lookups of a job whose answer was lost, where the gateway can look up by key."""


class Submitting:
    """Sends jobs for an engine."""

    def __init__(self, engine: "Engine") -> None:
        self._engine = engine

    async def send(self, job: TaskFuture) -> None:
        """Send one job and act on what comes back; whatever happens, the job does not hang."""
        fence = Fence(before=self._before(job))
        try:
            await self._send(job, fence)
        except asyncio.CancelledError:
            self._interrupted(job, fence)
            raise
        except Exception as error:  # noqa: BLE001 - of the adapter, which may be a plug-in
            gateway = self._engine.gateway
            tell_mishap(f"the adapter {gateway.name} returned something odd", error, gateway)
            self._end(job, ProtocolError(f"the adapter failed: {type(error).__name__}", code="adapter"), fence)

    def _before(self, job: TaskFuture) -> Callable[[], Awaitable[None]] | None:
        """Return what has to happen before the first byte of a job leaves."""
        if job.record is not None:
            return job.record.intent
        return partial(self._keep_young, job) if self._engine.gateway.dedupes_by_key else None

    async def _keep_young(self, job: TaskFuture) -> None:
        """Keep back what the gateway may not recognise any more: it would be made, and paid for, twice."""
        now = time.time()
        if job.lost is None:
            job.first_sent = now
        elif not 0 <= now - job.first_sent < self._engine.gateway.dedupes_for:
            words = "the gateway may have forgotten the key under which this was sent before"
            raise ProtocolError(words, gateway=self._engine.gateway.name, code="old_key")

    async def _send(self, job: TaskFuture, fence: Fence) -> None:
        engine = self._engine
        job.attempts += 1
        sent_at = engine.now()
        said: Accepted | KlingError
        try:
            assert job.request is not None  # noqa: S101 - only jobs with a request are queued
            exchange = engine.gateway.submit(job.request, self._identity(job))
            said = await engine.talk.hold(exchange, timeout=engine.timeouts.submit, fence=fence, fresh=True)
            failpoints.reach("submit.answered")
            if engine.talk.betrays(said.task_id):
                said = ProtocolError("the gateway gave the job an id that holds the API key", code="bad_task_id")
        except KlingError as error:
            said = error
        decision = decide(said, sent=fence.sent, answer=fence.answer, dedupes=engine.gateway.dedupes_by_key)
        if decision.accepted is not None:
            await self.accept(job, decision.accepted, sent_at)
        elif decision.error is not None:
            await self._refused(job, decision.fate, engine.talk.clean(decision.error), fence, sent_at)

    async def accept(self, job: TaskFuture, accepted: Accepted, sent_at: float = -math.inf) -> None:
        """The gateway has the job: keep its id before anybody sees it, and plan the first look."""
        engine = self._engine
        owner = engine.claim(accepted.task_id, job.key)
        if owner is not None:
            words = (
                f"the gateway named task {accepted.task_id} for job {job.key}; it is already the task of job {owner}"
            )
            self._doubt(job, ProtocolError(words, gateway=engine.gateway.name, code="duplicate_task_id"))
            return
        if not await self._recorded(job, accepted):
            return
        job.lost = None
        engine.accepted(job, accepted.task_id)
        cost = engine.cost(job.request) if engine.gate.account.broke else None
        engine.gate.accepted(engine.now(), sent_at, engine.running, cost)
        snapshot = engine.talk.cleaned(accepted.snapshot or Snapshot(accepted.task_id, Status.IN_PROGRESS))
        log.info("job %s: accepted as %s", job.label, job.task_id)
        engine.claims.heard(job, snapshot, lambda: engine.cost(job.request))
        job.show(Status.IN_PROGRESS, snapshot)
        if snapshot.status is Status.FAILED:
            engine.generation_failed(job, snapshot)
        elif snapshot.status is Status.SUCCEEDED and snapshot.urls:
            engine.end(job, succeeded(job, snapshot, engine.now()), Status.SUCCEEDED, snapshot)
        elif job.withdrawn == "yes":
            engine.drop(job)
        else:
            engine.follow(job)

    async def _recorded(self, job: TaskFuture, accepted: Accepted) -> bool:
        """Make the id durable before anybody sees it; False for one that the journal knows as another job's."""
        if job.record is None:
            return True
        try:
            await job.record.accepted(accepted)
        except KlingError as error:
            self._doubt(job, error)
            return False
        return True

    async def _refused(self, job: TaskFuture, fate: Fate, error: KlingError, fence: Fence, sent_at: float) -> None:
        engine = self._engine
        self._learn(job, error, sent_at)
        if fate is Fate.REJECTED:
            if fence.sent:
                engine.gate.answered(engine.now())
            waits = isinstance(error, QuotaExhaustedError) and engine.gate.policy.on_quota == "wait"
            if waits and job.withdrawn == "no":
                _postpone(job)
                engine.requeue(job)
            else:
                engine.fail(job, error)
        elif fate is Fate.IN_DOUBT:
            engine.gate.doubted(engine.now(), sent_at, engine.random.random())
            await self._resolve(job, error, sent_at)
        else:
            if fence.sent and error.charged != "no":
                job.lost, job.losses = error, job.losses + 1
            _postpone(job)
            if job.withdrawn != "no":
                engine.drop(job)
            else:
                self._again(job, error, sent_at)
        engine.wake()

    def _learn(self, job: TaskFuture, error: KlingError, sent_at: float) -> None:
        """Tell the account what this refusal says about every other job."""
        engine = self._engine
        now = engine.now()
        match error:
            case AuthenticationError() | PermissionDeniedError():
                self.stop(error)
            case InsufficientCreditsError():
                engine.gate.account.could_not_pay(now, error, engine.cost(job.request))
                engine.fail_queued(lambda other: engine.gate.account.objection(engine.cost(other.request), now))
            case QuotaExhaustedError():
                engine.gate.account.exhausted(now, error)
                if engine.gate.policy.on_quota == "fail":
                    engine.fail_queued(lambda _: error)
            case RateLimitError():
                engine.refused_requests += 1

    def stop(self, error: KlingError) -> None:
        """The key was refused: nothing that is not sent yet will be sent."""
        self._engine.gate.account.stopped = error
        self._engine.fail_queued(lambda _: error.evolve(stage="submit"))

    def _again(self, job: TaskFuture, error: KlingError, sent_at: float) -> None:
        """Send the job again later, unless it has been refused often enough while nothing else moved."""
        engine = self._engine
        account, policy = engine.gate.account, engine.gate.policy
        running = engine.running
        engine.gate.refused(engine.now(), sent_at, error, running=running, jitter=engine.random.random())
        busy = running > 0 and isinstance(error, (RateLimitError, CapacityError))
        # A refusal counts only if nothing of the account was accepted since this job's last one, and if it was no full
        # gateway's: that one takes more as soon as a job ends.
        if job.moved != account.accepts:
            job.refusals, job.moved = 0, account.accepts
        job.refusals += not busy
        # What was lost may have been executed each time: that others are accepted is no reason to go on.
        if job.losses >= policy.attempts or (job.refusals >= policy.attempts and not busy):
            engine.fail(job, error.evolve(attempts=job.attempts))
        elif engine.closing:
            engine.fail(job, SessionClosedError(gateway=engine.gateway.name))
        else:
            engine.requeue(job)
        if account.failures >= policy.budget and not busy:
            silent = ConnectionFailedError("the gateway answers nothing", gateway=engine.gateway.name, code="budget")
            engine.fail_queued(lambda _: error if error.charged == "no" else silent)

    async def _resolve(self, job: TaskFuture, error: KlingError, sent_at: float) -> None:
        """Look the job up by its key where the gateway can; otherwise it stays in doubt."""
        engine = self._engine
        key = self._identity(job)
        if error.code != "contradiction" and not engine.closing and engine.gateway.find(key) is not None:
            engine.spawn(self._look_up(job, error, key, sent_at))
        else:
            self._doubt(job, error)

    async def _look_up(self, job: TaskFuture, error: KlingError, key: str, sent_at: float) -> None:
        engine = self._engine
        try:
            # The POST may still be on its way until its deadline has surely passed.
            await asyncio.sleep(max(0.0, sent_at + engine.timeouts.submit - engine.now()))
            for wait in FIND_WAITS:
                await asyncio.sleep(wait)
                found = await self.find(key)
                if found is not None:
                    await self.accept(job, found)
                    return
        finally:
            if not job.done() and job.task_id is None:
                self._doubt(job, error)

    async def find(self, key: str) -> Accepted | None:
        """Look a job up by its identity, where the gateway can; None for one that was not found."""
        engine = self._engine
        exchange = engine.gateway.find(key)
        if exchange is None:
            return None
        try:
            found = await engine.control(exchange)
        except KlingError:
            return None  # a missed look
        return None if found is None else decide(found, sent=True).accepted

    def _identity(self, job: TaskFuture) -> str:
        """Return the job's identity at the gateway; a derived key is unique already, a user's may be used again."""
        if job.record is not None:
            return job.record.identity
        if not job.named or job.request is None:
            return f"kling-{job.key}"
        return identity(self._engine.gateway.name, job.key, job.request)

    def _doubt(self, job: TaskFuture, cause: KlingError) -> None:
        job.task_id = job.task_id or cause.task_id
        self._engine.fail(job, in_doubt(cause), Status.IN_DOUBT)

    def _end(self, job: TaskFuture, error: KlingError, fence: Fence) -> None:
        """End a job whose try was broken off, by what is known of it; it is not tried again."""
        decision = decide(error, sent=fence.sent)
        ended = decision.error or error
        if decision.fate is Fate.IN_DOUBT:
            self._doubt(job, ended)
        else:
            self._engine.fail(job, ended)

    def _interrupted(self, job: TaskFuture, fence: Fence) -> None:
        """The event loop itself is going down in the middle of a POST."""
        if not fence.sent:
            _postpone(job)
        self._end(job, SessionClosedError("the program was stopped", gateway=self._engine.gateway.name), fence)


def _postpone(job: TaskFuture) -> None:
    """Take the durable intent back, unless an earlier answer was lost: then the job may be at the gateway."""
    if job.record is not None and job.lost is None:
        job.record.postponed()


def identity(gateway: str, key: str, request: Request, attempt: int = 1) -> str:
    """Return a job's identity at the gateway: the same for the same key, request and attempt, in any process."""
    from kling_async.rows import request_to

    said = json.dumps([gateway, key, request_to(request), attempt], sort_keys=True)
    return f"kling-{hashlib.sha256(said.encode('utf-8', 'surrogatepass')).hexdigest()[:40]}"
