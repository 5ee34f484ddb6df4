"""`kling export`: every job of a run as a line of JSON or of a table, in order, a page at a time."""

import csv
import io
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from kling_async.batch.amounts import amount_of
from kling_async.batch.entry import Entry
from kling_async.batch.outcomes import STATUS
from kling_async.batch.states import State
from kling_async.cli.codes import DONE
from kling_async.cli.on_record import Known, known, told_error, told_url
from kling_async.cli.output import STEERS, plain_json, talk
from kling_async.cli.pouring import pour
from kling_async.cli.store import Store
from kling_async.cli.whole_file import whole_file
from kling_async.cli.words import count, one_line

COLUMNS = (
    *("key", "status", "task_id", "url", "file", "credits", "charged", "error", "code", "message"),
    "row",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def export_run(run: str | None, store: str | None, *, output: str | None, kind: str | None, force: bool) -> int:
    """Write every job to stdout, or to a file that appears once it is whole."""
    path = Store(store).find(run)
    target = None if output in (None, "-") else Path(str(output))
    table = kind == "csv" if kind else target is not None and target.suffix.lower() == ".csv"
    with known(path) as seen:
        lines = _table(seen) if table else _objects(seen)
        if target is None:
            return pour(lines)
        with closing(lines), whole_file(target, force=force) as file:
            for line in lines:
                file.write(line + b"\n")
        talk(f"{count(seen.summary.total, 'job')} in {one_line(target)}")
    return DONE


def _objects(seen: Known) -> Generator[bytes, None, None]:
    yield from map(plain_json, _rows(seen))


_END = "\r\n"
"""A cell is quoted where it holds one of these, and only then."""


def _table(seen: Known) -> Generator[bytes, None, None]:
    yield ",".join(COLUMNS).encode()
    line = io.StringIO()
    writer = csv.writer(line, lineterminator=_END)
    for row in _rows(seen):
        writer.writerow([_cell(row[name]) for name in COLUMNS])
        yield line.getvalue().removesuffix(_END).encode()
        line.seek(0)
        line.truncate()


def _rows(seen: Known) -> Iterator[dict[str, Any]]:
    directory = None if seen.facts.directory is None else Path(seen.facts.directory)
    for entry in seen.reading.each(State):
        yield _row(entry, directory)


def _row(entry: Entry, directory: Path | None) -> dict[str, Any]:
    error, code, message = told_error(entry)
    file = None if entry.file is None or directory is None else str(directory / entry.file)
    return {
        "key": entry.key,
        "status": str(STATUS[entry.state]),
        "task_id": entry.task_id,
        "url": told_url(entry),
        "file": file if entry.state is State.DOWNLOADED else None,
        "credits": _credits(entry),
        "charged": entry.charged,
        "error": error,
        "code": code,
        "message": message,
        "row": entry.row,
    }


def _credits(entry: Entry) -> str | None:
    """Return what the gateway says was charged, over all attempts; None where it never said."""
    if entry.spent:
        return f"{amount_of(entry.spent):f}"
    return "0" if entry.charged == "no" and not entry.doubted else None


def _cell(value: Any) -> str:
    """Return a cell that no spreadsheet takes for a formula, and that steers no terminal."""
    if value is None:
        return ""
    text = str(value)
    plain = STEERS.sub(lambda found: ascii(found[0])[1:-1], text)
    return f"'{plain}" if text.startswith(_FORMULA) else plain
