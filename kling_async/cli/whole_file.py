"""A file that appears under its name once it is whole and durable, or not at all."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kling_async.cli.codes import UNEXPECTED
from kling_async.cli.output import talk
from kling_async.cli.words import one_line
from kling_async.disk import give_name
from kling_async.errors import ConfigurationError


@contextlib.contextmanager
def whole_file(target: Path, *, force: bool) -> Iterator[BinaryIO]:
    """Open a file for its owner alone, which gets its name at the end of the block.

    Raises `ConfigurationError` where something stands there that may not be replaced, or no file can be made. What
    goes wrong later, like a full disk, is told and ends the program with code 1.
    """
    target = Path(os.path.realpath(target))  # a link stays, and what it leads to is replaced
    _check(target, force=force)
    try:
        handle, name = tempfile.mkstemp(prefix=".kling-export-", suffix=".part", dir=target.parent)
    except OSError as error:
        words = f"{target} cannot be written: {error.strerror}"
    else:
        words = ""
    if words:
        raise ConfigurationError(words, field="output")
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        give_name(part, target, overwrite=force)
    except OSError as error:
        talk(f"kling: {one_line(target)} cannot be written: {one_line(error.strerror or error)}")
        raise SystemExit(UNEXPECTED) from None
    finally:
        part.unlink(missing_ok=True)


def _check(target: Path, *, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if not target.is_file():
        raise ConfigurationError(f"{target} is no file that can be replaced", field="output")
    if not force:
        raise ConfigurationError(f"{target} exists already; --force replaces it", field="output")
