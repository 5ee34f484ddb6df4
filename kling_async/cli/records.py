"""From text to records: CSV with any usual separator, or JSON lines. What is broken is named, not repaired."""

import csv
import json
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any

from attrs import fields, frozen

from kling_async.cli.problems import InputError, Problem
from kling_async.cli.words import count, one_line
from kling_async.requests import KINDS

SEPARATORS = ",;\t"
NO_YAML = "YAML, which is not read; write CSV, or one JSON object a line"
ADDED = ("error",)
"""Columns that a failures file adds to the input's own; they are not read."""
MOST_ROWS = 200_000
MOST_LINES = 4_000_000
MOST_COLUMNS = 256
LONGEST_LINE = 1024 * 1024
_ANY_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_YAML = re.compile(r"(---|%YAML\b|- |[\w-]+:(\s|$))")


@frozen
class Record:
    """One row: where it is, its values, and whether they are cells of text."""

    place: str
    number: int
    values: Mapping[str, Any]
    text: bool


def records(text: str, kind: str) -> Iterator[Record | Problem]:
    """Yield a `Record` or a `Problem` for each row. Raises `InputError` where the file as a whole makes no sense."""
    found = _csv_records(text) if kind == "csv" else _json_records(text)
    for number, item in enumerate(found):
        if number >= MOST_ROWS:
            raise InputError.about("file", f"has more than {MOST_ROWS:,} rows; split it")
        yield item


def kind_of(name: str, text: str) -> str:
    """Return "csv" or "jsonl", by the ending of the name, or by how the text begins. Raises `InputError` for YAML."""
    ending = name.lower().rpartition(".")[2] if "." in name else ""
    if ending in ("yaml", "yml"):
        raise InputError.about("file", f"is {NO_YAML}")
    if ending in ("csv", "tsv"):
        return "csv"
    if ending in ("jsonl", "ndjson"):
        return "jsonl"
    return "jsonl" if text.lstrip()[:1] in ("{", "[") else "csv"


def _csv_records(text: str) -> Iterator[Record | Problem]:
    rows = _csv_rows(text)
    header = next(rows, None)
    if header is None:
        raise InputError.about("file", "is empty")
    if isinstance(header, Problem):
        raise InputError.about("header", header.message)
    names = _columns(header, text)
    number = 0
    for row in rows:
        if isinstance(row, Problem):
            number += 1
            yield Problem(f"row {number}", "", row.message, row.code, number)
            continue
        if not any(cell.strip() for cell in row):
            continue
        number += 1
        if len(row) != len(names):
            what = f"has {count(len(row), 'cell')}, the header names {count(len(names), 'column')}"
            yield Problem(f"row {number}", "", what, row=number)
            continue
        yield _csv_record(number, names, row)


def _csv_record(number: int, names: list[str], row: list[str]) -> Record | Problem:
    for column, (name, cell) in enumerate(zip(names, row, strict=True), 1):
        if not name and cell.strip():
            return Problem(f"row {number}", f"column {column}", "has a value in a column without a name", row=number)
    cells = {name: cell for name, cell in zip(names, row, strict=True) if name}
    return Record(f"row {number}", number, cells, text=True)


def _csv_rows(text: str) -> Iterator[list[str] | Problem]:
    """Yield the rows as the csv module reads them, and a problem for each that it cannot read."""
    first = text.lstrip().partition("\n")[0]
    separator = max(SEPARATORS, key=first.count)
    reader = csv.reader(_csv_lines(text), delimiter=separator, strict=True)
    while True:
        begun = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Problem(f"line {begun}", "", f"line {begun}: {_csv_reason(str(error))}")
            continue
        if row:
            yield row


def _csv_lines(text: str) -> Iterator[str]:
    for number, line in enumerate(_lines(text, _ANY_LINE), 1):
        if len(line) > LONGEST_LINE:
            raise InputError.about(f"line {number}", f"is longer than {LONGEST_LINE:,} characters")
        yield line


def _lines(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield the lines with their ends, never all at once. Raises `InputError` for too many."""
    for number, found in enumerate(pattern.finditer(text)):
        if number >= MOST_LINES:
            raise InputError.about("file", f"has more than {MOST_LINES:,} lines; split it")
        yield found[0]


def _csv_reason(reason: str) -> str:
    if "unexpected end of data" in reason:
        return "a quote is opened and never closed"
    if "field larger than" in reason:
        return f"a cell is longer than {csv.field_size_limit():,} characters, or a quote is never closed"
    if "expected after" in reason:
        return "something stands between a closing quote and the separator"
    return one_line(reason)


@cache
def known_columns() -> tuple[str, ...]:
    """Return every name that a column may have."""
    names = {attribute.name for kind in KINDS.values() for attribute in fields(kind)}
    return tuple(sorted(names | {"type", "id", "key"}))


def _nearest(name: str, least: float = 0.6) -> str:
    """Return the known column that a name most likely means, or ""; `least` is how alike they must be."""
    return next(iter(get_close_matches(name.lower()[:60], known_columns(), n=1, cutoff=least)), "")


def _columns(header: list[str], text: str) -> list[str]:
    """Return the names of the columns. Raises `InputError` for those that nobody knows or that come twice."""
    if len(header) > MOST_COLUMNS:
        raise InputError.about("header", f"names {len(header):,} columns, more than {MOST_COLUMNS}")
    names = [name.strip() for name in header]
    if not any(name in known_columns() or _nearest(name, 0.75) for name in names):
        what = f"this looks like {NO_YAML}" if _YAML.match(text.lstrip()) else f"known are {', '.join(known_columns())}"
        raise InputError.about("header", f"names no known column; {what}")
    problems = []
    for number, name in enumerate(names):
        if name in names[:number] and name:
            problems.append(Problem("header", name, "is the name of two columns"))
        elif name and name not in (*known_columns(), *ADDED):
            near = _nearest(name)
            problems.append(Problem("header", name, f"unknown column{f'; did you mean {near!r}?' if near else ''}"))
    if problems:
        raise InputError(problems)
    return names


def _json_records(text: str) -> Iterator[Record | Problem]:
    for number, line in enumerate(_lines(text, _LINE), 1):
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            yield Record(place, number, _json_object(line.removesuffix("\n")), text=False)
        except _NotJsonError as error:
            yield Problem(place, "", str(error), row=number)


class _NotJsonError(Exception):
    """A line is not a JSON object."""


def _json_object(line: str) -> Mapping[str, Any]:
    if len(line) > LONGEST_LINE:
        raise _NotJsonError(f"is longer than {LONGEST_LINE:,} characters")
    try:
        found = json.loads(line, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise _NotJsonError(f"column {error.colno}: is not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise _NotJsonError("is not JSON that can be read: too deep, or a number too long") from None
    if not isinstance(found, dict):
        raise _NotJsonError('is not an object like {"prompt": "…"}; write one object a line')
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise _NotJsonError(f"names {one_line(repr(twice), 60)} twice")
    return found


def _constant(name: str) -> Any:
    raise _NotJsonError(f"holds {name}, which is not JSON")
