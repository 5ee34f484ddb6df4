"""Words for people: one line each, without a character that could steer a terminal."""

import os
import shlex
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from shutil import which

from kling_async.errors import bounded

LONGEST = 300


def one_line(text: object, limit: int = LONGEST) -> str:
    """Return any text as one bounded line; control characters and direction marks are escaped."""
    return bounded(" ".join(str(text).split("\n")), limit)


def recordable(path: str) -> str:
    """Return the name of a file as a journal can hold it: bytes that are not UTF-8 are escaped."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def count(number: int, thing: str, things: str = "") -> str:
    """Return "1 job", "2 jobs", "1,200 jobs"."""
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def money(amount: Decimal, unit: str = "credits") -> str:
    """Return "6,200 credits"."""
    plain = f"{amount.normalize():,f}" if amount.is_finite() and abs(amount) < Decimal("1e18") else str(amount)
    return f"{plain} {unit}"


def span(seconds: float) -> str:
    """Return a time span: "4.1 s", "2 m 05 s", "3 h 12 m"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} m"


def program() -> str:
    """Return the command as the user can type it: `kling` where that is this one, else its path."""
    typed = Path(sys.argv[0])
    if typed.name not in ("kling", "kling-async") or not typed.is_file():
        return "kling"
    found = which(typed.name)
    if found is not None and Path(found).resolve() == typed.resolve():
        return typed.name
    return shlex.quote(one_line(typed))


def fetch_command(task_id: str) -> str:
    """Return the command that picks a task up; quoted where a shell would read its id otherwise."""
    return f"{program()} fetch {shlex.quote(one_line(task_id, 140))}"


def columns(rows: Iterable[Iterable[str]], *, right: Iterable[int] = (), gap: str = "   ") -> list[str]:
    """Return rows of cells as lines with aligned columns; the columns in `right` are flush right."""
    table = [list(row) for row in rows]
    flush = set(right)
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if number in flush else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(gap.join(cells).rstrip())
    return lines
