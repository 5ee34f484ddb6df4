"""Reading a journal, also while another process writes it."""

import contextlib
import json
import os
import sqlite3
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from attrs import fields, frozen

from kling_async.batch.entry import Entry
from kling_async.batch.schema import distrust, version_of
from kling_async.batch.states import State, Step
from kling_async.batch.trouble import journal_error, mode_at
from kling_async.errors import JournalError

COLUMNS = tuple(attribute.name for attribute in fields(Entry))
SELECT = f"SELECT {', '.join(COLUMNS)} FROM job"  # noqa: S608
BUSY_SECONDS = 5.0
PAGES_KEPT = -8 * 1024
"""The cache of each connection, in kibibytes as SQLite counts them."""
_NO_NAME = ("", ".", "..")
_STATES = {str(state): state for state in State}


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

    def __init__(self, path: str | os.PathLike[str]) -> None:
        path = Path(path)
        self.path = path
        if not stat.S_ISREG(mode_at(path, path)):
            raise JournalError(f"there is no journal {path}", code="missing", stage="journal", charged="no")
        with self._understood(), contextlib.ExitStack() as undo:
            self._connection = _opened(path)
            undo.callback(self._connection.close)
            distrust(self._connection)
            if not version_of(self._connection, path):
                raise JournalError(f"{path} is not a journal", code="not_a_journal", stage="journal", charged="no")
            undo.pop_all()

    @contextlib.contextmanager
    def _understood(self) -> Iterator[None]:
        """Turn what SQLite complains of, and contents that make no sense, into `JournalError`."""
        failure: JournalError | None = None
        try:
            yield
        except JournalError:
            raise
        except (sqlite3.Error, OSError) as error:
            failure = journal_error(self.path, error)
        except (ValueError, KeyError, TypeError):
            words = f"the journal {self.path} holds what no version writes; restore a copy, nothing was changed"
            failure = JournalError(words, code="corrupt", stage="journal", charged="no")
        if failure is not None:
            raise failure

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._understood():
            return self._connection.execute(sql, values).fetchall()

    def _jobs(self, sql: str, values: Sequence[Any] = ()) -> list[Entry]:
        with self._understood():
            return [entry_of(row) for row in self._connection.execute(sql, values)]

    def facts(self) -> Facts:
        """Return what the journal says of itself."""
        names = "uuid, created, gateway, unit, base_url, source, directory, options, stop"
        rows = self._rows(f"SELECT {names} FROM batch")  # noqa: S608
        if not rows:
            raise JournalError(f"{self.path} holds no batch", code="corrupt", stage="journal", charged="no")
        uuid_, created, gateway, unit, base_url, source, directory, options, stop = rows[0]
        with self._understood():
            settings = dict(json.loads(options))
        return Facts(uuid_, created, gateway, unit, base_url, source, directory, settings, stop)

    def counts(self) -> Counts:
        """Return how many jobs stand where, and the money in it."""
        rows = self._rows("SELECT state, count(*) FROM job GROUP BY state")
        with self._understood():
            states = {_STATES[name]: number for name, number in rows}
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
        sql = f"{SELECT} WHERE {column} IN ({places}) AND id > ?{dear} ORDER BY id LIMIT ?"
        values = [*names, after, *([] if most is None else [most]), limit]
        return self._jobs(sql, values)

    def each(self, states: Iterable[State], after: int = 0) -> Iterator[Entry]:
        """Yield every job that stands in one of some states, a page at a time."""
        wanted = tuple(states)
        while page := self.page(wanted, after):
            yield from page
            after = page[-1].id

    def stands(self) -> Iterator[tuple[str, State, bytes]]:
        """Yield the name, the state and the hash of the request of every job."""
        after, sql = 0, "SELECT id, key, state, digest FROM job WHERE id > ? ORDER BY id LIMIT 5000"
        while page := self._rows(sql, (after,)):
            yield from ((key, _STATES[state], digest) for _, key, state, digest in page)
            after = page[-1][0]

    def find(self, key: str) -> Entry | None:
        """Return the job of a name."""
        return next(iter(self._jobs(f"{SELECT} WHERE key = ?", (key,))), None)

    def happened(self, after: int = 0, limit: int = 500) -> list[Happening]:
        """Return events beyond a number, in their order; each with its job as it stands now."""
        names = ", ".join(f"job.{name}" for name in COLUMNS)
        sql = (
            f"SELECT event.seq, event.step, event.at, event.attempt, event.detail, {names}"  # noqa: S608
            " FROM event JOIN job ON job.id = event.job WHERE event.seq > ? ORDER BY event.seq LIMIT ?"
        )
        rows = self._rows(sql, (after, limit))
        with self._understood():
            return [
                Happening(seq, Step(step), at, attempt, detail, entry_of(row))
                for seq, step, at, attempt, detail, *row in rows
            ]

    def newest(self) -> int:
        """Return the number of the newest event."""
        return int(self._rows("SELECT coalesce(max(seq), 0) FROM event")[0][0])

    def steps(self, job: int) -> list[tuple[Step, float, str | None]]:
        """Return the history of one job: what, when, and what was noted."""
        rows = self._rows("SELECT step, at, detail FROM event WHERE job = ? ORDER BY seq", (job,))
        with self._understood():
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


def entry_of(row: Sequence[Any]) -> Entry:
    """Return a job from the columns of its row. Raises `ValueError` or `KeyError` for what no version writes."""
    values = list(row)
    values[2] = _STATES[values[2]]
    entry = Entry(*values)
    if entry.file is not None and (entry.file in _NO_NAME or "/" in entry.file or "\\" in entry.file):
        raise ValueError("a file's name leads elsewhere")
    return entry


def _opened(path: Path) -> sqlite3.Connection:
    """Open a journal for reading, also one in a directory where nothing may be written."""
    place = path.resolve().as_uri()
    connection = sqlite3.connect(f"{place}?mode=ro", uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    try:
        connection.execute(f"PRAGMA cache_size = {PAGES_KEPT}")
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.OperationalError:
        connection.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            raise
        # Nobody writes it, or there would be a log; without one SQLite wants to make it.
        connection = sqlite3.connect(f"{place}?mode=ro&immutable=1", uri=True, isolation_level=None)
    except sqlite3.Error:
        connection.close()
        raise
    return connection
