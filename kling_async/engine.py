"""What looks after the jobs of one session: a queue, a heap of due looks, one timer, and no asyncio task per job."""

import asyncio
import contextvars
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Coroutine
from functools import partial
from itertools import count
from random import Random
from typing import Any, TypeVar

from kling_async.bell import ENDINGS, Bell, to_its_end
from kling_async.claims import Claims
from kling_async.conversation import Conversations
from kling_async.endings import failed, generation_failed
from kling_async.errors import (
    ConfigurationError,
    GenerationTimeoutError,
    KlingError,
    RateLimitError,
    SessionClosedError,
    TaskCancelledError,
    as_word,
    shown,
)
from kling_async.flow.allowance import Allowance
from kling_async.flow.decision import in_doubt
from kling_async.flow.durations import Durations
from kling_async.flow.gate import Gate
from kling_async.flow.limits import SLACK
from kling_async.flow.price import Price, Scarcity
from kling_async.flow.turns import Turns
from kling_async.gateways.protocol import Gateway
from kling_async.looking import Looking
from kling_async.mishaps import tell_mishap
from kling_async.network import Transport
from kling_async.planning import Planning
from kling_async.requests import Request
from kling_async.results import Cost, Outcome, Snapshot, Status
from kling_async.settings import PollPlan, RateLimit, RetryPolicy, Timeouts
from kling_async.submitting import Submitting
from kling_async.task import TaskFuture, is_elsewhere
from kling_async.waiting import Agenda, Line
from kling_async.wire import Exchange

log = logging.getLogger("kling_async")

T = TypeVar("T")

CONNECTIONS = 64
"""Requests in flight, of each kind."""
AHEAD = 64
"""Jobs that a run keeps waiting where the number of slots is not set, so that none stays idle."""
REMEMBERED_IDS = 50_000
"""Ids of so many jobs that have ended are remembered, so that none is taken for the id of another job."""
SHORTEST_WAIT = 0.0005
LEAP = 1.0
"""A timer that rings so many seconds late was held up, by a laptop's sleep perhaps: what is due is spread out."""
LEAP_SPREAD = 5.0
"""Seconds over which it is spread at most."""


