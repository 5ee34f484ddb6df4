"""From a job file to jobs: every row is read and checked before anything else happens."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from attrs import define, evolve, field, frozen

from kling_async.batch.keys import slug
from kling_async.cli.decode import text_of
from kling_async.cli.problems import InputError, Problem
from kling_async.cli.records import ADDED, Record, kind_of, records
from kling_async.cli.source import read_source
from kling_async.cli.words import one_line
from kling_async.errors import InvalidRequestError
from kling_async.requests import Request
from kling_async.rows import request_from, row_key

MOST_KEPT = 10_000
"""Problems of one file that are kept; the rest is counted."""


@frozen
class Named:
    """What a line about a job needs: where it stands, and its name. Alone, a task whose id is the name."""

    row: int
    key: str


@frozen
class Job(Named):
    """One sound row: what it asks for, too.

    Args:
        named: whether the name is the row's own, and not one that follows from its place.
        values: the row as it stands in the file.
    """

    request: Request
    named: bool = False
    values: Mapping[str, Any] = field(factory=dict, repr=False, eq=False)


@frozen
class Reading:
    """What a job file holds: the jobs, what is wrong with the other rows, the number of rows, and a hash of it all.

    `unlisted` counts what is wrong beyond the problems that are kept.
    """

    jobs: tuple[Job, ...]
    problems: tuple[Problem, ...]
    rows: int
    content: bytes = b""
    unlisted: int = 0

    @property
    def bad_rows(self) -> int:
        """How many rows are not sound."""
        return self.rows - len(self.jobs)


def read_jobs(name: str, kind: str | None = None) -> Reading:
    """Read a job file, or stdin for "-". Raises `InputError` where the file as a whole cannot be read."""
    data = read_source(name)
    return evolve(jobs_in(data, name, kind), content=sha256(data).digest())


def jobs_in(data: bytes, name: str = "-", kind: str | None = None) -> Reading:
    """Return what is in the bytes of a job file. Raises `InputError` where they make no sense as a whole."""
    text = text_of(data)
    if not text.strip():
        raise InputError.about("file", "is empty")
    reader = _Reader()
    for item in records(text, kind or kind_of(name, text)):
        reader.take(item)
    if not reader.rows:
        raise InputError.about("file", "has no rows")
    return reader.reading()


def _asked(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a row without what a failures file adds to it, so that such a file runs as it is."""
    return {name: value for name, value in values.items() if name not in ADDED}


@define
class _Reader:
    rows: int = 0
    sound: list[tuple[Record, str | None, Request]] = field(factory=list)
    problems: list[Problem] = field(factory=list)
    found: int = 0
    names: dict[str, str] = field(factory=dict)

    def take(self, item: Record | Problem) -> None:
        """Check one row."""
        self.rows += 1
        if isinstance(item, Problem):
            self._note(item)
            return
        before = self.found
        name = self._name(item)
        try:
            request = request_from(_asked(item.values), text=item.text)
        except InvalidRequestError as error:
            self._wrong(item, error)
            return
        if self.found == before:
            self.sound.append((item, name, request))

    def _name(self, record: Record) -> str | None:
        try:
            name = row_key(record.values)
        except InvalidRequestError as error:
            self._wrong(record, error)
            return None
        name = name.strip() or None if name else None
        if name is not None:
            owner = self.names.setdefault(name, record.place)
            if owner != record.place:
                what = f"{one_line(repr(name), 60)} is the name of {owner} already"
                self._note(Problem(record.place, "id", what, row=record.number))
        return name

    def _wrong(self, record: Record, error: InvalidRequestError) -> None:
        for fault in error.faults:
            self._note(Problem(record.place, fault.field, fault.message, fault.code, record.number))

    def _note(self, problem: Problem) -> None:
        self.found += 1
        if len(self.problems) < MOST_KEPT:
            self.problems.append(problem)

    def reading(self) -> Reading:
        """Return everything, with a name for each job that has none."""
        width = max(3, len(str(max((record.number for record, _, _ in self.sound), default=0))))
        jobs = []
        for record, name, request in self.sound:
            key = name or self._free(record.number, width, request)
            jobs.append(Job(record.number, key, request, name is not None, _asked(record.values)))
        unlisted = self.found - len(self.problems)
        return Reading(tuple(jobs), tuple(self.problems), self.rows, unlisted=unlisted)

    def _free(self, number: int, width: int, request: Request) -> str:
        words = slug(request.prompt) or request.kind
        name = f"{number:0{width}}-{words}"
        while name in self.names:
            name += "x"
        self.names[name] = f"row {number}"
        return name
