"""Files on disk: names that are safe, a `.part` that belongs to one process, and the step that gives it its name."""

import contextlib
import errno
import hashlib
import os
import re
import stat
import unicodedata
from pathlib import Path
from typing import BinaryIO

_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def file_name(key: str, ending: str = ".mp4", longest: int = 100) -> str:
    """Return a safe file name for a key of ours: letters, digits and `._-`; changed keys get a hash to stay apart."""
    flat = unicodedata.normalize("NFKC", key)
    safe = re.sub(r"[^\w.\-]+", "-", flat, flags=re.ASCII).strip("-. ")[:longest]
    if not safe or safe != key or _RESERVED.fullmatch(safe):
        safe = f"{safe or 'video'}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return safe + ending


def part_of(target: Path) -> Path:
    """Return where a file is written before it is whole."""
    return target.with_name(f"{target.name}.part")


def is_missing(target: Path) -> bool:
    """Tell whether nothing stands at a path yet."""
    return not os.path.lexists(target)


def is_taken(target: Path) -> bool:
    """Tell whether a file stands at a path, or another program is about to put one there."""
    if not is_missing(target):
        return True
    try:
        with part_of(target).open("r+b") as part:
            _lock(part)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


def open_part(part: Path, *, keep: bool = False) -> BinaryIO:
    """Open a new `.part` for this process alone, or with `keep` the one that is there.

    A regular file that a crash has left is replaced, and so is one to keep that has another name elsewhere, which would
    be written through. One that another process writes, or anything but a file, is not touched. Raises `OSError`.
    """
    try:
        if not stat.S_ISREG(part.lstat().st_mode):
            raise OSError(errno.EEXIST, f"{part} is not a regular file")
        left = _claimed(part, os.O_RDWR)
    except FileNotFoundError:
        left = None
    if left is not None and keep and os.fstat(left.fileno()).st_nlink == 1:
        return left
    if left is not None:
        with left:
            part.unlink()
    return _claimed(part, os.O_RDWR | os.O_CREAT | os.O_EXCL)


def _claimed(part: Path, flags: int) -> BinaryIO:
    """Open a file and take it for this process; raises `OSError` where another one has it, or has replaced it."""
    file = os.fdopen(os.open(part, flags | getattr(os, "O_NOFOLLOW", 0), 0o644), "r+b")
    try:
        _lock(file)
        check_place(file, part)
    except BaseException:
        file.close()
        raise
    return file


def _lock(file: BinaryIO) -> None:
    """Take the file for this process, where the system can; raises `OSError` if another one has it."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def check_place(file: BinaryIO, part: Path) -> None:
    """Raise `OSError` where an open file is not the one that stands at a path any more."""
    ours, there = os.fstat(file.fileno()), part.lstat()
    if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
        raise OSError(errno.EBUSY, "another program took its place")


def discard(file: BinaryIO, part: Path) -> None:
    """Take an open file off the disk, if it can be, and if it is still the one that stands there."""
    with contextlib.suppress(OSError):
        check_place(file, part)
        part.unlink()


def measured(file: BinaryIO) -> tuple[int, str]:
    """Make a file durable and return its size and its SHA-256."""
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    found = _hash(file)
    return file.seek(0, os.SEEK_END), found


def _hash(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return _hash(file)


def publish(file: BinaryIO, part: Path, target: Path, *, overwrite: bool) -> None:
    """Make a file durable and give it its name, if it is still the one that stands there. Raises `OSError`."""
    file.flush()
    os.fsync(file.fileno())
    check_place(file, part)
    give_name(part, target, overwrite=overwrite)


def give_name(part: Path, target: Path, *, overwrite: bool) -> None:
    """Give a finished file its name in one step, durable where the directory can be read.

    Raises `OSError` where another file has that name.
    """
    if overwrite:
        part.replace(target)
    else:
        try:
            os.link(part, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if target.exists():
                raise FileExistsError(errno.EEXIST, "the file exists already", str(target)) from None
            part.rename(target)
    with contextlib.suppress(PermissionError):
        handle = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
