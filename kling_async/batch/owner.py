"""One owner at a time: a lock beside the journal that names who has it, and holds some disk space back."""

import contextlib
import errno
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any
from weakref import WeakSet

from kling_async.errors import JournalError

SPARE = 4 * 1024 * 1024
"""Bytes of the lock file that are given up when the disk is full, so that paid task ids still find room.

An id takes some 33 KiB of SQLite's log, if it is committed alone; 64 requests may be under way at once.
"""
TOLD = 4096
"""Bytes of it that say who has the lock."""
_OURS = os.O_CLOEXEC | getattr(os, "O_NOFOLLOW", 0)
"""How lock files are opened: a link at that place leads to a file of somebody else's."""
_TRIES = 8
_PAUSE = 0.05


class Owner:
    """The lock on one journal, held until `release` or the end of the process, however it ends.

    Raises `JournalError` (locked) that names who has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = lock_path(path)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | _OURS, 0o600)
        if not _taken(self._file):
            os.close(self._file)
            raise _refusal(path, told_by(self.path))
        self.had_rows = bool(told_by(self.path).get("rows"))
        _held.add(self)
        try:
            self._keep_spare()
            self._tell(rows=self.had_rows)
        except OSError:
            self.release()
            raise

    def _tell(self, *, rows: bool) -> None:
        known = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.time(),
            "command": Path(sys.argv[0]).name[:200],  # its arguments may hold a secret
            "rows": rows,
        }
        line = json.dumps(known).encode() + b"\n"
        os.pwrite(self._file, line.ljust(TOLD, b" "), 0)

    def _keep_spare(self) -> None:
        missing = SPARE - os.fstat(self._file).st_size
        if missing > 0 and os.pwrite(self._file, b" " * missing, SPARE - missing) < missing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def has_rows(self) -> None:
        """Note that the journal holds something, so that an empty file is later known to be a loss."""
        if not self.had_rows:
            with contextlib.suppress(OSError):  # what was added is durable all the same
                self._tell(rows=True)
                self.had_rows = True

    def make_room(self) -> None:
        """Give the spare space back to the disk."""
        os.ftruncate(self._file, TOLD)

    def release(self) -> None:
        """Let another process have the journal. Doing it twice is doing it once."""
        if self._file >= 0:
            with contextlib.suppress(OSError):
                self.make_room()
            self.drop()

    def drop(self) -> None:
        """Close the file, and leave it as it is."""
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)


_held: "WeakSet[Owner]" = WeakSet()


def _let_go() -> None:
    """Drop a forked child's share in its parent's locks: they end with the parent, not with its last child."""
    for owner in list(_held):
        owner.drop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def lock_path(path: Path) -> Path:
    """Return the lock file of a journal: one, by whatever link it is reached."""
    real = Path(os.path.realpath(path))
    return real.with_name(f"{real.name}.lock")


def told_by(path: Path) -> dict[str, Any]:
    """Return what a lock file says of its owner, or nothing."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.readline(TOLD))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def driven_by(path: Path) -> dict[str, Any] | None:
    """Return who drives a journal at this moment, or None."""
    lock = lock_path(path)
    try:
        file = os.open(lock, os.O_RDWR | _OURS)
    except OSError:
        return None
    try:
        return None if _is_free(file) else told_by(lock)
    finally:
        os.close(file)


def refuse_driven(path: Path) -> None:
    """Raise `JournalError` (locked) if a process drives a journal at this moment."""
    known = driven_by(path)
    if known is not None:
        raise _refusal(path, known)


def _refusal(path: Path, known: dict[str, Any]) -> JournalError:
    here = known.get("host") in (None, socket.gethostname())
    where = "" if here else f" on {known.get('host')}"
    command = f" ({known['command']})" if known.get("command") else ""
    words = f"{path} is driven by process {known.get('pid', 'unknown')}{where}{command}"
    return JournalError(words, code="locked", stage="journal", charged="no")


def _taken(file: int, tries: int = _TRIES) -> bool:
    """Take the lock; False if another process has it. Someone who only asks holds it for a moment."""
    for number in range(tries):
        if number:
            time.sleep(_PAUSE)
        try:
            _lock(file)
        except OSError:
            continue
        return True
    return False


def _is_free(file: int) -> bool:
    """Tell whether nobody has the lock. Those who only ask are not in each other's way."""
    try:
        if sys.platform == "win32":
            _lock(file)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _lock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
