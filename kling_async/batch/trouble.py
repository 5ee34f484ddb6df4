"""What SQLite and the disk complain of, as `JournalError`s that say what to do."""

import errno
import os
import re
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


_ERRNOS = {
    errno.ENOSPC: "full",
    errno.EDQUOT: "full",
    errno.EACCES: "read_only",
    errno.EPERM: "read_only",
    errno.EROFS: "read_only",
    errno.EISDIR: "cannot_open",
    errno.ENOENT: "cannot_open",
    errno.ENOTDIR: "cannot_open",
    errno.ELOOP: "cannot_open",
    errno.ENAMETOOLONG: "cannot_open",
}


def journal_error(path: Path, error: BaseException) -> JournalError:
    """Return what an error of SQLite or of the system means for a journal."""
    if isinstance(error, JournalError):
        return error
    name = _name(error)
    code, words = "broken", f"{type(error).__name__}"
    if name == "SQLITE_READONLY_DBMOVED":
        return moved(path)
    if name.startswith("SQLITE_CONSTRAINT") and "task_id" in str(error):
        code, words = "duplicate_task_id", "another job has this task id already"
    elif isinstance(error, OSError):
        code = _ERRNOS.get(error.errno or 0, "io")
        words = os.strerror(error.errno) if error.errno else type(error).__name__
    else:
        code, words = _REASONS.get(_kind(name), (code, name or f"{type(error).__name__}: {error}"[:200]))
    return JournalError(f"the journal {path}: {words}", code=code, stage="journal")


def mode_at(place: Path, journal: Path) -> int:
    """Return the mode of what stands at a place that a journal needs, 0 for nothing. Raises `JournalError`."""
    try:
        return place.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
    except OSError as error:
        raise journal_error(journal, error) from None
    except ValueError:  # a NUL, or half of a pair
        raise journal_error(journal, OSError(errno.EINVAL, "")) from None


def linked(path: Path) -> JournalError:
    """Return the error for a journal with a second name: whoever uses that has a log and a lock of his own."""
    words = (
        f"the journal {path} has a second name (a hard link); remove one of them, or each would send what is planned"
    )
    return JournalError(words, code="linked", stage="journal", charged="no")


def moved(path: Path) -> JournalError:
    """Return the error for a journal whose file is not where it was opened."""
    words = f"the journal {path} was moved or deleted while in use (with its log, {path.name}-wal)"
    return JournalError(words, code="moved", stage="journal")


def concerns_file(error: BaseException) -> bool:
    """Tell whether an error is the file's or the disk's, and not that of one change."""
    if isinstance(error, JournalError):
        return error.code == "moved"
    return isinstance(error, OSError) or _kind(_name(error)) in _REASONS


def _name(error: BaseException) -> str:
    return getattr(error, "sqlite_errorname", "") or ""


def _kind(name: str) -> str:
    return "_".join(name.split("_")[:2])


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
    except OSError:
        return ""
    place = str(Path(os.path.realpath(path)).parent)
    best, kind = "", ""
    for line in table.splitlines():
        parts = line.split()
        if len(parts) < 3:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), parts[1])
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind = point, parts[2]
    return kind
