"""Virtual time for durable batches: the clock stands still while a thread is at work for the loop."""

import asyncio
import json
import selectors
import sqlite3

from virtual import START, VirtualLoop, VirtualSession, _Jumping

from kling_async import TextToVideo
from kling_async.batch import Reading, State, Step
from kling_async.batch.states import replay

EPOCH = 1_700_000_000.0
PRICE = 200
"""Credits of one `clip` at kling3api: five seconds without sound."""
EVERY = tuple(State)


class Wall:
    """Stands for the module `time`: Unix time that keeps step with the newest virtual loop."""

    loop = None
    offset = 0.0

    def time(self):
        return EPOCH + self.offset + (self.loop.time() - START if self.loop is not None else 0.0)


WALL = Wall()


class _Patient(_Jumping):
    def select(self, timeout=None):
        if self.loop.threads and (timeout is None or timeout > 0):
            return selectors.DefaultSelector.select(self, 20)
        return super().select(timeout)


class DurableLoop(VirtualLoop):
    """Lets no time pass while the journal's writer, or any other thread, owes it an answer."""

    def __init__(self, start=START):
        self.now = start
        self.threads = 0
        selector = _Patient()
        selector.loop = WALL.loop = self
        asyncio.SelectorEventLoop.__init__(self, selector)

    def owed(self, future):
        """Let time stand still until a thread has answered."""
        self.threads += 1
        future.add_done_callback(self._answered)
        return future

    def _answered(self, _):
        self.threads -= 1

    def run_in_executor(self, executor, func, *args):
        return self.owed(super().run_in_executor(executor, func, *args))


class Disk:
    """Where the journal's writer commits; it can be full for the next commits, or until somebody makes room."""

    def __init__(self, commit):
        self._commit = commit
        self.full = False
        self.fail_next = 0
        self.commits = 0

    def transaction(self, connection, works):
        """Stands for the writer's own transaction."""
        if self.full or self.fail_next:
            self.fail_next = max(0, self.fail_next - 1)
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorname = "SQLITE_FULL"
            raise error
        self.commits += 1
        return self._commit(connection, works)


def clip(number, **fields):
    return TextToVideo(f"clip {number}", **{"duration": 5, **fields})


def clips(count, first=0, **fields):
    return [(f"k{number}", clip(number, **fields)) for number in range(first, first + count)]


def night(sandbox=None, gateway="kling3api", **settings):
    """A session with many slots and no limit on requests per time, unless a test says otherwise."""
    return VirtualSession(sandbox, gateway, **{"concurrency": 64, "rate": None, **settings})


async def made(batch, **how):
    """Read a run to its end."""
    return [outcome async for outcome in batch.run(**how)]


async def read(run, outcomes):
    """Read a run to its end, or to what breaks it, and keep what came before."""
    async for outcome in run:
        outcomes.append(outcome)


def standing(path, key=None):
    """Return where every job stands, by its key; or one of them."""
    with Reading(path) as journal:
        found = {entry.key: entry for entry in journal.each(EVERY)}
    return found if key is None else found[key]


def states(path):
    return {key: str(entry.state) for key, entry in standing(path).items()}


def check(path, sandbox=None, *, twice=()):
    """Hold a journal, and the ledger of the gateway, against the promises of a batch.

    Args:
        path: the journal.
        sandbox: the gateway.
        twice: prompts that the user has knowingly sent again.
    """
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    connection.close()
    known, doubted = set(), set()
    with Reading(path) as journal:
        for entry in journal.each(EVERY):
            history = journal.steps(entry.id)
            assert replay(step for step, _, _ in history) == (entry.state, entry.attempt)
            assert min(entry.reserved, entry.spent, entry.doubted) >= 0
            known.add(entry.task_id)
            known |= {
                json.loads(detail).get("task_id") for step, _, detail in history if step is Step.RETRIED and detail
            }
            if entry.state in (State.IN_DOUBT, State.SUBMITTING):
                doubted.add(entry.asked().prompt)
    if sandbox is None:
        return
    assert set(sandbox.ledger.duplicates) <= set(twice)
    for submit in sandbox.ledger.submits:
        if submit.accepted:
            assert submit.task_id in known or submit.prompt in doubted | set(twice), submit
