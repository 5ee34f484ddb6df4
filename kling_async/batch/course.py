"""One run of a batch: what earlier runs left first, then planned jobs as slots free up, within the user's limits."""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import evolve

from kling_async import failpoints
from kling_async.batch.choosing import Choice
from kling_async.batch.entry import Entry
from kling_async.batch.fetching import Fetching
from kling_async.batch.inputs import Inputs
from kling_async.batch.journal import Journal
from kling_async.batch.keys import mark_of
from kling_async.batch.limits import Limits
from kling_async.batch.record import CHANGED, Observer, Record
from kling_async.batch.recovery import Recovery
from kling_async.batch.resting import Rest
from kling_async.batch.states import State, Step
from kling_async.batch.verdict import (
    comes_again,
    counts_as_failure,
    ends_the_run,
    is_outage,
    step_of,
)
from kling_async.bell import Bell
from kling_async.conversation import secret_of
from kling_async.errors import (
    BudgetExceededError,
    ConnectionFailedError,
    DownloadError,
    InsufficientCreditsError,
    JournalError,
    KlingError,
    SessionClosedError,
    as_word,
    on_one_line,
)
from kling_async.mishaps import tell_mishap
from kling_async.results import Failure, Outcome, Status, Success, Timing
from kling_async.task import TaskFuture

if TYPE_CHECKING:
    from kling_async.session import KlingSession

log = logging.getLogger("kling_async")

UNTAKEN = 64
"""Finished jobs that may wait for their download or their reader before no more are sent."""
SENT, MADE = State.SUBMITTING, State.ACCEPTED
STOP_LOOKS = 0.5
"""Seconds between looks at whether another process wants this run to stop."""


