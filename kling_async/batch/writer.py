"""The journal's one writer: a thread that puts everything which waits into one transaction (group commit)."""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from kling_async import failpoints
from kling_async.batch.trouble import concerns_file, journal_error, linked, moved
from kling_async.errors import JournalError, KlingError

T = TypeVar("T")

MOST_AT_ONCE = 512
Work = Callable[[sqlite3.Connection], Any]
Reply = Callable[[Any, BaseException | None], None]


class Writer:
    """Runs changes on one connection, in order, many to a transaction.

    A change that fails fails alone: its group is undone and done again one by one. A journal that cannot be written
    at all fails the whole group at once, and says why.

    Args:
        path: the journal, for messages.
        connect: opens the connection, in the writer's own thread.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path = path
        self._real = os.path.realpath(path)
        self._connect = connect
        self._queue: queue.SimpleQueue[tuple[Work, Reply] | None] = queue.SimpleQueue()
        self._opened: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, name="kling-journal", daemon=True)
        self._gate = threading.Lock()
        self._closed = False
        self._place: list[tuple[int, int]] = []
        self.started = False

    def start(self) -> None:
        """Open the connection. Raises `JournalError`."""
        self._thread.start()
        self.started = True
        self._opened.result()

    def close(self) -> None:
        """Commit what waits, close the connection and end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do something and wait until it is durable. Raises `JournalError`, or what the work raises."""
        done: Future[T] = Future()
        self._put(work, lambda value, error: done.set_exception(error) if error else done.set_result(value))
        return done.result()

    def flush(self, seconds: float) -> None:
        """Wait until everything that was handed in before is done, so many seconds at most."""
        done: Future[None] = Future()
        with contextlib.suppress(JournalError, TimeoutError):
            self._put(lambda _: None, lambda _value, _error: done.set_result(None))
            done.result(seconds)

    def send(self, work: Callable[[sqlite3.Connection], T]) -> "asyncio.Future[T]":
        """Do something; the future is done when it is durable."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._put(work, _Waiter(loop, done))
        return done

    def _put(self, work: Work, reply: Reply) -> None:
        with self._gate:
            if not self._closed:
                self._queue.put((work, reply))
                return
        raise JournalError(f"the journal {self._path} is closed", code="closed", stage="journal")

    def _run(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # noqa: BLE001 - the one who opens the journal gets it
            self._opened.set_exception(journal_error(self._path, error))
            return
        self._opened.set_result(None)
        try:
            while self._group(connection):
                pass
        finally:
            self._end(connection)

    def _end(self, connection: sqlite3.Connection) -> None:
        """Close, and let nobody wait for a thread that is gone, whatever ended it."""
        with self._gate:
            self._closed = True
        failpoints.reach("checkpoint.before")
        with contextlib.suppress(sqlite3.Error):
            # Someone who reads keeps the log from being taken in when the last connection closes.
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with contextlib.suppress(sqlite3.Error):
            connection.close()
        gone = JournalError(f"the writer of the journal {self._path} has ended", code="closed", stage="journal")
        while True:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return
            if item is not None:
                _answer([item], [(None, gone)])

    def _group(self, connection: sqlite3.Connection) -> bool:
        """Do everything that waits; False at the end."""
        first = self._queue.get()
        group = [first] if first else []
        last = first is None
        while not last and len(group) < MOST_AT_ONCE:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                break
            if item is None:
                last = True
            else:
                group.append(item)
        try:
            results = self._done(connection, [work for work, _ in group]) if group else []
        except BaseException as error:
            _answer(group, [(None, journal_error(self._path, error)) for _ in group])
            raise
        _answer(group, results)
        return not last

    def _done(self, connection: sqlite3.Connection, works: Sequence[Work]) -> list[tuple[Any, BaseException | None]]:
        try:
            done = _transaction(connection, [*works, self._check_place])
            return [(value, None) for value in done[:-1]]
        except BaseException as error:  # noqa: BLE001 - it goes to whoever waits for it
            if concerns_file(error):
                return [(None, journal_error(self._path, error).evolve()) for _ in works]
            if len(works) > 1:
                return [self._done(connection, [work])[0] for work in works]
            return [(None, error if isinstance(error, KlingError) else journal_error(self._path, error))]

    def _check_place(self, _: sqlite3.Connection) -> None:
        """See that the files of the journal are still those which were opened: SQLite writes on in deleted ones."""
        try:
            files = [os.stat(each) for each in (self._real, f"{self._real}-wal")]  # noqa: PTH116 - half the time
        except FileNotFoundError:
            files = []
        if files and files[0].st_nlink > 1:
            raise linked(self._path)
        place = [(found.st_dev, found.st_ino) for found in files]
        self._place = self._place or place
        if not place or place != self._place:
            raise moved(self._path)


def _transaction(connection: sqlite3.Connection, works: Sequence[Work]) -> list[Any]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        values = [work(connection) for work in works]
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return values


class _Waiter:
    """Someone on an event loop who waits."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Any]") -> None:
        self.loop = loop
        self.future = future

    def __call__(self, value: Any, error: BaseException | None) -> None:
        self.loop.call_soon_threadsafe(_resolve, [(self.future, value, error)])


def _answer(group: Sequence[tuple[Work, Reply]], results: Sequence[tuple[Any, BaseException | None]]) -> None:
    """Tell everybody, the waiters of one loop with one call."""
    waiting: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any, BaseException | None]]] = {}
    for (_, reply), (value, error) in zip(group, results, strict=True):
        if isinstance(reply, _Waiter):
            waiting.setdefault(reply.loop, []).append((reply.future, value, error))
        else:
            reply(value, error)
    for loop, told in waiting.items():
        try:
            loop.call_soon_threadsafe(_resolve, told)
        except RuntimeError:  # the loop is closed; nobody waits any more
            continue


def _resolve(told: Sequence[tuple["asyncio.Future[Any]", Any, BaseException | None]]) -> None:
    for future, value, error in told:
        if future.done():
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)
