"""What an earlier run left: jobs at the gateway are followed, lost ones looked for, finished ones downloaded."""

import asyncio
import random
import time
from collections import deque
from typing import TYPE_CHECKING

from kling_async.batch import entry as steps
from kling_async.batch.entry import Entry
from kling_async.batch.record import Record
from kling_async.batch.states import State, Step
from kling_async.batch.verdict import unclear
from kling_async.bell import ended
from kling_async.errors import JournalError, SubmissionInDoubtError
from kling_async.flow.decision import in_doubt
from kling_async.gateways.protocol import Gateway
from kling_async.results import Failure, Status, Success, Timing

if TYPE_CHECKING:
    from kling_async.batch.course import Course

FOLLOWED = 20_000
"""Jobs of earlier runs that are followed at once."""
FIRST_LOOKS = 1000.0
"""First looks at jobs of earlier runs, per second."""
LOOKUPS = 8
FETCHED_AHEAD = 16
SETTLE = 5.0
"""Seconds beyond a POST's deadline after which it has surely ended."""


class Recovery:
    """Takes up what an earlier run left, before anything new is sent."""

    def __init__(self, course: "Course") -> None:
        self._course = course
        self._again: deque[Entry] = deque()
        self._lost: set[int] = set()
        self._followed = asyncio.Event()

    async def begin(self) -> None:
        """Find out what is left, and begin with it. Jobs that were being sent are in doubt from now on."""
        course = self._course
        await self.mark_lost()
        course.errand(self._follow_all(), "following")
        if course.can_fetch():
            course.errand(self._fetch_all(), "fetching")
        places = asyncio.Semaphore(LOOKUPS)
        for entry in course.journal.each([State.IN_DOUBT]):
            self._resolve(entry, places)
        # Jobs at the gateway take their slots before anything new is sent.
        await self._followed.wait()

    async def mark_lost(self) -> None:
        """Nobody waits any more for the answers of jobs that were being sent."""
        course = self._course
        for entry in list(course.journal.each([State.SUBMITTING])):
            record = course.record(entry)
            error = in_doubt(unclear(entry).evolve(gateway=course.session.gateway.name))
            await record.step(steps.lost(entry, error.evolve(key=entry.key), time.time()), Step.LOST)
            self._lost.add(entry.id)

    def next(self) -> Record | None:
        """Return a job in doubt that may be sent again under its key, or None."""
        return self._course.record(self._again.popleft()) if self._again else None

    def _resolve(self, entry: Entry, places: asyncio.Semaphore) -> None:
        course = self._course
        gateway = course.session.gateway
        if recognised(course, entry):
            self._again.append(entry)
        elif can_find(gateway, entry):
            course.claim(entry)
            course.errand(self._look_up(course.record(entry), places), "lookup")
        elif entry.id in self._lost:
            course.hand(doubtful(entry))

    async def _look_up(self, record: Record, places: asyncio.Semaphore) -> None:
        """Look a job up by its identity, once its POST has surely ended."""
        async with places:
            found = await looked_up(self._course, record)
        if found:
            self._follow(record, 1)
        elif record.entry.id in self._lost:
            self._course.hand(doubtful(record.entry))

    async def _follow_all(self) -> None:
        course = self._course
        count = course.journal.counts().states.get(State.ACCEPTED, 0)
        followed = 0
        try:
            for left in course.journal.each([State.ACCEPTED]):
                entry = course.claim(left)
                if entry is None:
                    continue
                followed += 1
                if followed > FOLLOWED:
                    self._followed.set()
                    await course.fewer_than(FOLLOWED)
                try:
                    self._follow(course.record(entry), min(count, FOLLOWED))
                except JournalError as error:  # one that cannot be read keeps nobody from following the others
                    course.break_(error)
                if not followed % 200:
                    await asyncio.sleep(0)
        except JournalError as error:
            course.break_(error)
        finally:
            self._followed.set()

    def _follow(self, record: Record, count: int) -> None:
        """Look at a job at once, spread out so that many are not asked about in one moment."""
        course, entry = self._course, record.entry
        wait = random.random() * min(count / FIRST_LOOKS, course.session.poll_plan.maximum)
        task_id = entry.task_id or ""
        job = course.session.follow_recorded(entry.asked(), key=entry.key, task_id=task_id, wait=wait)
        course.take(record, job)

    async def _fetch_all(self) -> None:
        course = self._course
        places = asyncio.Semaphore(FETCHED_AHEAD)
        waiting: set[asyncio.Task[None]] = set()
        try:
            for left in course.journal.each([State.SUCCEEDED]):
                await places.acquire()
                if course.stopped is not None and course.broken is not None:
                    break
                entry = course.claim(left)
                if entry is None:
                    places.release()
                    continue
                task = asyncio.get_running_loop().create_task(self._fetch(entry))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
                task.add_done_callback(course.over)
                task.add_done_callback(lambda _: places.release())
            while waiting:
                await asyncio.wait(waiting)
        except JournalError as error:
            course.break_(error)
        finally:
            for task in waiting:
                task.cancel()
            for task in list(waiting):
                await ended(task)

    async def _fetch(self, entry: Entry) -> None:
        try:
            video = entry.made()
            if video is not None:
                made = Success(entry.key, entry.asked(), video.task_id, video, video.credits, Timing())
                await self._course.fetch(self._course.record(entry), made)
        except JournalError as error:
            self._course.break_(error)


