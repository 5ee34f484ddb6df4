"""The durable record of a batch: one SQLite file, one owner, one writer. It stores what the steps decide."""

import asyncio
import os
import sqlite3
import stat
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

from attrs import evolve

from kling_async import failpoints
from kling_async.batch.entry import Entry, left_behind, retried
from kling_async.batch.keys import Planned, conflict, said
from kling_async.batch.owner import Owner
from kling_async.batch.reading import BUSY_SECONDS, COLUMNS, PAGES_KEPT, SELECT, Reading, entry_of
from kling_async.batch.schema import distrust, migrate
from kling_async.batch.states import State, Step
from kling_async.batch.trouble import journal_error, mode_at, refuse_network
from kling_async.batch.writer import Writer
from kling_async.errors import JournalError

CHECKED = 16 * 1024 * 1024
"""A larger journal is not looked through when it is opened: its damage is found where it is read."""
_FIXED = ("id", "key", "request", "digest", "row", "name", "input", "estimate")
_CHANGING = tuple(name for name in COLUMNS if name not in _FIXED)
_changing = attrgetter(*_CHANGING)
_EVENT = "INSERT INTO event (job, step, at, attempt, detail) VALUES (?, ?, ?, ?, ?)"
_INSERT = (
    "INSERT INTO job (key, state, attempt, request, digest, row, name, input, estimate)"
    " VALUES (?, 'planned', 1, ?, ?, ?, ?, ?, ?) RETURNING id"
)


class Journal(Reading):
    """A journal and the right to write it.

    Args:
        path: the file; made, readable by its owner only, if there is none.
        gateway, unit, base_url: whom a new journal is made for.

    Raises:
        JournalError: with a `code`: locked, missing_directory, network_filesystem, read_only, corrupt, not_a_journal,
            too_new, full, io, busy, cannot_open.
    """

    def __init__(self, path: Path, *, gateway: str, unit: str, base_url: str) -> None:
        if not stat.S_ISDIR(mode_at(path.parent, path)):
            words = f"there is no directory {path.parent} for the journal"
            raise JournalError(words, code="missing_directory", stage="journal", charged="no")
        refuse_network(path)
        _refuse_read_only(path)
        try:
            self._owner = Owner(path)
        except OSError as error:
            raise journal_error(path, error) from None
        self.replanned = 0
        self._writer = Writer(path, lambda: _connected(path))
        try:
            _create(path, had_rows=self._owner.had_rows)
            self._writer.start()
            self._writer.run(lambda connection: _begin(connection, gateway, unit, base_url))
            super().__init__(path)
            if self._rows("SELECT 1 FROM job LIMIT 1"):
                self._owner.has_rows()
        except BaseException as error:
            self._writer_stop()
            self._owner.release()
            if isinstance(error, OSError):
                raise journal_error(path, error) from None
            raise

    def _writer_stop(self) -> None:
        if self._writer.started:
            self._writer.close()

    def close(self) -> None:
        """Commit what waits, and let another process have the journal."""
        super().close()
        self._writer_stop()
        if self._owner is not None:
            self._owner.release()

    def add(self, items: Iterable[Planned], estimates: Iterable[int | None]) -> tuple[int, int]:
        """Plan jobs, all of them or none; returns how many are new, and how many are sent with a changed request.

        A name that is there with the same request adds nothing. With another request it takes the new one, if the
        old one was surely never accepted. Raises `InvalidRequestError` for the others.
        """
        pairs = list(zip(items, estimates, strict=True))
        failpoints.reach("plan.before-insert")
        found = self._writer.run(lambda connection: _plan(connection, pairs, time.time()))
        if found[0]:
            self._owner.has_rows()
        self.replanned += found[1]
        failpoints.reach("plan.committed")
        return found

    def write(self, old: Entry, new: Entry, step: Step, detail: str | None = None) -> "asyncio.Future[None]":
        """Record a step of a job, behind those that were handed in before; the future is done when it is durable.

        Raises `JournalError`, at once or on the future.
        """
        return self._writer.send(lambda connection: _change(connection, old, new, step, detail))

    def write_now(self, old: Entry, new: Entry, step: Step, detail: str | None = None) -> Entry:
        """Record a step of a job and wait for that."""
        self._writer.run(lambda connection: _change(connection, old, new, step, detail))
        return new

    def note(self, **known: str | None) -> None:
        """Change what the journal says of itself: the columns of its table `batch`."""
        self._writer.run(lambda connection: _note(connection, known))

    def learned(self) -> str | None:
        """Return what earlier runs have learned of how long jobs take; see `Durations.told`."""
        rows = self._rows("SELECT learned FROM batch")
        return rows[0][0] if rows else None

    def flush(self, seconds: float = 3.0) -> None:
        """Wait until everything that was handed in is on disk, so many seconds at most."""
        self._writer.flush(seconds)

    def make_room(self) -> None:
        """Give the spare space back to a disk that is full."""
        self._owner.make_room()


def _note(connection: sqlite3.Connection, known: Mapping[str, str | None]) -> None:
    names = ", ".join(f"{name} = ?" for name in known)
    connection.execute(f"UPDATE batch SET {names}", tuple(known.values()))  # noqa: S608