class Course:
    """A run under way.

    Args:
        session: sends, follows and downloads.
        journal: the durable record.
        limits: what may be spent and what may go wrong.
        inputs: jobs that are not planned yet.
        directory: where videos go, or None.
        patience: seconds for which a gateway that takes nothing is tried again.
        deadline: seconds from now after which nothing new is sent, or None.
        observer: told of every step once it is durable.
        only: the names of the planned jobs that are sent, or None for all.

    Attributes:
        left: nobody reads it any more.
        before: an earlier run that was left and has not come to its end.
    """

    def __init__(
        self,
        session: "KlingSession",
        journal: Journal,
        limits: Limits,
        inputs: Inputs,
        *,
        directory: Path | None,
        patience: float,
        deadline: float | None,
        observer: Observer | None,
        only: frozenset[str] | None = None,
    ) -> None:
        self.session = session
        self.journal = journal
        self.limits = limits
        self.stopped: KlingError | None = None
        self.broken: JournalError | None = None
        self.failed: Exception | None = None
        self.stop_asked: str | None = None
        self.left = False
        self.before: Course | None = None
        self.rest = Rest(patience)
        self._reached = False
        self._inputs = inputs
        self._deadline = deadline
        self._observer = observer
        self._uuid = journal.facts().uuid
        self.account = mark_of(self._uuid, session.base_url, secret_of(session.gateway))
        self._fetching = Fetching(session, journal, directory) if directory is not None else None
        self.recovery = Recovery(self)
        self._open: dict[TaskFuture, Record] = {}
        self._errands: set[asyncio.Task[None]] = set()
        self._bell = Bell()
        self._choice = Choice(journal, limits, inputs, only, self._bell.ring)
        self._ready: deque[Outcome] = deque()
        self._fed = False
        self._feeder: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None

    # For the reader.

    async def succeed(self) -> None:
        """Let a run that its reader has left come to its end, and go on with what it has spent."""
        if self.before is not None:
            await self.before.close()
            self.before = None
            self.limits.held = self.journal.counts().held

    def start(self) -> None:
        """Begin."""
        if self._feeder is None:
            loop = asyncio.get_running_loop()
            self._feeder = loop.create_task(self._drive())
            self._watcher = loop.create_task(self._watch())

    async def next(self) -> Outcome:
        """Return the next outcome. Raises `StopAsyncIteration` at the end, or what broke the run."""
        await self.succeed()
        self.start()
        while not self._ready:
            if self._fed and not self._busy:
                await self._halt()
                error, self.failed = self.failed or self.broken, None
                raise error or StopAsyncIteration
            await self._change()
        self._bell.ring()
        return self._ready.popleft()

    def stop(self, reason: KlingError) -> None:
        """Send nothing new; what the gateway has goes on to its end."""
        if self.stopped is not None:
            return
        self.stopped = reason
        for job in list(self._open):
            job.withdraw_unsent()
        self._bell.ring()

    def break_(self, error: JournalError) -> None:
        """The journal cannot be written: nothing more is paid for. Every id that it could not keep is named."""
        known = self.broken
        if known is None:
            log.error("%s", on_one_line(error.message, 1000))
            self.broken = error
        elif error.task_id is not None:
            self.broken = error if known.task_id is None else known.evolve(message=f"{known.message}; {error.message}")
        self.stop(error)

    async def close(self) -> None:
        """End the run: wait for what is being sent, so that no id is lost, and let go of the rest."""
        await self.succeed()
        self.stop(SessionClosedError("the run was ended by its reader", code="closed"))
        await self._halt()
        while sending := [job for job in self._open if job.status is Status.SUBMITTING]:
            await asyncio.wait([asyncio.ensure_future(_settled(job)) for job in sending])
        for errand in list(self._errands):
            if errand.get_name() != "finish":
                errand.cancel()
        for job in list(self._open):
            self.session.let_go(job)
        await asyncio.sleep(0)  # their ends become errands
        while self._errands:
            await asyncio.wait(list(self._errands))

    async def _halt(self) -> None:
        for task in (self._feeder, self._watcher):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])

    @property
    def _busy(self) -> bool:
        return bool(self._open or self._errands)

    @property
    def making(self) -> int:
        """Jobs that the gateway has, or may have."""
        return sum(1 for job in self._open if job.task_id is not None or job.status is Status.SUBMITTING)

    def under_way(self) -> list[Entry]:
        """Return the jobs that are being sent or made."""
        return [record.entry for record in self._open.values() if record.entry.state in (SENT, MADE)]

    @property
    def finishing(self) -> int:
        """Videos that are being downloaded, and ends that are being recorded."""
        return len(self._errands)

    # Feeding.

    async def _drive(self) -> None:
        try:
            await self.recovery.begin()
            await self._feed()
        except JournalError as error:
            self.break_(error)
        except Exception as error:  # noqa: BLE001 - of the input, which is the user's own: it reaches the reader
            self.failed = error
            self.stop(SessionClosedError("the input of the batch failed", code="input"))
        finally:
            self._fed = True
            self._bell.ring()

    async def _feed(self) -> None:
        loop = asyncio.get_running_loop()
        while self.stopped is None:
            if self._deadline is not None and loop.time() >= self._deadline:
                words = "the deadline has passed; what is not sent stays planned"
                self.stop(BudgetExceededError(words, code="deadline", stage="validate"))
                return
            full = self._is_full()
            if full or loop.time() < self.rest.until:
                await self._change(until=None if full else self.rest.until)
                continue
            record = self._upcoming()
            if record is not None:
                self._send(record)
            elif self._inputs.error is not None and not self._busy:
                error, self._inputs.error = self._inputs.error, None
                raise error
            elif not self._busy and not self._choice.pull():
                self._ended_short()
                return
            else:
                await self._change()

    def _is_full(self) -> bool:
        room = self.session.room
        unread = len(self._ready) >= room
        probing = self.rest.seconds > 0 and any(job.task_id is None for job in self._open)
        return probing or len(self._open) >= room or unread or len(self._errands) >= room + UNTAKEN

    def _upcoming(self) -> Record | None:
        """Return the next job that may be sent within the limits, or None where there is none now."""
        if (left := self.recovery.next()) is not None:
            return left
        entry = self._choice.next()
        return None if entry is None else self.record(entry)

    def _ended_short(self) -> None:
        """Say why jobs are left, if any are."""
        if self._choice.skipped is None or self.stopped is not None:
            return
        _, objection, entry = self._choice.skipped
        self.stopped = objection
        if not isinstance(objection, InsufficientCreditsError):
            self._ready.append(self._not_sent(entry, objection))

    def record(self, entry: Entry) -> Record:
        """Return the record that keeps a job."""
        gateway = self.session.gateway
        found = Record(
            self.journal,
            entry,
            batch=self._uuid,
            gateway=gateway.name,
            account=self.account,
            remembered=gateway.dedupes_for if gateway.dedupes_by_key else 0.0,
            changed=self._stepped,
            broken=self.break_,
        )
        found.stopped = lambda: self.stopped is not None
        return found

    # Jobs.

    def _send(self, record: Record) -> None:
        entry = record.entry
        self._choice.sent(entry)
        request = entry.asked()
        if entry.state is State.PLANNED:
            record.reserve = entry.estimate or 0
            self.limits.pending += record.reserve
        self.take(record, self.session.submit_recorded(request, key=entry.key, record=record, lost=entry.problem()))

    def take(self, record: Record, job: TaskFuture) -> None:
        """Look after a job that the session has."""
        self._choice.flying.add(record.entry.id)
        self._open[job] = record
        job.add_done_callback(self._ended)

    def _stepped(self, step: Step, old: Entry, new: Entry) -> None:
        """Move the money with each step of a job, and tell the observer."""
        self.limits.held += new.held - old.held
        if step is Step.SUBMITTING and old.state is State.PLANNED:
            self.limits.pending -= new.reserved
        elif step is Step.POSTPONED:
            self.limits.pending += old.reserved
        if step is Step.ACCEPTED:
            self._awake()
            self._bell.ring()  # where the number of slots is not set, there is room for another
        if self._observer is not None:
            try:
                self._observer(step, old, new)
            except Exception:
                log.exception("the observer of the batch failed")

    def _ended(self, job: TaskFuture) -> None:
        record = self._open.pop(job)
        self.errand(self._finish(record, job), "finish")

    def errand(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Do something of this run in the background."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._errands.add(task)
        task.add_done_callback(self.over)

    def over(self, task: "asyncio.Task[None]") -> None:
        """Take in how something in the background ended: with an error that nobody foresaw, it ends the run."""
        self._errands.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            if isinstance(error, Exception):
                tell_mishap(f"a {task.get_name()} ended unexpectedly", error, self.session.gateway)
                self.failed = error
            self.stop(SessionClosedError(f"a part of the run failed: {type(error).__name__}", code="failed"))
        self._bell.ring()

    async def _finish(self, record: Record, job: TaskFuture) -> None:
        """Record the end of a job, judge what it means for the run, and hand it on."""
        outcome = await job.outcome()
        await record.settled()
        before = record.entry.state
        found = step_of(record.entry, outcome, job.credits, time.time())
        with contextlib.suppress(JournalError):  # the run has been told
            if found is not None:
                await record.step(found[1], found[0])
        if found is not None and found[0] is Step.SUCCEEDED:
            failpoints.reach("succeeded.committed")
        if State.PLANNED in (before, record.entry.state):
            self.limits.pending -= record.reserve
        if isinstance(outcome, Failure) and record.entry.state is State.PLANNED and comes_again(outcome.error):
            self._comes_again(record, outcome.error)
            return
        self._judge(outcome)
        if isinstance(outcome, Success) and self._fetching is not None and self.broken is None:
            self.errand(self.fetch(record, outcome), "fetch")
        else:
            self._choice.flying.discard(record.entry.id)
            self.hand(outcome)

    def _judge(self, outcome: Outcome) -> None:
        self._reached = self._reached or outcome.task_id is not None
        if isinstance(outcome, Failure):
            if ends_the_run(outcome.error):
                self.stop(outcome.error)
            if outcome.task_id is not None and outcome.charged == "no":
                self.limits.solvent()
        verdict = self.limits.judge(failed=counts_as_failure(outcome))
        if verdict is not None:
            self.stop(verdict)

    def _comes_again(self, record: Record, error: KlingError) -> None:
        """Leave a job planned, and decide whether the run goes on now, later or not at all."""
        first = self.stopped is None
        if isinstance(error, InsufficientCreditsError):
            first = self.limits.broke is None
            self.limits.could_not_pay(error, record.entry.estimate)
        elif ends_the_run(error):
            self.stop(error)
        elif is_outage(error):
            first = self._outage(error)
        else:
            first = False
        if error.code == CHANGED:
            self._choice.flying.discard(record.entry.id)
            self._choice.rewind()
        elif self.stopped is None and not isinstance(error, InsufficientCreditsError):
            self._choice.put_back(record.entry)
        else:
            self._choice.flying.discard(record.entry.id)
            if isinstance(error, InsufficientCreditsError):
                self._choice.fits(record.entry)
        if first:
            self._ready.append(self._not_sent(record.entry, error))
        self._bell.ring()

    def _outage(self, error: KlingError) -> bool:
        """Rest while the gateway takes nothing, then let one job try; True if the run ends for it."""
        now = asyncio.get_running_loop().time()
        # Where nobody was ever there, a wrong address does not get better by waiting.
        nobody = isinstance(error, ConnectionFailedError) and not self._reached
        until = self.rest.until
        if nobody or self.rest.refused(now, error):
            first = self.stopped is None
            self.stop(error)
            return first
        if self.rest.until != until:
            why = f"{type(error).__name__}: {as_word(error.code)}"
            log.warning("the gateway takes nothing (%s); the run rests for %.0f s", why, self.rest.seconds)
        return False

    def _awake(self) -> None:
        self._reached = True
        if self.rest.seconds:
            self.rest.over()
            self._bell.ring()

    def _not_sent(self, entry: Entry, error: KlingError) -> Failure:
        """Return the outcome of the one job that stands for all those which could not be sent."""
        told = error.evolve(key=entry.key, task_id=None, gateway=error.gateway or self.session.gateway.name)
        return Failure(entry.key, entry.asked(), None, told, "no", Timing(), Status.QUEUED)

    async def fetch(self, record: Record, made: Success) -> None:
        """Download a video and hand its outcome on."""
        assert self._fetching is not None  # noqa: S101 - there is a directory
        failure: KlingError | None = None
        try:
            path = await self._fetching.fetch(record, made.video)
        except JournalError as error:
            failure = error
        except DownloadError as error:
            failure = error
            if error.code == "disk":
                self.stop(error)
        except KlingError as error:
            failure = error
        if failure is None:
            self._choice.flying.discard(record.entry.id)
            self.hand(evolve(made, file=path))
        else:
            told = failure.evolve(key=made.key, task_id=made.task_id)
            self.hand(Failure(made.key, made.request, made.task_id, told, "yes", made.timing, Status.SUCCEEDED))

    def claim(self, entry: Entry) -> Entry | None:
        """Take up a job of an earlier run as it stands now; None if this run has it already or has brought it on."""
        if entry.id in self._choice.flying:
            return None
        now = self.journal.find(entry.key)
        if now is None or now.state is not entry.state:
            return None
        self._choice.flying.add(entry.id)
        return now

    async def fewer_than(self, jobs: int) -> None:
        """Wait until fewer jobs than this are under way."""
        while len(self._open) >= jobs:
            await self._change()

    def can_fetch(self) -> bool:
        """Tell whether videos are to be downloaded."""
        return self._fetching is not None

    def hand(self, outcome: Outcome) -> None:
        """Let the reader have an outcome."""
        self._ready.append(outcome)
        self._bell.ring()

    # Waiting.

    async def _change(self, until: float | None = None) -> None:
        """Wait until something has changed, or for the moments in which something may go by itself."""
        now = asyncio.get_running_loop().time()
        times = [moment for moment in (until, self._deadline) if moment is not None and moment > now]
        await self._bell.rung(min(times, default=None))

    async def _watch(self) -> None:
        """Look whether another process wants this run to stop."""
        while True:
            await asyncio.sleep(STOP_LOOKS)
            try:
                asked = self.journal.facts().stop
            except JournalError:
                continue
            if asked and asked != self.stop_asked:
                self.stop_asked = asked
                self.stop(SessionClosedError("the run was asked to stop; what is not sent stays planned", code="stop"))


async def _settled(job: TaskFuture) -> None:
    """Wait until a job is no longer being sent."""
    with contextlib.suppress(KlingError):
        await job.accepted()