async def looked_up(course: "Course", record: Record) -> bool:
    """Look a job in doubt up at the gateway; True if it is there, and accepted from now on."""
    entry = record.entry
    patience = course.session.timeouts.submit + SETTLE
    since = time.time() - (entry.intent_at or 0.0)
    await asyncio.sleep(min(patience, max(0.0, patience - since)))
    found = await course.session.find_recorded(record.identity)
    if found is None:
        return False
    try:
        await record.accepted(found)
    except JournalError:
        return False
    return record.entry.state is State.ACCEPTED


def recognised(course: "Course", entry: Entry) -> bool:
    """Tell whether the gateway surely recognises a job in doubt by its key: the same account sent it, not long ago."""
    if not remembers(course.session.gateway, entry, time.time()):
        return False
    intents = [detail for step, _, detail in course.journal.steps(entry.id) if step is Step.SUBMITTING]
    return intents[-1:] == [course.account]


def remembers(gateway: Gateway, entry: Entry, now: float) -> bool:
    """Tell whether the gateway still knows the key of a job in doubt, so that sending it again cannot cost twice."""
    if not gateway.dedupes_by_key or entry.intent_at is None or _forbids(entry):
        return False
    return 0 <= now - entry.intent_at < gateway.dedupes_for


def resolves(gateway: Gateway) -> bool:
    """Tell whether the gateway can say what became of a job in doubt: it knows keys, or looks jobs up."""
    return gateway.dedupes_by_key or _finds(gateway)


def can_find(gateway: Gateway, entry: Entry) -> bool:
    """Tell whether the gateway can look a job in doubt up."""
    return not _forbids(entry) and _finds(gateway)


def _finds(gateway: Gateway) -> bool:
    try:
        exchange = gateway.find("check")
    except Exception:  # noqa: BLE001 - a plug-in's fault must not end the run
        return False
    if exchange is not None:
        exchange.close()
    return exchange is not None


def _forbids(entry: Entry) -> bool:
    """Tell whether the gateway said that this key is not to be used again."""
    error = entry.problem()
    codes = {error.code, error.cause.code if error.cause is not None else None} if error is not None else set()
    return bool(codes & {"idempotency_result_indeterminate", "contradiction", "duplicate_task_id"})


def doubtful(entry: Entry) -> Failure:
    """Return the outcome of a job in doubt."""
    error = entry.problem() or SubmissionInDoubtError(key=entry.key)
    return Failure(entry.key, entry.asked(), entry.task_id, error, "unknown", Timing(), Status.IN_DOUBT)
