"""`kling runs`: every journal of the store, one line each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrs import frozen

from kling_async.cli.on_record import known
from kling_async.cli.output import plain_json, talk
from kling_async.cli.pouring import pour, text
from kling_async.cli.store import Store
from kling_async.cli.words import columns, money, one_line
from kling_async.errors import JournalError

_HEAD = ("run", "source", "gateway", "done", "failed", "in doubt", "spent", "driven by")


@frozen
class _Line:
    """One run: the cells of its line, or why it cannot be read; and the same as data."""

    facts: dict[str, Any]
    cells: tuple[str, ...] = ()
    problem: str = ""


def list_runs(store: str | None, *, as_json: bool) -> int:
    """Print the runs, the one that changed last first."""
    place = Store(store)
    found = [_line(path) for path in place.runs()]
    if as_json:
        runs = [line.facts for line in found]
        return pour([plain_json({"v": 1, "store": str(place.file or place.directory), "runs": runs})])
    if not found:
        talk(f"there is no run in {one_line(place.file or place.directory)}; start one with `kling run FILE`")
    return pour(map(text, _lines(found)))


def _lines(found: list[_Line]) -> Iterator[str]:
    sound = [line.cells for line in found if line.cells]
    if sound:
        yield from columns([_HEAD, *sound], right=(3, 4, 5, 6))
    for line in found:
        if line.problem:
            yield line.problem


def _line(path: Path) -> _Line:
    name = one_line(path.stem, 80)
    try:
        with known(path) as seen:
            summary, source = seen.summary, seen.facts.source
            cells = (
                name,
                "-" if source is None else "stdin" if source == "-" else one_line(Path(source).name, 60),
                one_line(summary.gateway, 40) + (" (sandbox)" if seen.simulated else ""),
                f"{summary.done:,}/{summary.total:,}",
                f"{summary.failed + summary.rejected:,}",
                f"{summary.in_doubt:,}",
                money(summary.spent, one_line(summary.unit, 20)),
                "-" if seen.driver is None else f"process {seen.driver}",
            )
            return _Line(seen.to_dict(), cells)
    except JournalError as error:
        facts = {"run": path.stem, "path": str(path), "problem": error.message, "code": error.code}
        return _Line(facts, problem=f"{name}   cannot be read: {one_line(error.message)}")
