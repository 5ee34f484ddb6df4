"""`kling watch`: what happens in a run that another process drives. It only reads."""

import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from kling_async.batch.amounts import amount_of
from kling_async.batch.reading import Happening
from kling_async.batch.states import State, Step
from kling_async.cli.codes import INTERRUPTED
from kling_async.cli.events import VERSION, stamped
from kling_async.cli.on_record import Known, driver_of, known, moment, stamp, told_error, told_url
from kling_async.cli.output import plain_json, talk
from kling_async.cli.pouring import pour, text
from kling_async.cli.status import PAID, counts_in_words
from kling_async.cli.store import Store
from kling_async.cli.words import money, one_line

PAUSE = 0.25
"""Seconds between looks at the journal."""
DRIVER_SECONDS = 1.0
"""Seconds between looks at who drives it."""
TOTAL_SECONDS = 30.0
"""Seconds between lines that say where the run stands."""

_WORDS = {
    Step.ACCEPTED: "accepted",
    Step.SUCCEEDED: "made",
    Step.DOWNLOADED: "done",
    Step.FAILED: "failed",
    Step.REJECTED: "failed",
    Step.LOST: "in doubt",
    Step.UNFETCHED: "not downloaded",
    Step.RETRIED: "again",
}
"""What people are told of; the other steps are only in the JSON events."""
_BAD = (Step.FAILED, Step.REJECTED, Step.LOST, Step.UNFETCHED)


def watch_run(run: str | None, store: str | None, *, as_json: bool) -> int:
    """Follow a run until no process drives it any more."""
    path = Store(store).find(run)
    try:
        return pour(_events(path) if as_json else _lines(path), at_once=True)
    except KeyboardInterrupt:
        talk("This watcher has left; the run itself was not touched.")
        return INTERRUPTED


def _lines(path: Path) -> Generator[bytes, None, None]:
    with known(path) as seen:
        yield text(f"{one_line(path.stem, 80)}   {_total(seen)}")
        said = time.monotonic()
        for happening in _happenings(seen):
            if happening is not None and happening.step in _WORDS:
                yield text(_line(happening, seen.facts.directory))
            if time.monotonic() - said > TOTAL_SECONDS:
                said = time.monotonic()
                with known(path) as now:
                    yield text(_total(now))
    with known(path) as seen:
        yield text(f"{one_line(path.stem, 80)}   {_total(seen)}; no process drives it")


def _events(path: Path) -> Generator[bytes, None, None]:
    with known(path) as seen:
        yield plain_json({**stamped("watching"), **seen.to_dict()})
        for happening in _happenings(seen):
            if happening is not None and happening.step is not Step.FETCHING:
                yield plain_json(_event(happening, seen.facts.directory))
    with known(path) as seen:
        yield plain_json({**stamped("summary"), **seen.to_dict()})


def _happenings(seen: Known) -> Iterator[Happening | None]:
    """Yield what happens from now on, and None with each pause, until nobody drives the run and all is told."""
    last, asked = seen.reading.newest(), time.monotonic()
    driven = seen.driver is not None
    while True:
        some = seen.reading.happened(last)
        for happening in some:
            last = happening.seq
            yield happening
        if some:
            continue
        if not driven:
            return
        yield None
        time.sleep(PAUSE)
        if time.monotonic() - asked > DRIVER_SECONDS:
            asked = time.monotonic()
            driven = driver_of(seen.path) is not None


def _total(seen: Known) -> str:
    return f"{counts_in_words(seen)}, {money(seen.summary.spent, one_line(seen.summary.unit, 20))} spent"


def _line(happening: Happening, directory: str | None) -> str:
    entry, step = happening.entry, happening.step
    at = moment(happening.at)
    parts = ["--:--:--" if at is None else f"{at.astimezone():%H:%M:%S}", _WORDS[step]]
    parts += [f"row {entry.row}"] if entry.row is not None else []
    parts.append(one_line(entry.key, 80))
    told = _facts(happening, directory)
    if step in _BAD and "error" in told:
        paid = PAID.get(entry.charged or "", "")
        code = one_line(told.get("code") or told["error"], 60)
        parts.append(f"{code}: {one_line(told.get('message', ''))}{f' ({paid})' if paid else ''}")
    elif "file" in told:
        parts.append(one_line(told["file"]))
    elif "credits" in told:
        parts.append(f"{told['credits']} spent")
    elif step is Step.ACCEPTED and "task_id" in told:
        parts.append(f"task {one_line(told['task_id'], 140)}")
    return "   ".join(parts)


def _event(happening: Happening, directory: str | None) -> dict[str, Any]:
    entry = happening.entry
    told = {"v": VERSION, "t": stamp(moment(happening.at)), "event": str(happening.step), "key": entry.key}
    return told | {"row": entry.row, "attempt": happening.attempt} | _facts(happening, directory)


def _facts(happening: Happening, directory: str | None) -> dict[str, Any]:
    """Return what belongs to an event, of a job that may have gone on since."""
    entry, step = happening.entry, happening.step
    if happening.attempt != entry.attempt:
        return {}
    told: dict[str, Any] = {"task_id": happening.detail if step is Step.ACCEPTED else None}
    if step is Step.SUCCEEDED:
        told |= {"task_id": entry.task_id, "charged": entry.charged, "url": told_url(entry)}
        told["credits"] = f"{amount_of(entry.spent):f}" if entry.spent else None
    elif step is Step.DOWNLOADED and directory is not None and entry.file is not None:
        told |= {"task_id": entry.task_id, "file": str(Path(directory) / entry.file)}
    elif step in _BAD and (step is not Step.UNFETCHED or entry.state is State.SUCCEEDED):
        error, code, message = told_error(entry)
        told |= {"task_id": entry.task_id, "charged": entry.charged, "error": error, "code": code, "message": message}
    return {name: value for name, value in told.items() if value is not None}
