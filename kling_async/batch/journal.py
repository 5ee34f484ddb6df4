"""The durable record of a batch: one SQLite file, one owner, one writer. It stores what the steps decide."""

import asyncio
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Self

from attrs import evolve, fields, frozen

from kling_async import failpoints
from kling_async.batch.entry import Entry, retried
from kling_async.batch.keys import Planned, conflict, said
from kling_async.batch.owner import Owner
from kling_async.batch.schema import migrate
from kling_async.batch.states import State, Step
from kling_async.batch.trouble import journal_error, refuse_network
from kling_async.batch.writer import Writer
from kling_async.errors import JournalError

COLUMNS = tuple(attribute.name for attribute in fields(Entry))
_FIXED = ("id", "key", "request", "digest", "row", "name", "input", "estimate")
_CHANGING = tuple(name for name in COLUMNS if name not in _FIXED)
_changing = attrgetter(*_CHANGING)
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM job"  # noqa: S608
_EVENT = "INSERT INTO event (job, step, at, attempt, detail) VALUES (?, ?, ?, ?, ?)"
_INSERT = (
    "INSERT INTO job (key, state, attempt, request, digest, row, name, input, estimate)"
    " VALUES (?, 'planned', 1, ?, ?, ?, ?, ?, ?) RETURNING id"
)
_STATES = {str(state): state for state in State}
BUSY_SECONDS = 5.0
_PAGES_KEPT = -8 * 1024


@frozen
class Facts:
    """What a journal says of itself.

    Args:
        uuid: part of every job's identity at the gateway.
        created: Unix time.
        gateway, unit, base_url: whom it was made for.
        source, directory: the file its jobs came from and where its videos go, or None.
        options: settings that a front keeps in it.
        stop: "drain" or "now" while somebody wants the run to stop.
    """

    uuid: str
    created: float
    gateway: str
    unit: str
    base_url: str
    source: str | None
    directory: str | None
    options: Mapping[str, Any]
    stop: str | None


@frozen
class Happening:
    """One event of a journal, with the job as it stands now."""

    seq: int
    step: Step
    at: float
    attempt: int
    detail: str | None
    entry: Entry


@frozen
class Counts:
    """How many jobs stand where, and their money in millionths of the unit."""

    states: Mapping[State, int]
    reserved: int
    spent: int
    doubted: int

    @property
    def held(self) -> int:
        """What all jobs take of a budget."""
        return self.reserved + self.spent + self.doubted


class Reading:
    """Reads a journal, also while another process writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise JournalError(f"there is no journal {path}", code="missing", stage="journal", charged="no")
        try:
            self._connection = sqlite3.connect(
                f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_SECONDS
            )
            self._connection.execute(f"PRAGMA cache_size = {_PAGES_KEPT}")
            marked = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise journal_error(path, error) from None
        if not marked:
            self.close()
            raise JournalError(f"{path} is not a journal", code="not_a_journal", stage="journal", charged="no")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise journal_error(self.path, error) from None

    def facts(self) -> Facts:
        """Return what the journal says of itself."""
        names = "uuid, created, gateway, unit, base_url, source, directory, options, stop"
        rows = self._rows(f"SELECT {names} FROM batch")  # noqa: S608
        if not rows:
            raise JournalError(f"{self.path} holds no batch", code="corrupt", stage="journal", charged="no")
        uuid_, created, gateway, unit, base_url, source, directory, options, stop = rows[0]
        return Facts(uuid_, created, gateway, unit, base_url, source, directory, json.loads(options), stop)

    def counts(self) -> Counts:
        """Return how many jobs stand where, and the money in it."""
        states = {
            _STATES[name]: number for name, number in self._rows("SELECT state, count(*) FROM job GROUP BY state")
        }
        money = self._rows(
            "SELECT total(reserved), total(spent), total(doubted) FROM job"
            " WHERE reserved <> 0 OR spent <> 0 OR doubted <> 0"
        )[0]
        return Counts(states, *map(int, money))

    def page(self, states: Iterable[State], after: int = 0, limit: int = 256, most: int | None = None) -> list[Entry]:
        """Return jobs that stand in one of some states, in their order, beyond the number `after`.

        Args:
            states: where they stand.
            after: the last number that was seen.
            limit: how many at most.
            most: only those with an estimate of at most this, in millionths.
        """
        names = [str(state) for state in states]
        places = ", ".join("?" * len(names))
        # One state comes in order from its index; for several, the plus sign has SQLite walk the jobs in their order.
        column = "state" if len(names) == 1 else "+state"
        dear = "" if most is None else " AND estimate <= ?"
        sql = f"{_SELECT} WHERE {column} IN ({places}) AND id > ?{dear} ORDER BY id LIMIT ?"
        values = [*names, after, *([] if most is None else [most]), limit]
        return [_entry(row) for row in self._rows(sql, values)]

    def each(self, states: Iterable[State], after: int = 0) -> Iterator[Entry]:
        """Yield every job that stands in one of some states, a page at a time."""
        wanted = tuple(states)
        while page := self.page(wanted, after):
            yield from page
            after = page[-1].id

    def stands(self) -> Iterator[tuple[str, State, bytes]]:
        """Yield the name, the state and the hash of the request of every job."""
        after = 0
        while page := self._rows(
            "SELECT id, key, state, digest FROM job WHERE id > ? ORDER BY id LIMIT 5000", (after,)
        ):
            yield from ((key, _STATES[state], digest) for _, key, state, digest in page)
            after = page[-1][0]

    def find(self, key: str) -> Entry | None:
        """Return the job of a name."""
        rows = self._rows(f"{_SELECT} WHERE key = ?", (key,))
        return _entry(rows[0]) if rows else None

    def happened(self, after: int = 0, limit: int = 500) -> list[Happening]:
        """Return events beyond a number, in their order; each with its job as it stands now."""
        names = ", ".join(f"job.{name}" for name in COLUMNS)
        sql = (
            f"SELECT event.seq, event.step, event.at, event.attempt, event.detail, {names}"  # noqa: S608
            " FROM event JOIN job ON job.id = event.job WHERE event.seq > ? ORDER BY event.seq LIMIT ?"
        )
        return [
            Happening(seq, Step(step), at, attempt, detail, _entry(row))
            for seq, step, at, attempt, detail, *row in self._rows(sql, (after, limit))
        ]

    def newest(self) -> int:
        """Return the number of the newest event."""
        return int(self._rows("SELECT coalesce(max(seq), 0) FROM event")[0][0])

    def steps(self, job: int) -> list[tuple[Step, float, str | None]]:
        """Return the history of one job: what, when, and what was noted."""
        rows = self._rows("SELECT step, at, detail FROM event WHERE job = ? ORDER BY seq", (job,))
        return [(Step(step), at, detail) for step, at, detail in rows]

    def has_file(self, name: str) -> bool:
        """Tell whether a job's file has this name, as a file system that ignores case would."""
        return bool(self._rows("SELECT 1 FROM job WHERE lower(file) = lower(?) AND file IS NOT NULL", (name,)))

    def unpriced(self, limit: int = 20) -> list[str]:
        """Return the names of planned jobs whose price nobody knows."""
        return [
            key
            for (key,) in self._rows(
                "SELECT key FROM job WHERE state = 'planned' AND estimate IS NULL ORDER BY id LIMIT ?", (limit,)
            )
        ]


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
        if not path.parent.is_dir():
            words = f"there is no directory {path.parent} for the journal"
            raise JournalError(words, code="missing_directory", stage="journal", charged="no")
        refuse_network(path)
        try:
            self._owner = Owner(path)
        except OSError as error:
            raise journal_error(path, error) from None
        self._writer = Writer(path, lambda: _connected(path))
        try:
            _create(path, had_rows=self._owner.had_rows)
            self._writer.start()
            self._writer.run(lambda connection: _begin(connection, gateway, unit, base_url))
            super().__init__(path)
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
        """Change what the journal says of itself: gateway, base_url, unit, source, directory, options, stop."""
        self._writer.run(lambda connection: _note(connection, known))

    def make_room(self) -> None:
        """Give the spare space back to a disk that is full."""
        self._owner.make_room()


