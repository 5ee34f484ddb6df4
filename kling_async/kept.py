"""What is remembered of a download beyond the end of its process, so that a later one can take it up."""

import json
from functools import cache
from pathlib import Path
from typing import Protocol, Self

from attrs import frozen


@frozen
class Kept:
    """How far a transfer had come when it stopped; what a later one needs to go on.

    Args:
        source: where the bytes came from, without the query.
        validator: the ETag that `If-Range` needs.
        total: the whole length, or None.
        boot: which start of the machine it was; bytes that were not synced may be lost by the next.
    """

    source: str
    validator: str
    total: int | None = None
    boot: str = ""

    @classmethod
    def read(cls, text: str) -> Self | None:
        """Return what was written as JSON; None where that is nothing of the kind."""
        try:
            read = cls(**json.loads(text))
        except (ValueError, TypeError):
            return None
        texts = (read.source, read.validator, read.boot)
        sound = all(isinstance(each, str) for each in texts) and type(read.total) in (int, type(None))
        return read if sound else None


class Keeper(Protocol):
    """Remembers a transfer beyond the end of this process."""

    kept: Kept | None

    async def keep(self, kept: Kept | None) -> None:
        """Remember durably how a transfer can be taken up again, or that it cannot be."""
        ...

    async def checked(self, size: int, sha256: str) -> None:
        """The part is whole and is a video; it gets its name next."""
        ...


@cache
def boot_id() -> str:
    """Return which start of the machine this is, or "" where the system does not tell."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except (OSError, ValueError):
        return ""
