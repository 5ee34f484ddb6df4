"""The bytes of a job file: from a path, a pipe or stdin, bounded in size and in time."""

import os
import queue
import select
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kling_async.cli.problems import InputError
from kling_async.cli.words import one_line

MOST_BYTES = 64 * 1024 * 1024
WRITER_SECONDS = 60.0
"""So long a named pipe that nobody has opened for writing is waited for."""
QUIET_SECONDS = 600.0
"""So long a pipe that somebody has may give nothing."""
_CHUNK = 1024 * 1024
_NOT_READ = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a disk"),
)
_MAY_BE_SILENT = ((stat.S_ISFIFO, "pipe"), (stat.S_ISSOCK, "socket"), (stat.S_ISCHR, "device"))


class UnreadableError(Exception):
    """A file that cannot be read, and why, in words."""


def read_source(name: str, limit: int = MOST_BYTES) -> bytes:
    """Return what the file holds; "-" is stdin.

    Raises:
        InputError: it cannot be read, gives nothing for too long, or holds more than `limit` bytes.
    """
    try:
        found = bytearray()
        for chunk in _stdin() if name == "-" else chunks_of(Path(name), limit):
            found += chunk
            if len(found) > limit:
                raise _too_large(limit)
    except UnreadableError as error:
        raise InputError.about("file", str(error)) from None
    return bytes(found)


def chunks_of(path: Path, limit: int = MOST_BYTES) -> Iterator[bytes]:
    """Yield what a file or a pipe holds. Raises `UnreadableError`, also for a plain file of more than `limit` bytes."""
    try:
        told = path.stat()
        for is_one, what in _NOT_READ:
            if is_one(told.st_mode):
                raise UnreadableError(f"is {what}, not a file")
        if stat.S_ISREG(told.st_mode) and told.st_size > limit:
            raise _too_large(limit)
        with _opened(path, pipe=stat.S_ISFIFO(told.st_mode)) as file:
            yield from _chunks(file)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror or type(error).__name__}") from None
    except ValueError as error:  # a NUL in the name
        raise UnreadableError(f"cannot be read: {one_line(error)}") from None


def _stdin() -> Iterator[bytes]:
    if sys.stdin is None:
        raise UnreadableError("stdin is closed")
    try:
        yield from _chunks(sys.stdin.buffer)
    except (OSError, ValueError) as error:
        raise UnreadableError(f"cannot be read: {one_line(getattr(error, 'strerror', None) or error)}") from None


def _too_large(limit: int) -> UnreadableError:
    return UnreadableError(f"is larger than {limit // 1024**2} MiB; split it")


def _opened(path: Path, *, pipe: bool) -> BinaryIO:
    """Open a file. To open a pipe that nobody writes to never ends, so a thread does it, which may be left behind."""
    if not pipe:
        return path.open("rb", buffering=0)
    found: queue.SimpleQueue[BinaryIO | OSError] = queue.SimpleQueue()

    def open_it() -> None:
        try:
            found.put(path.open("rb", buffering=0))
        except OSError as error:
            found.put(error)

    threading.Thread(target=open_it, name="kling-pipe", daemon=True).start()
    try:
        opened = found.get(timeout=WRITER_SECONDS)
    except queue.Empty:
        raise UnreadableError(f"is a pipe, and nobody opened its other end in {WRITER_SECONDS:g} s") from None
    if isinstance(opened, OSError):
        raise opened
    return opened


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while True:
        _wait_for(file)
        chunk = file.read1(_CHUNK) if hasattr(file, "read1") else file.read(_CHUNK)
        if not chunk:
            return
        yield chunk


def _wait_for(file: BinaryIO) -> None:
    """Wait until a pipe, a socket or a device has something to give, or is at its end.

    A terminal has a person at it, who can end it.
    """
    try:
        number = file.fileno()
        mode = os.fstat(number).st_mode
        kind = next((what for is_one, what in _MAY_BE_SILENT if is_one(mode) and not os.isatty(number)), "")
    except (OSError, ValueError):  # stdin in a test is no file
        return
    if kind and sys.platform != "win32" and not select.select([number], [], [], QUIET_SECONDS)[0]:
        raise UnreadableError(f"is a {kind} that gave nothing for {QUIET_SECONDS:g} s")
