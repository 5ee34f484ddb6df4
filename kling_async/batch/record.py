"""The durable record of one job under way: the intent inside the send fence, the task id before anybody sees it."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from attrs import evolve

from kling_async import failpoints
from kling_async.batch import entry as steps
from kling_async.batch.entry import Entry
from kling_async.batch.journal import Journal
from kling_async.batch.keys import identity_of
from kling_async.batch.states import State, Step
from kling_async.bell import ENDINGS, ended
from kling_async.errors import JournalError, ProtocolError, SessionClosedError, TaskCancelledError, on_one_line
from kling_async.gateways.protocol import Accepted

log = logging.getLogger("kling_async")

FRESH = 10.0
"""An intent older than this, in seconds, is recorded anew before the first byte leaves: the machine may have slept."""
INSIST = 30.0
"""Seconds for which an id that the disk will not take is offered to it again."""
CHANGED = "request_changed"

Observer = Callable[[Step, Entry, Entry], None]


class Record:
    """One job of a batch, and what becomes of it in the journal.

    Args:
        journal: where it is kept.
        entry: the job as it stands.
        batch: the batch's uuid, part of the job's identity.
        gateway: who will have the job.
        account: a mark of who pays, kept with each intent; see `mark_of`.
        remembered: seconds for which it surely recognises a key; 0 where it does not.
        changed: called with each step, the job before it and after it, once that is durable.
        broken: called when the journal can no longer be written: nothing may be sent then.
    """

    def __init__(
        self,
        journal: Journal,
        entry: Entry,
        *,
        batch: str,
        gateway: str,
        account: str,
        remembered: float,
        changed: Observer,
        broken: Callable[[JournalError], None],
    ) -> None:
        self.journal = journal
        self.entry = entry
        self.identity = identity_of(batch, entry.key, entry.digest, entry.attempt)
        self.reserve = 0
        self.stopped: Callable[[], bool] = lambda: False
        self._gateway = gateway
        self._account = account
        self._remembered = remembered
        self._changed = changed
        self._broken = broken
        self._unkept: tuple[Entry, Entry] | None = None
        self._returning: asyncio.Future[None] | None = None
        self._replanned = journal.replanned

    async def step(self, new: Entry, step: Step, detail: str | None = None) -> None:
        """Record a step. Raises `JournalError`, after which nothing more is sent."""
        old = self.entry
        cancelled = False
        failure: JournalError | None = None
        try:
            await self._keep_id()
            cancelled = await _is_cut(self.journal.write(old, new, step, detail))
        except JournalError as error:
            failure = error
        if failure is not None:
            if failure.code != "duplicate_task_id":
                self._broken(failure)
            raise failure.evolve(key=old.key)
        self.entry = new
        self._changed(step, old, new)
        if cancelled:
            raise asyncio.CancelledError

    async def _keep_id(self) -> None:
        """Offer an id to the disk once more that it would not take."""
        if self._unkept is None:
            return
        before, after = self._unkept
        cancelled = await _is_cut(self.journal.write(before, after, Step.ACCEPTED, after.task_id))
        self._unkept = None
        self._changed(Step.ACCEPTED, before, after)
        if cancelled:
            raise asyncio.CancelledError

    async def intent(self) -> None:
        """Record that the job is about to be sent; see `kling_async.task.Recorder`."""
        if self.stopped():
            raise SessionClosedError("the run ended before this was sent", gateway=self._gateway)
        again = self.entry.state is not State.PLANNED
        if again:
            self._check_age()
        elif self.journal.replanned != self._replanned:
            self._refuse_changed()
        if self.entry.state is State.IN_DOUBT:
            return  # sent again under its old key, and in doubt until the gateway answers
        failpoints.reach("intent.before-commit")
        while True:
            begun = time.time()
            new = steps.intended(self.entry, begun, self.reserve)
            await self.step(new if again else evolve(new, intent_at=begun), Step.SUBMITTING, self._account)
            if abs(time.time() - begun) < FRESH:
                break
        failpoints.reach("intent.committed")
        if failpoints.armed("submit.waiting"):
            asyncio.get_running_loop().call_later(0.05, failpoints.reach, "submit.waiting")

    def _refuse_changed(self) -> None:
        """Send no request that its owner has changed while it waited for its turn."""
        planned = self.journal.find(self.entry.key)
        if planned is None or planned.digest != self.entry.digest:
            words = "its request was changed before it was sent"
            raise TaskCancelledError(words, gateway=self._gateway, key=self.entry.key, code=CHANGED)

    def _check_age(self) -> None:
        """Keep back what the gateway may not recognise any more: it would be made, and paid for, twice."""
        age = time.time() - (self.entry.intent_at or 0.0)
        if not 0 <= age < self._remembered:
            words = "the gateway may have forgotten the key under which this was sent before"
            raise ProtocolError(words, gateway=self._gateway, code="old_key", stage="submit")

    async def accepted(self, accepted: Accepted) -> None:
        """Record the gateway's id; see `kling_async.task.Recorder`.

        A disk that will not take it is offered it again for half a minute, with the spare space given up. After that
        the id is in the log and in the run's error, and the job is followed all the same; its next step brings the id
        along.
        """
        claim = accepted.snapshot.credits if accepted.snapshot is not None else None
        new = steps.accepted(self.entry, self._gateway, accepted.task_id, time.time(), claim)
        loop = asyncio.get_running_loop()
        end = loop.time() + INSIST
        while True:
            try:
                await self.step(new, Step.ACCEPTED, accepted.task_id)
            except JournalError as error:
                if error.code == "duplicate_task_id":
                    raise
                if error.code not in ("full", "io", "busy") or loop.time() > end:
                    self._lost_id(new, error)
                    return
                with suppress(OSError):
                    self.journal.make_room()
                await asyncio.sleep(0.5)
            else:
                failpoints.reach("accepted.committed")
                return

    def _lost_id(self, new: Entry, error: JournalError) -> None:
        self._unkept, self.entry = (self.entry, new), new
        what = f"job {new.key} was accepted as task {new.task_id}"
        words = f"{what}, which the journal could not keep: {error.message}"
        log.critical("%s", on_one_line(words, 1000))
        self._broken(error.evolve(message=words, task_id=new.task_id, key=new.key, charged="yes"))

    def postponed(self) -> None:
        """Take the intent back; see `kling_async.task.Recorder`. What comes after it waits in the same line."""
        if self.entry.state is not State.SUBMITTING:
            return
        old, self.entry = self.entry, steps.postponed(self.entry)
        with suppress(JournalError):
            self._returning = self.journal.write(old, self.entry, Step.POSTPONED)
            self._returning.add_done_callback(partial(self._taken_back, old, self.entry))

    def _taken_back(self, old: Entry, new: Entry, done: "asyncio.Future[None]") -> None:
        error = None if done.cancelled() else done.exception()
        if isinstance(error, JournalError):
            self._broken(error)
        else:
            self._changed(Step.POSTPONED, old, new)

    async def settled(self) -> None:
        """Wait until an intent that was taken back is off the record, or the journal is broken."""
        if self._returning is not None:
            await asyncio.wait([self._returning])


async def _is_cut(writing: "asyncio.Future[None]") -> bool:
    """Wait until something is on disk; True if the waiting was cancelled, which the disk knows nothing of.

    A disk that says nothing for seconds after that is not waited for.
    """
    cancelled = await ended(writing, ENDINGS)
    if not writing.done():
        raise asyncio.CancelledError
    writing.result()
    return cancelled
