"""Beside the videos: the rows that failed, in the file's own columns, and a JSON file for each video."""

import contextlib
import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kling_async.batch.entry import Entry
from kling_async.cli.words import one_line

_STEERS = ("=", "+", "-", "@", "\t", "\r")


def failure_file(directory: Path, run: str, source: str | None) -> Path:
    """Return where the rows of a run that failed are written: CSV, or JSON lines for JSON lines."""
    ending = "jsonl" if source and source.lower().endswith((".jsonl", ".ndjson")) else "csv"
    return directory / f"{run}.failures.{ending}"


def write_failures(path: Path, entries: Iterable[Entry]) -> int:
    """Write the rows that failed, with an `error` column; returns how many. A file that has none left is removed.

    What is in doubt is not among them: sent again, it could be paid for twice.
    """
    rows = [_row(entry) for entry in entries]
    if not rows:
        path.unlink(missing_ok=True)
        return 0
    text = _lines(rows) if path.suffix == ".jsonl" else _table(rows)
    _replace(path, text)
    return len(rows)


def _row(entry: Entry) -> dict[str, Any]:
    own: dict[str, Any] = json.loads(entry.input) if entry.input else json.loads(entry.request)
    if not entry.input:
        own["key"] = entry.key
    error = entry.problem()
    said = "" if error is None else f"{type(error).__name__} {error.code or ''}: {one_line(error.message)}"
    return {**own, "error": said}


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    names = list(dict.fromkeys(name for row in rows for name in row if name != "error"))
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")  # a cell is quoted where it holds one of these, and only then
    writer.writerow([*names, "error"])
    for row in rows:
        # The cells are the user's own and must read back as they were; only ours may be made harmless.
        writer.writerow([*(_cell(row.get(name)) for name in names), harmless(row["error"])])
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def harmless(text: str) -> str:
    """Return a cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_STEERS) else text


def write_sidecar(directory: Path, entry: Entry) -> None:
    """Write a JSON file beside a video: what was asked for, what it cost, and the file's hash."""
    video = entry.made()
    if entry.file is None or video is None:
        return
    path = directory / f"{entry.file}.json"
    facts = {
        "v": 1,
        "key": entry.key,
        "row": entry.row,
        "request": json.loads(entry.request),
        "gateway": entry.gateway,
        "video": {name: value for name, value in video.to_dict().items() if not name.endswith(("url", "urls"))},
        "file": entry.file,
        "size": entry.size,
        "sha256": entry.sha256,
    }
    _replace(path, f"{json.dumps(facts, ensure_ascii=False, indent=1)}\n")


def _replace(path: Path, text: str) -> None:
    """Write a file whole or not at all. What lies where it is prepared is left of a crash, or a trap: it is removed."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    try:
        with part.open("x", encoding="utf-8", errors="backslashreplace", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
