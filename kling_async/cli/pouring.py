"""Asked-for data on stdout, as much of it as anybody reads."""

import sys
from collections.abc import Generator, Iterable
from typing import BinaryIO

from kling_async.cli.codes import DONE, UNEXPECTED
from kling_async.cli.output import hush, talk
from kling_async.cli.words import one_line


def pour(lines: Iterable[bytes], *, at_once: bool = False) -> int:
    """Write lines on stdout until they end, or until their reader leaves; returns the exit code.

    Args:
        lines: each without its end. A generator is closed.
        at_once: let the reader have each line as it comes.
    """
    try:
        for line in lines:
            _write(line + b"\n", flush=at_once)
        _write(b"", flush=True)
    except _LeftError as left:
        hush(sys.stdout)
        if left.args:
            talk(f"stdout cannot be written: {left}")
            return UNEXPECTED
    finally:
        if isinstance(lines, Generator):
            lines.close()
    return DONE


class _LeftError(Exception):
    """Nobody reads any more, or, with a reason, nobody can."""


def _write(data: bytes, *, flush: bool) -> None:
    try:
        out = _stdout()
        out.write(data)
        if flush:
            out.flush()
    except BrokenPipeError:
        raise _LeftError from None
    except (OSError, ValueError) as error:
        raise _LeftError(one_line(getattr(error, "strerror", None) or error)) from None


def _stdout() -> BinaryIO:
    if sys.stdout is None:
        raise OSError("it is closed")
    return sys.stdout.buffer


def text(line: str) -> bytes:
    """Return a line of text for stdout."""
    return line.encode("utf-8", "backslashreplace")
