"""Judges of what a program leaves: its jobs, its files and its journal, by what the gateway has charged for."""

from kling_async import Status
from kling_async.batch import Reading, State
from kling_async.batch.states import replay
from kling_async.mp4 import problem_with


def judge_jobs(session, paid):
    """Every job has ended, and what is said of it agrees with the ledger."""
    assert all(job.done() for job in session.jobs)
    known = {job.task_id for job in session.jobs if job.task_id is not None}
    assert known <= set(paid.values())
    doubtful = {job.request.prompt for job in session.jobs if job.status is Status.IN_DOUBT}
    assert {prompt for prompt, task_id in paid.items() if task_id not in known} <= doubtful
    for job in session.jobs:
        if job.task_id is not None or job.status is Status.IN_DOUBT:
            error = job.exception()
            assert error is None or error.charged != "no" or "[sandbox: fail]" in job.request.prompt, job


def judge_files(place):
    """Whatever has its name is whole."""
    for path in place.glob("*.mp4"):
        with path.open("rb") as file:
            assert problem_with(file, path.stat().st_size) is None


def judge_journal(path, paid):
    """Every job stands where its events lead, and every task that is paid for is known, or its job in doubt."""
    with Reading(path) as journal:
        entries = list(journal.each(State))
        for entry in entries:
            assert replay(step for step, _, _ in journal.steps(entry.id)) == (entry.state, entry.attempt)
    known = {entry.task_id for entry in entries}
    paid = {prompt: paid[prompt] for prompt in (entry.asked().prompt for entry in entries) if prompt in paid}
    flying = [entry for entry in entries if entry.state in (State.SUBMITTING, State.IN_DOUBT)]
    assert len(set(paid.values()) - known) <= len(flying)
    for entry in entries:
        task_id = paid.get(entry.asked().prompt)
        assert entry.state is not State.PLANNED or task_id is None, entry
        assert entry.task_id in (None, task_id), entry
    return entries


async def resumed(gateway, place):
    """Another program goes on with the batch to its end."""
    videos = place / "videos"
    async with gateway.session() as session, session.batch(place / "night.db", download_to=videos) as made:
        async for _ in made.run():
            pass
        assert made.summary().unfinished == 0
