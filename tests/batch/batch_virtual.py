"""Virtual time for durable batches: the clock stands still while a thread is at work for the loop."""

import asyncio
import json
import pkgutil
import random
import selectors
import sqlite3
import time
from contextlib import suppress
from importlib import import_module

from attrs import evolve
from virtual import START, MemoryTransport, VirtualLoop, VirtualSession, _Jumping

import kling_async.batch
from kling_async import ResponseLostError, TextToVideo
from kling_async.batch import Reading, State, Step
from kling_async.batch.states import replay
from kling_async.batch.trouble import journal_error
from kling_async.batch.writer import Writer, _resolve
from kling_async.errors import JournalError
from kling_async.gateways import Accepted
from kling_async.gateways.kling3api import Kling3Api
from kling_async.wire import HttpRequest, HttpResponse

EPOCH = 1_700_000_000.0
PRICE = 200
"""Credits of one `clip` at kling3api: five seconds without sound."""
EVERY = tuple(State)


class Wall:
    """Stands for the module `time`: Unix time that keeps step with the newest virtual loop."""

    loop = None
    offset = 0.0
    sleep = staticmethod(time.sleep)

    def time(self):
        return EPOCH + self.offset + (self.loop.time() - START if self.loop is not None else 0.0)


WALL = Wall()


def set_clocks(monkeypatch):
    """Have every room of a batch read this wall clock."""
    monkeypatch.setattr(WALL, "offset", 0.0)
    monkeypatch.setattr(WALL, "loop", None)
    for found in pkgutil.iter_modules(kling_async.batch.__path__, "kling_async.batch."):
        room = import_module(found.name)
        if getattr(room, "time", None) is time:
            monkeypatch.setattr(room, "time", WALL)


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


class LoopWriter(Writer):
    """The journal's writer without a thread: a commit takes some virtual time, and can be lost in the middle."""

    takes = 0.004

    def start(self):
        try:
            self._connection = self._connect()
        except (sqlite3.Error, OSError) as error:
            raise journal_error(self._path, error) from None
        self.started = True
        self._waiting = []

    def close(self):
        if not self._closed:
            self._commit()
        self._closed = True
        self._connection.close()

    def die(self):
        """What is not committed is lost."""
        self._closed = True
        for _, future in self._waiting:
            future.cancel()
        self._waiting = []
        self._connection.close()

    def run(self, work):
        self._refuse_closed()
        self._commit()
        ((value, error),) = self._done(self._connection, [work])
        if error is not None:
            raise error
        return value

    def send(self, work):
        self._refuse_closed()
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_later(self.takes, self._commit)
        self._waiting.append((work, loop.create_future()))
        return self._waiting[-1][1]

    def _refuse_closed(self):
        if self._closed:
            raise JournalError("the journal is closed", code="closed", stage="journal")

    def _commit(self):
        group, self._waiting = self._waiting, []
        if group:
            done = self._done(self._connection, [work for work, _ in group])
            told = [(future, *found) for (_, future), found in zip(group, done, strict=True)]
            told[0][0].get_loop().call_soon(_resolve, told)


class Keyed(Kling3Api):
    """A gateway of the same dialect that can look a job up by its identity."""

    name = "keyed"

    def submit(self, request, key):
        exchange = super().submit(request, key)
        asked = next(exchange)
        response = yield evolve(asked, headers={**asked.headers, "Idempotency-Key": key})
        try:
            exchange.send(response)
        except StopIteration as stop:
            return stop.value

    def find(self, key):
        return self._find(key)

    def _find(self, key):
        response = yield HttpRequest("GET", "/find", query={"key": key})
        task_id = response.json()["task_id"]
        return Accepted(task_id) if task_id else None


class Wire(MemoryTransport):
    """Carries requests to a sandbox until its program is killed; looks jobs up by key, as the sandbox does not."""

    killed = False
    blind = False

    async def send(self, request, *, timeout, fence, fresh):
        if self.killed:
            raise asyncio.CancelledError
        if request.path != "/find":
            return await super().send(request, timeout=timeout, fence=fence, fresh=fresh)
        self.log.append((asyncio.get_running_loop().time(), "FIND", request.path, dict(request.query)))
        await asyncio.sleep(self.rtt)
        if self.blind or self.down:
            raise ResponseLostError("no answer", code="timeout")
        key = request.query["key"]
        found = [each.task_id for each in self.sandbox.ledger.submits if each.idempotency_key == key and each.accepted]
        return HttpResponse(200, {}, json.dumps({"task_id": found[0] if found else None}).encode())


class NightSession(VirtualSession):
    def __init__(self, sandbox, gateway, *, rtt=0.08, **settings):
        super().__init__(sandbox, Keyed("k-virtual-secret") if gateway == "keyed" else gateway, rtt=rtt, **settings)
        self.wire = Wire(self.sandbox, rtt)


class Program:
    """A program with a loop, a session and a batch of its own, which can be killed at any instant.

    Args:
        path: the journal.
        sandbox: the gateway, which outlives the program.
        now: when it starts.
        gateway, session: how the session is made.
        batch: how the batch is made.
    """

    def __init__(self, path, sandbox, now=START, *, gateway="kling3api", session=None, **batch):
        self.loop = DurableLoop(now)
        self.session = night(sandbox, gateway, **(session or {}))
        self.batch = self.session.batch(path, **batch)
        self.outcomes = []
        self.reader = None
        self.loop.set_exception_handler(lambda *_: None)

    def do(self, work):
        """Let the program do something to its end."""
        return self.loop.run_until_complete(work)

    def open(self):
        try:
            self.do(self.session.__aenter__())
            self.session._engine.random = random.Random(0)
            self.do(self.batch.__aenter__())
        except BaseException:
            self.kill()
            raise
        return self

    def read(self):
        """Read a run in the background."""
        self.reader = self.loop.create_task(self._read())

    async def _read(self):
        async for outcome in self.batch.run():
            self.outcomes.append(outcome)

    @property
    def is_running(self):
        return self.reader is not None and not self.reader.done()

    def turn(self, count=1):
        """Let the loop make so many turns."""
        for _ in range(count):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def wait(self, seconds):
        """Let time pass."""
        self.do(asyncio.sleep(seconds))

    def kill(self):
        """End the program as `kill -9` does: nothing it holds is written, sent or said any more. Returns when."""
        self.session.wire.killed = True
        journal, self.batch._journal = self.batch._journal, None
        self.session._engine = None
        if journal is not None:
            journal._writer.die()
            journal._owner.release()
            journal._connection.close()
        for _ in range(5):
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.turn(5)
        self.loop.close()
        return self.loop.now

    def close(self):
        """End the program in order. Returns when."""
        self.do(self.batch.aclose())
        self.do(self.session.aclose())
        if self.reader is not None:
            with suppress(Exception, asyncio.CancelledError):
                self.do(self.reader)
        self.turn(5)
        self.loop.close()
        return self.loop.now


def clip(number, **fields):
    return TextToVideo(f"clip {number}", **{"duration": 5, **fields})


def clips(count, first=0, **fields):
    return [(f"k{number}", clip(number, **fields)) for number in range(first, first + count)]


def night(sandbox=None, gateway="kling3api", **settings):
    """A session with many slots and no limit on requests per time, unless a test says otherwise."""
    return NightSession(sandbox, gateway, **{"concurrency": 64, "rate": None, **settings})


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