def ask_to_stop(path: Path, how: str) -> None:
    """Ask the process that drives a journal to stop: "drain" or "now". Raises `JournalError`."""
    try:
        place = f"{path.resolve().as_uri()}?mode=rw"
        connection = sqlite3.connect(place, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            connection.execute("UPDATE batch SET stop = ?", (how,))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise journal_error(path, error) from None


def _refuse_read_only(path: Path) -> None:
    """See that SQLite can make its log beside the journal, which it complains of in words that do not help."""
    directory = Path(os.path.realpath(path)).parent
    if not os.access(directory, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        words = f"the journal {path} cannot be kept: its directory cannot be written"
        raise JournalError(words, code="read_only", stage="journal", charged="no")


def _create(path: Path, *, had_rows: bool) -> None:
    """Make the file, for its owner only; an empty one that held a batch before is a loss, not a new journal."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        empty = os.fstat(file).st_size <= 1  # SQLite takes one byte for none
    finally:
        os.close(file)
    if empty and had_rows:
        words = f"the journal {path} is empty, though it held a batch; restore a copy, or remove {path.name}.lock"
        raise JournalError(words, code="corrupt", stage="journal", charged="no")


def _connected(path: Path) -> sqlite3.Connection:
    # An absolute path: SQLite takes some relative ones (`file:x`, `:memory:`) for something else.
    connection = sqlite3.connect(path.absolute(), isolation_level=None, timeout=BUSY_SECONDS)
    try:
        distrust(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = 1")
        connection.execute("PRAGMA checkpoint_fullfsync = 1")
        connection.execute(f"PRAGMA cache_size = {PAGES_KEPT}")
        _check(connection, path)
        migrate(connection, path)
        _use_log(connection, path)  # only now: it changes the file, which may be another program's
    except BaseException:
        connection.close()
        raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    """Look for damage, where that does not take long."""
    if path.stat().st_size > CHECKED:
        return
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        words = f"the journal {path} is damaged ({found[:200]}); restore a copy, nothing was changed"
        raise JournalError(words, code="corrupt", stage="journal", charged="no")


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise JournalError(f"the journal {path} cannot use a write-ahead log", code="io", stage="journal")


def _begin(connection: sqlite3.Connection, gateway: str, unit: str, base_url: str) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO batch (id, uuid, created, gateway, unit, base_url) VALUES (1, ?, ?, ?, ?, ?)",
        (uuid.uuid4().hex, time.time(), gateway, unit, base_url),
    )


def _plan(connection: sqlite3.Connection, pairs: Sequence[tuple[Planned, int | None]], now: float) -> tuple[int, int]:
    import hashlib

    new = changed = 0
    clashes: list[str] = []
    for item, estimate in pairs:
        text = said(item.request)
        digest = hashlib.sha256(text.encode()).digest()
        found = connection.execute(f"{SELECT} WHERE key = ?", (item.key,)).fetchone()
        if found is None:
            values = (item.key, text, digest, item.row, item.name, item.input, estimate)
            (number,) = connection.execute(_INSERT, values).fetchone()
            connection.execute(_EVENT, (number, str(Step.PLANNED), now, 1, None))
            new += 1
            continue
        entry = _known(found)
        if entry.digest == digest:
            continue
        if entry.state not in (State.PLANNED, State.REJECTED) or entry.doubted or entry.spent:
            clashes.append(item.key)
            continue
        _replan(connection, entry, evolve(entry, request=text, digest=digest, estimate=estimate), item, now)
        changed += 1
    if clashes:
        raise conflict(clashes[:20])
    return new, changed


def _known(row: Sequence[Any]) -> Entry:
    try:
        return entry_of(row)
    except (KeyError, ValueError):
        words = "the journal holds what no version writes; restore a copy, nothing was changed"
    raise JournalError(words, code="corrupt", stage="journal", charged="no")


def _replan(connection: sqlite3.Connection, old: Entry, asked: Entry, item: Planned, now: float) -> None:
    """Take a changed request in, for a job that was surely never accepted."""
    connection.execute(
        "UPDATE job SET request = ?, digest = ?, estimate = ?, row = ?, input = ? WHERE id = ?",
        (asked.request, asked.digest, asked.estimate, item.row, item.input, old.id),
    )
    if old.state is State.REJECTED:
        _change(connection, old, retried(asked), Step.RETRIED, left_behind(old))
    else:
        connection.execute(_EVENT, (old.id, str(Step.PLANNED), now, old.attempt, None))


@cache
def _update(names: tuple[str, ...]) -> str:
    changes = ", ".join(f"{name} = ?" for name in names)
    return f"UPDATE job SET {changes} WHERE id = ? AND state = ?"  # noqa: S608


def _change(connection: sqlite3.Connection, old: Entry, new: Entry, step: Step, detail: str | None) -> None:
    moved = [
        (name, now)
        for name, before, now in zip(_CHANGING, _changing(old), _changing(new), strict=True)
        if before != now
    ]
    # Only what changed is named: every index over a named column is written anew.
    sql = _update(tuple(name for name, _ in moved))
    if moved and connection.execute(sql, (*(value for _, value in moved), new.id, old.state.value)).rowcount != 1:
        words = f"job {new.key} is not {old.state} any more; somebody else changed the journal"
        raise JournalError(words, code="changed", stage="journal")
    connection.execute(_EVENT, (new.id, step.value, time.time(), new.attempt, detail))