def _note(connection: sqlite3.Connection, known: Mapping[str, str | None]) -> None:
    names = ", ".join(f"{name} = ?" for name in known)
    connection.execute(f"UPDATE batch SET {names}", tuple(known.values()))  # noqa: S608


def ask_to_stop(path: Path, how: str) -> None:
    """Ask the process that drives a journal to stop: "drain" or "now". Raises `JournalError`."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
        try:
            connection.execute("UPDATE batch SET stop = ?", (how,))
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise journal_error(path, error) from None


def _create(path: Path, *, had_rows: bool) -> None:
    """Make the file, for its owner only; an empty one that held a batch before is a loss, not a new journal."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        empty = os.fstat(file).st_size == 0
    finally:
        os.close(file)
    if empty and had_rows:
        words = f"the journal {path} is empty, though it held a batch; restore a copy, or remove {path.name}.lock"
        raise JournalError(words, code="corrupt", stage="journal", charged="no")


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        _use_log(connection, path)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = 1")
        connection.execute("PRAGMA checkpoint_fullfsync = 1")
        connection.execute(f"PRAGMA cache_size = {_PAGES_KEPT}")
        migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _use_log(connection: sqlite3.Connection, path: Path) -> None:
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise JournalError(f"the journal {path} cannot use a write-ahead log", code="io", stage="journal")


def _begin(connection: sqlite3.Connection, gateway: str, unit: str, base_url: str) -> None:
    connection.execute(
        "INSERT OR IGNORE INTO batch (id, uuid, created, gateway, unit, base_url) VALUES (1, ?, ?, ?, ?, ?)",
        (uuid.uuid4().hex, time.time(), gateway, unit, base_url),
    )


def _entry(row: Sequence[Any]) -> Entry:
    values = list(row)
    values[2] = _STATES[values[2]]
    return Entry(*values)


def _plan(connection: sqlite3.Connection, pairs: Sequence[tuple[Planned, int | None]], now: float) -> tuple[int, int]:
    import hashlib

    new = changed = 0
    clashes: list[str] = []
    for item, estimate in pairs:
        text = said(item.request)
        digest = hashlib.sha256(text.encode()).digest()
        found = connection.execute(f"{_SELECT} WHERE key = ?", (item.key,)).fetchone()
        if found is None:
            values = (item.key, text, digest, item.row, item.name, item.input, estimate)
            (number,) = connection.execute(_INSERT, values).fetchone()
            connection.execute(_EVENT, (number, str(Step.PLANNED), now, 1, None))
            new += 1
            continue
        entry = _entry(found)
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


def _replan(connection: sqlite3.Connection, old: Entry, asked: Entry, item: Planned, now: float) -> None:
    """Take a changed request in, for a job that was surely never accepted."""
    connection.execute(
        "UPDATE job SET request = ?, digest = ?, estimate = ?, row = ?, input = ? WHERE id = ?",
        (asked.request, asked.digest, asked.estimate, item.row, item.input, old.id),
    )
    if old.state is State.REJECTED:
        _change(connection, old, retried(asked), Step.RETRIED, old.error)
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
