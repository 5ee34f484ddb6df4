"""What SQLite and the disk complain of, as `JournalError`s that say what to do."""

import os
import sqlite3
from pathlib import Path

from kling_async.errors import JournalError

_NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "lustre", "gpfs", "fuse.sshfs", "fuse.s3fs", "afs", "ceph")

_REASONS = {
    "SQLITE_FULL": ("full", "the disk is full"),
    "SQLITE_IOERR": ("io", "the disk reports an error"),
    "SQLITE_READONLY": ("read_only", "it cannot be written"),
    "SQLITE_CANTOPEN": ("cannot_open", "it cannot be opened"),
    "SQLITE_PERM": ("cannot_open", "it may not be opened"),
    "SQLITE_BUSY": ("busy", "another program keeps it locked"),
    "SQLITE_LOCKED": ("busy", "another program keeps it locked"),
    "SQLITE_NOTADB": ("corrupt", "it is not a journal, or it is damaged; nothing was changed"),
    "SQLITE_CORRUPT": ("corrupt", "it is damaged; restore a copy, nothing was changed"),
    "SQLITE_NOMEM": ("memory", "there is not enough memory"),
}


def journal_error(path: Path, error: BaseException) -> JournalError:
    """Return what an error of SQLite or of the system means for a journal."""
    if isinstance(error, JournalError):
        return error
    name = getattr(error, "sqlite_errorname", "") or ""
    code, words = "broken", f"{type(error).__name__}"
    if name == "SQLITE_READONLY_DBMOVED":
        code, words = "moved", "it was moved or deleted while in use"
    elif name.startswith("SQLITE_CONSTRAINT") and "task_id" in str(error):
        code, words = "duplicate_task_id", "another job has this task id already"
    elif isinstance(error, OSError):
        code, words = "io", os.strerror(error.errno) if error.errno else type(error).__name__
    else:
        kind = "_".join(name.split("_")[:2])
        code, words = _REASONS.get(kind, (code, name or f"{type(error).__name__}: {error}"[:200]))
    return JournalError(f"the journal {path}: {words}", code=code, stage="journal")


def refuse_network(path: Path) -> None:
    """Raise `JournalError` for a path on a network file system, where SQLite's log cannot be trusted."""
    kind = file_system_of(path)
    if kind in _NETWORK:
        words = f"the journal {path} would be on a network file system ({kind}), where it cannot be kept safely"
        raise JournalError(words, code="network_filesystem", stage="journal")


def file_system_of(path: Path, mounts: str = "/proc/mounts") -> str:
    """Return the kind of file system that a path is on, or "" where the system does not tell."""
    try:
        table = Path(mounts).read_text("utf-8", "replace")
        place = str(path.parent.resolve())
    except OSError:
        return ""
    best, kind = "", ""
    for line in table.splitlines():
        parts = line.split()
        if len(parts) < 3:
            continue
        point = parts[1].replace("\\040", " ")
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, parts[2]
    return kind


SQLITE_ERRORS = (sqlite3.Error, OSError)
