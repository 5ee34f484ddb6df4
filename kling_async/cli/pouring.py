"""Asked-for data on stdout, as much of it as anybody reads."""

import json
import re
import sys
from collections.abc import Generator, Iterable
from typing import Any, BinaryIO

from kling_async.cli.codes import DONE, UNEXPECTED
from kling_async.cli.output import hush, json_line, talk
from kling_async.cli.words import one_line

STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal, turn the direction of a text, or are none."""


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


def plain_json(value: Any) -> bytes:
    """Return a value as one line of JSON that reads back exactly and steers no terminal."""
    line = json_line(value).decode("utf-8")
    return STEERS.sub(lambda found: json.dumps(found[0])[1:-1], line).encode()
