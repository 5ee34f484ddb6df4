"""The bytes of a job file: from a path, a pipe or stdin, bounded."""

import stat
import sys
from pathlib import Path
from typing import BinaryIO

from kling_async.cli.problems import InputError
from kling_async.cli.words import one_line

MOST_BYTES = 64 * 1024 * 1024
_CHUNK = 1024 * 1024


def read_source(name: str, limit: int = MOST_BYTES) -> bytes:
    """Return what the file holds; "-" is stdin.

    Raises:
        InputError: it cannot be read, or holds more than `limit` bytes.
    """
    try:
        if name == "-":
            if sys.stdin is None:
                raise InputError.about("file", "stdin is closed")
            return _bounded(sys.stdin.buffer, limit)
        path = Path(name)
        if stat.S_ISDIR(path.stat().st_mode):
            raise InputError.about("file", "is a directory; name a CSV or JSONL file")
        with path.open("rb") as file:
            return _bounded(file, limit)
    except OSError as error:
        raise InputError.about("file", f"cannot be read: {error.strerror or type(error).__name__}") from None
    except ValueError as error:  # a NUL in the name
        raise InputError.about("file", f"cannot be read: {one_line(error)}") from None


def _bounded(file: BinaryIO, limit: int) -> bytes:
    found = bytearray()
    while chunk := file.read(_CHUNK):
        found += chunk
        if len(found) > limit:
            raise InputError.about("file", f"is larger than {limit // 1024**2} MiB; split it")
    return bytes(found)
