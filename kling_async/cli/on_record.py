"""A run on record: its journal, as the commands that only look at it see it."""

import json
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attrs import frozen

from kling_async.batch.batch import summary_of
from kling_async.batch.entry import Entry
from kling_async.batch.owner import driven_by
from kling_async.batch.reading import Facts, Reading
from kling_async.batch.summary import Summary
from kling_async.cli.store import Store
from kling_async.cli.words import one_line, program
from kling_async.errors import JournalError


@frozen
class Known:
    """What a journal says at this moment.

    Args:
        path: the journal.
        reading: reads more of it.
        facts, summary: what it says of itself and of its jobs.
        driver: the id of the process that drives it, or None.
    """

    path: Path
    reading: Reading
    facts: Facts
    summary: Summary
    driver: str | None

    @property
    def simulated(self) -> bool:
        """Whether its money is none."""
        return self.facts.options.get("sandbox") is True

    @property
    def downloads(self) -> bool:
        """Whether its videos are wanted on disk."""
        return self.facts.directory is not None and self.facts.options.get("download", True) is True

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON-ready data."""
        created = moment(self.facts.created)
        facts = {"created": stamp(created), "source": self.facts.source, "directory": self.facts.directory}
        told = {"run": self.path.stem, **self.summary.to_dict(), **facts, "sandbox": self.simulated}
        pid = int(self.driver) if self.driver is not None and self.driver.isdecimal() else self.driver
        return told | {"driven_by": pid, "stop": self.facts.stop}


@contextmanager
def known(path: Path) -> Iterator[Known]:
    """Open a journal. Raises `JournalError` where it cannot be read, or holds what makes no sense."""
    driver = driver_of(path)
    with Reading(path) as reading:
        try:
            facts, summary = reading.facts(), summary_of(reading)
        except (KeyError, ValueError):
            facts = None
        if facts is None or not isinstance(facts.options, Mapping):
            words = f"the journal {path} holds what no version writes; restore a copy, nothing was changed"
            raise JournalError(words, code="corrupt", stage="journal", charged="no")
        yield Known(path, reading, facts, summary, driver)


def driver_of(path: Path) -> str | None:
    """Return the id of the process that drives a journal, as one line, or None."""
    driver = driven_by(path)
    return None if driver is None else one_line(driver.get("pid", "unknown"), 40)


def command(verb: str, path: Path, store: str | None) -> str:
    """Return the command that does something with a run, as a shell takes it."""
    place = Store(store).directory
    here = path.parent == place
    name = path.stem if here else str(path)
    flag = f" --store {shlex.quote(one_line(store))}" if here and store else ""
    return f"{program()} {verb} {shlex.quote(one_line(name))}{flag}"


def moment(at: float | None) -> datetime | None:
    """Return a time of a journal, or None where it is none."""
    try:
        return None if at is None else datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def stamp(at: datetime | None) -> str | None:
    """Return a time as a line of JSON holds it."""
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def told_error(entry: Entry) -> tuple[str | None, str | None, str | None]:
    """Return the class, the code and the message of what went wrong with a job."""
    told = object_in(entry.error)
    error, code, message = (
        None if told.get(name) is None else str(told[name]) for name in ("error", "code", "message")
    )
    return error, code, message


def told_url(entry: Entry) -> str | None:
    """Return where the gateway keeps the video of a job, if it was made."""
    url = object_in(entry.video).get("url")
    return url if isinstance(url, str) else None


def object_in(text: str | None) -> Mapping[str, Any]:
    """Return an object that a journal holds as text; nothing for what is none."""
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        found = {}
    return found if isinstance(found, dict) else {}
