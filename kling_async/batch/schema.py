"""The journal's tables, and how older ones become today's. Every change is one transaction: all of it, or nothing."""

import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from kling_async import failpoints
from kling_async.errors import JournalError

APPLICATION = 0x4B4C4E47
"""Marks the file as ours: "KLNG"."""

Migration = Callable[[sqlite3.Connection], None]


def _first(connection: sqlite3.Connection) -> None:
    connection.execute(
        """
        CREATE TABLE batch (
            id INTEGER PRIMARY KEY CHECK (id = 1),
            uuid TEXT NOT NULL,
            created REAL NOT NULL,
            gateway TEXT NOT NULL,
            unit TEXT NOT NULL,
            base_url TEXT NOT NULL,
            source TEXT,
            directory TEXT,
            options TEXT NOT NULL DEFAULT '{}',
            stop TEXT
        ) STRICT
        """
    )
    connection.execute(
        """
        CREATE TABLE job (
            id INTEGER PRIMARY KEY,
            key TEXT NOT NULL UNIQUE,
            state TEXT NOT NULL,
            attempt INTEGER NOT NULL,
            request TEXT NOT NULL,
            digest BLOB NOT NULL,
            row INTEGER,
            name TEXT,
            input TEXT,
            estimate INTEGER,
            reserved INTEGER NOT NULL DEFAULT 0,
            spent INTEGER NOT NULL DEFAULT 0,
            doubted INTEGER NOT NULL DEFAULT 0,
            gateway TEXT,
            task_id TEXT,
            intent_at REAL,
            accepted_at REAL,
            ended_at REAL,
            charged TEXT,
            video TEXT,
            error TEXT,
            file TEXT,
            size INTEGER,
            sha256 TEXT,
            part TEXT,
            UNIQUE (gateway, task_id)
        ) STRICT
        """
    )
    connection.execute("CREATE INDEX job_state ON job (state)")
    connection.execute("CREATE UNIQUE INDEX job_file ON job (lower(file)) WHERE file IS NOT NULL")
    connection.execute(
        """
        CREATE INDEX job_money ON job (reserved, spent, doubted)
        WHERE reserved <> 0 OR spent <> 0 OR doubted <> 0
        """
    )
    connection.execute(
        """
        CREATE TABLE event (
            seq INTEGER PRIMARY KEY AUTOINCREMENT,
            job INTEGER NOT NULL,
            step TEXT NOT NULL,
            at REAL NOT NULL,
            attempt INTEGER NOT NULL,
            detail TEXT
        ) STRICT
        """
    )
    connection.execute("CREATE INDEX event_job ON event (job)")


def _second(connection: sqlite3.Connection) -> None:
    connection.execute("ALTER TABLE batch ADD COLUMN learned TEXT")


MIGRATIONS: tuple[Migration, ...] = (_first, _second)
"""The first makes version 1 of an empty file, the second would make version 2 of version 1, and so on."""


def migrate(connection: sqlite3.Connection, path: Path, migrations: Sequence[Migration] | None = None) -> None:
    """Bring a journal to today's version; an older one is copied to `<path>.v<version>` first.

    Raises `JournalError`: `too_new` for a journal of a later version, `not_a_journal` for another program's file.
    """
    migrations = MIGRATIONS if migrations is None else migrations
    version = version_of(connection, path, len(migrations))
    if version == len(migrations):
        return
    if version:
        _back_up(connection, path.with_name(f"{path.name}.v{version}"))
    connection.execute("BEGIN IMMEDIATE")
    try:
        for change in migrations[version:]:
            change(connection)
            failpoints.reach("migrate.middle")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def version_of(connection: sqlite3.Connection, path: Path, newest: int | None = None) -> int:
    """Return the version of a journal, 0 for an empty file. Raises `JournalError` for what cannot be used."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    mark = connection.execute("PRAGMA application_id").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if mark != APPLICATION and (version or tables or mark):
        raise JournalError(f"{path} is another program's database", code="not_a_journal", stage="journal")
    if connection.execute("SELECT 1 FROM sqlite_schema WHERE coalesce(rootpage, 0) = 0").fetchone():
        words = f"the journal {path} holds a trigger, a view or a virtual table, which no version writes"
        raise JournalError(words, code="corrupt", stage="journal", charged="no")
    newest = len(MIGRATIONS) if newest is None else newest
    if version > newest:
        words = f"{path} was written by a newer kling_async (version {version}; this one knows {newest})"
        raise JournalError(words, code="too_new", stage="journal")
    return version


def distrust(connection: sqlite3.Connection) -> None:
    """Let nothing in the file run a function that reaches out of it, and look at its cells before they are used."""
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")


def _back_up(connection: sqlite3.Connection, path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    copy = sqlite3.connect(path.absolute())
    try:
        connection.backup(copy)
    finally:
        copy.close()