class Engine:
    """The session's caretaker.

    Everything happens on one event loop; `_pump` is the only place that lets requests go. It runs after every event
    and when its single timer fires.

    Args:
        gateway: whom to talk to.
        transport: how.
        slots: the most jobs in flight, or None.
        rates: the most requests per time.
        learns_pace: find the gateway's pace out, beginning slowly.
        durations: how long jobs take, as far as that was learned.
        poll, timeouts, retry: the session's settings.
        random: where jitter comes from.
    """

    def __init__(
        self,
        gateway: Gateway,
        transport: Transport,
        *,
        slots: int | None,
        rates: tuple[RateLimit, ...],
        learns_pace: bool,
        durations: Durations,
        poll: PollPlan,
        timeouts: Timeouts,
        retry: RetryPolicy,
        random: Random,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.gateway = gateway
        self.talk = Conversations(gateway, transport, self._heard)
        self.timeouts = timeouts
        self.plan = poll
        self.random = random
        self.gate = Gate(retry, rates, self.loop.time(), learns_pace=learns_pace, daily_quota=bool(gateway.daily_quota))
        self.durations = durations
        self.price = Price(poll.price, poll.minimum)
        self.moved = Bell()
        self.slots = slots
        self.used_slots = 0
        self.running = 0
        self.unfinished: dict[TaskFuture, None] = {}
        self.refused_requests = 0
        self.closing = False
        self._ids: dict[str, str] = {}
        self._ended_ids: deque[str] = deque()
        self._line = Line()
        self._agenda = Agenda()
        self._controls: deque[asyncio.Future[float]] = deque()
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._busy = {"submit": 0, "look": 0}
        self._numbers = count()
        self._turns = Turns()
        # What goes on in the background belongs to the session, not to whoever happened to call it first.
        self._context = contextvars.copy_context()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_at = math.inf
        self._pumping = False
        self.submitting = Submitting(self)
        self._looking = Looking(self)
        self.planning = Planning(self)
        self.claims = Claims()

    # Taking jobs in.

    def add(self, job: TaskFuture) -> None:
        """Queue a job for its turn."""
        self.unfinished[job] = None
        objection = self._objection(job)
        if objection is not None:
            self.fail(job, objection)
            return
        self._line.join(job)
        self.wake()

    def _objection(self, job: TaskFuture) -> KlingError | None:
        if not self.gate.account.objects:
            return None
        error = self.gate.account.objection(self.cost(job.request), self.now())
        return error and error.evolve(attempts=None, task_id=None, key=None)

    def follow(self, job: TaskFuture, wait: float | None = None) -> None:
        """Look after a job that the gateway has, with the first look in `wait` seconds, or when it is worth it."""
        now = self.now()
        self.unfinished[job] = None
        if job.timeout is not None:
            job.deadline = now + job.timeout
            self._agenda.end(job, job.deadline)
        if wait is None:
            self.planning.begin(job)
        else:
            self.look_in(job, wait)

    def attach(self, job: TaskFuture, task_id: str, wait: float = 0.0) -> None:
        """Follow a task that was submitted elsewhere, with one look in `wait` seconds."""
        self.accepted(job, task_id)
        job.show(Status.IN_PROGRESS)
        self.follow(job, wait)

    def look_in(self, job: TaskFuture, wait: float, *, judged_in: float = math.inf) -> None:
        """Plan the next look at a job; the last one comes shortly before its deadline.

        Args:
            job: the job.
            wait: seconds until the look.
            judged_in: seconds after which the wait is judged anew, without a request.
        """
        now = self.now()
        due = now + wait
        if job.deadline is not None and due > job.deadline:
            last = job.deadline - min(1.0, self.plan.minimum)
            due = last if last >= now + self.plan.minimum else due
        self._agenda.look(job, due, min(due, now + judged_in))
        self.wake()

    def requeue(self, job: TaskFuture) -> None:
        """Put a job back at the head of the queue, in the order in which the jobs came."""
        self.release(job)
        objection = self._objection(job)
        if objection is not None:
            self.fail(job, objection)
            return
        job.show(Status.QUEUED)
        self._line.put_back(job)

    def claim(self, task_id: str, key: str) -> str | None:
        """Remember whose task an id is; returns the key of the job that has it already, or None."""
        owner = self._ids.setdefault(task_id, key)
        return owner if owner != key else None

    def followed(self, task_id: str) -> TaskFuture | None:
        """Return the unfinished job that a task id belongs to, if it is ours."""
        if task_id not in self._ids:
            return None
        return next((job for job in self.unfinished if job.task_id == task_id), None)

    def accepted(self, job: TaskFuture, task_id: str) -> None:
        """Take note that the gateway has a job, before anybody else sees its id."""
        self._hold_slot(job)
        job.task_id = task_id
        job.number = next(self._numbers)
        job.accepted_at = self.now()
        self.running += 1

    # Letting requests go.

    def _heard(self, said: Allowance) -> None:
        """Take in what an answer says is left of the gateway's limit."""
        self.gate.heard(self.now(), said, max(0, sum(self._busy.values()) - 1))

    def now(self) -> float:
        """Return the session's time in seconds."""
        return self.loop.time()

    def wake(self) -> None:
        """Let `_pump` run soon."""
        if not self._pumping and not self.closing and not self.loop.is_closed():
            self._pumping = True
            self.loop.call_soon(self._pump, context=self._context)

    def _pump(self) -> None:
        self._pumping = True  # what happens in here is seen in here, and needs no other round
        try:
            if not self.closing:
                self._pass_on(self.now())
        finally:
            self._pumping = False

    def _pass_on(self, now: float) -> None:
        """Let every request go that may go now, and set the timer to when the next one may."""
        late = now - self._rings_at
        if late > LEAP:
            self._agenda.scatter(now, min(late, LEAP_SPREAD), self.random.random)
            self._prolong(now, late)
        if self._timer is None:
            self._rings_at = math.inf
        self._expire(now)
        self._judge(now)
        while ready := [kind for kind, when in self._times(now).items() if when <= now + SLACK]:
            if not self.gate.free(now):
                break
            self._go(self._turns.next(ready), now)
        self._set_timer(now, held_up=bool(ready))

    def _times(self, now: float) -> dict[str, float]:
        """Return when the next request of each class could go, limits on requests per time aside."""
        times = {}
        while self._controls and self._controls[0].done():
            self._controls.popleft()
        if self._controls:
            times["control"] = self.gate.next_control(now)
        busy = self._busy["submit"]
        if (self.slots is None or self.used_slots < self.slots) and busy < CONNECTIONS and self._line:
            times["submit"] = self.gate.next_submit(now, busy, self.running)
        busy = self._busy["look"]
        due = self._agenda.next_look()
        if busy < CONNECTIONS and due < math.inf:
            times["look"] = due if due > now else self.gate.next_look(now, busy)
        return times

    def _go(self, kind: str, now: float) -> None:
        """Let one request of a class go."""
        self.gate.take(kind, now)
        if kind == "control":
            self._controls.popleft().set_result(now)
            return
        self._busy[kind] += 1
        if kind == "submit":
            job = self._admit()
            self._start(self.submitting.send(job), "submit", job)
        else:
            jobs = self._agenda.take(now, self.gateway.poll_batch, self.plan.minimum)
            self._start(self._looking.look(jobs), "look")
            self._judge(now)

    def _judge(self, now: float) -> None:
        """Judge anew the planned looks for which it is time; where one is due before them, they wait behind it."""
        for job in self._agenda.unsure(now):
            self.planning.judge(job)

    def scarcity(self, now: float) -> Scarcity:
        """Return what limits looks at this moment."""
        slots = self.limit
        full = slots is not None and self.used_slots >= slots
        return Scarcity(
            requests=self.gate.looks_a_second(),
            left=self.gate.limiter.left(now),
            running=self.running,
            waiting=len(self._line),
            slots=slots if full else None,
            late=max(0.0, now - self._agenda.next_look()),
        )

    @property
    def limit(self) -> int | None:
        """The most jobs in flight now: the user's limit, or fewer while the gateway runs fewer; None for no limit."""
        known = [limit for limit in (self.slots, self.gate.slots) if limit is not None]
        return min(known, default=None)

    @property
    def room(self) -> int:
        """How many jobs a run should have open now: as many as there are slots, or somewhat more than are sent."""
        return self.slots if self.slots is not None else self.used_slots + AHEAD

    def _admit(self) -> TaskFuture:
        job = self._line.take()
        self._hold_slot(job)
        job.show(Status.SUBMITTING)
        if self.slots is None:
            self.moved.ring()
        return job

    def _hold_slot(self, job: TaskFuture) -> None:
        if not job.slot:
            job.slot = True
            self.used_slots += 1

    def _set_timer(self, now: float, *, held_up: bool) -> None:
        """Set the one timer to the next moment at which something can happen by itself.

        Args:
            now: the time.
            held_up: something could go, if the limits on requests per time let it.
        """
        when = self.gate.limiter.next_time(now) if held_up else min(self._times(now).values(), default=math.inf)
        when = max(min(when, self._agenda.next_end()), now + SHORTEST_WAIT)
        if when == math.inf or (self._timer is not None and self._rings_at <= when):
            return  # waking too early costs nothing: the timer is set anew then
        if self._timer is not None:
            self._timer.cancel()
        self._rings_at = when
        self._timer = self.loop.call_at(when, self._ring, context=self._context)

    def _ring(self) -> None:
        # Loops round: the timer may ring a moment before its time, and must then be set again.
        self._timer = None
        self._pump()

    def _prolong(self, now: float, late: float) -> None:
        """Give the jobs whose time ran out while nobody could look at them the time that they had left before."""
        for job in self._agenda.ended(now):
            left = (job.deadline or now) - (now - late)
            job.deadline = now + max(left, 2 * LEAP_SPREAD)
            self._agenda.end(job, job.deadline)

    def _expire(self, now: float) -> None:
        for job in self._agenda.ended(now):
            if job.looking:  # the look in flight may bring the video, and ends by itself
                self._agenda.end(job, now + 0.1)
            else:
                self.give_up(job)

    def _start(self, work: Coroutine[Any, Any, None], kind: str, job: TaskFuture | None = None) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks[task] = kind
        task.add_done_callback(partial(self._over, job))
        return task

    def _over(self, job: TaskFuture | None, task: asyncio.Task[None]) -> None:
        kind = self._tasks.pop(task)
        if kind in self._busy:
            self._busy[kind] -= 1
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):
            tell_mishap(f"a {kind} ended unexpectedly", error, self.gateway)
        if job is not None and not job.done() and (task.cancelled() or error is not None):
            self.let_go(job)  # the program was interrupted right there, by Ctrl-C perhaps
        self.wake()

    async def control(self, exchange: Exchange[T], *, fresh: bool = False) -> T:
        """Hold a conversation that submits nothing, before anything else as soon as the limits allow it."""
        if self.closing:
            raise SessionClosedError(gateway=self.gateway.name)
        turn: asyncio.Future[float] = self.loop.create_future()
        self._controls.append(turn)
        self.wake()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.gate.limiter.refund(turn.result())  # it was let go and did not leave
                self.wake()
            raise
        if self.closing:
            raise SessionClosedError(gateway=self.gateway.name)
        begun = self.now()
        try:
            return await self.talk.hold(exchange, timeout=self.timeouts.poll, fresh=fresh)
        except RateLimitError as error:
            self.gate.look_failed(self.now(), begun, error, self.random.random())
            raise

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something in the background until the session closes."""
        self._start(work, "errand")

    def feed(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Read a user's input in the background. Whoever asked for it cancels it; closing the session waits for it."""
        return self._start(work, "input")

    # Ending jobs.

    def end(self, job: TaskFuture, outcome: Outcome, status: Status, snapshot: Snapshot | None = None) -> None:
        """End a job, free its slot and tell everybody who waits."""
        if job.done():
            return
        self.release(job)
        self.unfinished.pop(job, None)
        self._agenda.forget(job)
        if job.task_id is not None:
            self._ended_ids.append(job.task_id)
            if len(self._ended_ids) > REMEMBERED_IDS:
                self._ids.pop(self._ended_ids.popleft(), None)
        job.end(outcome, status, snapshot)
        self.wake()

    def fail(
        self, job: TaskFuture, error: KlingError, status: Status = Status.FAILED, snapshot: Snapshot | None = None
    ) -> None:
        """End a job with an error.

        A submit whose answer was lost may have been accepted, whatever was answered to a later one: it is in doubt.
        """
        if job.lost is not None and job.task_id is None and status is not Status.IN_DOUBT:
            error, status = in_doubt(job.lost), Status.IN_DOUBT
        outcome = failed(job, error, self.now(), status)
        # A key that was refused may hold anything, a line of its own in the log too.
        name = job.label if outcome.error.field != "key" else shown(job.key)
        log.info("job %s: %s (%s)", name, type(error).__name__, as_word(outcome.error.code))
        self.end(job, outcome, status, snapshot)

    def generation_failed(self, job: TaskFuture, snapshot: Snapshot) -> None:
        """End a job that the gateway accepted and then failed; what it gave back may pay for another."""
        if snapshot.credits == 0:
            self.gate.account.solvent()
        self.fail(job, generation_failed(self.gateway.name, snapshot), Status.FAILED, snapshot)

    def fail_queued(self, reason: Callable[[TaskFuture], KlingError | None]) -> None:
        """End every queued job for which there is a reason."""
        for job in self._line:
            error = None if job.done() else reason(job)
            if error is not None:
                self.fail(job, error.evolve(attempts=None, task_id=None, key=None))

    def give_up(self, job: TaskFuture) -> None:
        """Stop looking at a job whose time is up; it may still run."""
        error = GenerationTimeoutError(
            f"no result within {job.timeout:g} s; the job may still run, `attach` picks it up",
            gateway=self.gateway.name,
            stage="poll",
            charged=job.charged(),
            cause=job.last_error,
        )
        self.fail(job, error, Status.IN_PROGRESS)

    def refuse_looks(self, error: KlingError) -> None:
        """The key was refused on a look: stop following every job, keeping the ids, and send nothing more."""
        self.submitting.stop(error)
        for job in list(self.unfinished):
            if job.task_id is not None:
                self.fail(job, error.evolve(task_id=job.task_id, charged=job.charged()), Status.IN_PROGRESS)

    def release(self, job: TaskFuture) -> None:
        """Give the job's slot back."""
        if job.slot:
            job.slot = False
            self.used_slots -= 1
            self.running -= job.accepted_at is not None

    def withdraw(self, job: TaskFuture, *, unsent_only: bool = False) -> bool:
        """Stop looking after a job; see `TaskFuture.cancel` and `TaskFuture.withdraw_unsent`."""
        if self.loop.is_closed() and not job.done():
            raise ConfigurationError("the event loop of this task-future has been closed")
        if is_elsewhere(self.loop):
            raise ConfigurationError(
                "this task-future belongs to another event loop; use loop.call_soon_threadsafe(future.cancel)"
            )
        if job.done() or (unsent_only and job.task_id is not None):
            return False
        if job.status is Status.SUBMITTING:
            # The POST runs to its end, so that its id is not lost.
            if not unsent_only:
                job.withdrawn = "yes"
            elif job.withdrawn == "no":
                job.withdrawn = "unsent"
        else:
            self.drop(job)
        return True

    def drop(self, job: TaskFuture) -> None:
        """End a job as cancelled, at the gateway too where it can."""
        error = TaskCancelledError(gateway=self.gateway.name, charged=job.charged())
        waiting = job.status is Status.QUEUED
        self.fail(job, error, Status.CANCELLED)
        if waiting:
            self._line.left()
        if job.task_id is not None and not self.closing:
            self._looking.cancel_there(job)

    def let_go(self, job: TaskFuture) -> None:
        """Stop looking after a job without a word to the gateway; its id says where it can be picked up."""
        if job.status is Status.SUBMITTING and job.attempts:
            # Nobody is left who knows whether a byte of it had left.
            stopped = SessionClosedError("the program was stopped", gateway=self.gateway.name, stage="submit")
            self.fail(job, in_doubt(stopped.evolve(charged="unknown")), Status.IN_DOUBT)
            return
        words = "the session was closed; the job may still run, `attach` picks it up"
        error = SessionClosedError(words, gateway=self.gateway.name, charged=job.charged())
        self.fail(job, error, Status.IN_PROGRESS if job.task_id else Status.FAILED)

    def cost(self, request: Request | None) -> Cost | None:
        """Return what a request should cost, or None where that is not known."""
        try:
            return self.gateway.estimate(request) if request is not None else None
        except Exception:  # noqa: BLE001 - an estimate is a hint; a plug-in's fault must not end a job
            return None

    # The end of the session.

    async def close(self) -> None:
        """Stop taking jobs in, let the submits that have begun end, and fail what is unfinished with its id."""
        self.shut()
        inputs = self._tasks_of("input")
        for task, kind in self._tasks.items():
            if kind not in ("submit", "input"):
                task.cancel()
        try:
            # Each submit has a hard deadline of its own; a cancelled one would be in doubt.
            await _all_ended(self._tasks_of("submit"), self.timeouts.submit + self.timeouts.connect + 5)
            await _all_ended(inputs, ENDINGS)
        finally:  # also where the event loop itself is going down
            rest = list(self._tasks)
            for task in rest:
                task.cancel()
            await _all_ended(rest, ENDINGS)
            if left := [kind for kind in self._tasks.values() if kind == "input"]:
                log.warning("%d inputs do not end although they were cancelled", len(left))
            await self.abandon()

    async def abandon(self) -> None:
        """Fail what is unfinished with its id and close every connection, and wait for nothing."""
        self.shut()
        for job in list(self.unfinished):
            self.let_go(job)
        await self.talk.transport.close()

    def shut(self) -> None:
        """Let nothing more go."""
        self.closing = True
        if self._timer is not None:
            self._timer.cancel()
        for turn in self._controls:
            if not turn.done() and not self.loop.is_closed():
                turn.set_result(math.inf)
        closed = SessionClosedError("the session was closed before this was sent", gateway=self.gateway.name)
        self.fail_queued(lambda _: closed)

    def _tasks_of(self, kind: str) -> list[asyncio.Task[None]]:
        return [task for task, known in self._tasks.items() if known == kind]


async def _all_ended(tasks: Collection[asyncio.Task[None]], seconds: float) -> None:
    """Wait until tasks have ended, so many seconds at most; a cancellation of the waiting is passed on afterwards."""
    if tasks:
        await to_its_end(asyncio.ensure_future(asyncio.wait(tasks, timeout=seconds)))
