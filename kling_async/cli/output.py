"""Data on stdout, talk on stderr; neither ever stops a run because nobody reads it."""

import json
import os
import re
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from attrs import define, field

from kling_async.cli.events import Event, stamped
from kling_async.cli.words import one_line

STEERS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that steer a terminal, turn the direction of a text, or are none."""


def plain_json(value: Any) -> bytes:
    """Return a value as one line of JSON that reads back exactly and steers no terminal."""
    line = json_line(value).decode("utf-8")
    return STEERS.sub(lambda found: json.dumps(found[0])[1:-1], line).encode()


def json_line(value: Any) -> bytes:
    """Return a value as one line of JSON, through orjson where it is installed."""
    try:
        import orjson
    except ImportError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
    try:
        return orjson.dumps(value)
    except TypeError:  # half of a surrogate pair
        return json.dumps(value, separators=(",", ":")).encode()


@define
class Output:
    """What a run writes on stdout: JSON events, or the path of each finished file.

    Args:
        events: write events instead of paths.
        urls: the videos are not downloaded, so their URLs are the data.
        through: shows a line while a live screen owns the terminal, and tells whether it could; or None.
    """

    events: bool = False
    urls: bool = False
    through: Callable[[str], bool] | None = None
    broken: str = ""
    _gone: bool = field(default=False, init=False)

    def take(self, event: Event) -> None:
        """Write what the event has to tell."""
        if self.events:
            self.line(plain_json(event.to_dict()))
        elif event.kind == "downloaded" and event.file is not None:
            self.line(os.fsencode(event.file))
        elif event.kind == "succeeded" and self.urls and event.url is not None:
            self.line(event.url.encode())

    def tell(self, kind: str, **facts: Any) -> None:
        """Write an event that is about no job."""
        if self.events:
            self.line(plain_json({**stamped(kind), **facts}))

    def line(self, data: bytes) -> None:
        """Write one line at once; a reader that went away is no reason to stop."""
        if self._gone:
            return
        try:
            if self.through is None or not self.through(data.decode("utf-8", "backslashreplace")):
                out = _stdout()
                out.write(data + b"\n")
                out.flush()
        except BrokenPipeError:
            self._leave()
        except (OSError, ValueError) as error:
            self._leave()
            self.broken = f"stdout cannot be written: {one_line(getattr(error, 'strerror', None) or error)}"

    def _leave(self) -> None:
        self._gone = True
        hush(sys.stdout)


def _stdout() -> BinaryIO:
    if sys.stdout is None:
        raise OSError("it is closed")
    return sys.stdout.buffer


def hush(stream: Any) -> None:
    """Point a broken stream at nothing, so that the interpreter's last flush does not complain."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError, AttributeError):
        return


def talk(text: str) -> None:
    """Write a line for people on stderr; whether anybody reads it does not matter."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        hush(sys.stderr)
