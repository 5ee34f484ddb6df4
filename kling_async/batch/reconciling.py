"""Finding out what became of jobs in doubt, without generating anything anew."""

import asyncio
from typing import TYPE_CHECKING

from kling_async.batch.record import Record
from kling_async.batch.recovery import can_find, looked_up, recognised
from kling_async.batch.states import State
from kling_async.batch.summary import Reconciled
from kling_async.errors import KlingError

if TYPE_CHECKING:
    from kling_async.batch.course import Course


async def reconciled(course: "Course") -> Reconciled:
    """Ask about every job in doubt, one after the other where a request is sent again under its key."""
    await course.succeed()
    await course.recovery.mark_lost()
    records = [course.record(entry) for entry in course.journal.each([State.IN_DOUBT])]
    await asyncio.gather(*(_asked(course, record) for record in records))
    found = tuple(record.entry.key for record in records if record.entry.state is not State.IN_DOUBT)
    left = tuple(record.entry.key for record in records if record.entry.state is State.IN_DOUBT)
    return Reconciled(found, left)


async def _asked(course: "Course", record: Record) -> None:
    session, entry = course.session, record.entry
    if recognised(course, entry):
        request = entry.asked()
        job = session.submit_recorded(request, key=entry.key, record=record, lost=entry.problem())
        course.take(record, job)
        try:
            await job.accepted()
        except KlingError:
            return
    elif can_find(session.gateway, entry):
        await looked_up(course, record)
