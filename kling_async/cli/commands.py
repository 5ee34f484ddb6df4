"""What `kling run` does before anything is sent: read, check, ask."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from shutil import disk_usage
from tempfile import NamedTemporaryFile
from typing import Any

import click
from attrs import evolve

from kling_async.batch.owner import refuse_driven
from kling_async.cli.checking import refusal
from kling_async.cli.codes import UNEXPECTED, USAGE
from kling_async.cli.intake import address_of, bounds_of, changed_rows, held_by, kept, planned, twin_of, unsent, unused
from kling_async.cli.on_record import command
from kling_async.cli.order import BatchOrder
from kling_async.cli.output import plain_json, talk
from kling_async.cli.places import is_used
from kling_async.cli.problems import InputError, Problem, problem_lines
from kling_async.cli.reading import Reading, read_jobs
from kling_async.cli.setup import Setup
from kling_async.cli.showing import Look
from kling_async.cli.spending import agreed, priced
from kling_async.cli.store import Store
from kling_async.cli.words import count, one_line, recordable
from kling_async.download import FREE_SPACE_KEPT
from kling_async.requests import Request
from kling_async.session import KlingSession


def setup_of(given: Mapping[str, Any]) -> Setup:
    """Return the flags about the session."""
    if given["sandbox"] and (given["base_url"] or given["api_key_file"]):
        raise click.UsageError("--sandbox has its own address and key; leave --base-url and --api-key-file out.")
    names = (
        *("gateway", "api_key_file", "base_url", "concurrency", "rate", "poll_min", "poll_max", "poll_first"),
        *("timeout", "submit_timeout", "allow_private_host", "sandbox"),
    )
    facts = {name: given[name] for name in names}
    return Setup(**facts, speed=given["sandbox_speed"], seed=given["sandbox_seed"])


def directory_of(given: Mapping[str, Any]) -> str:
    """Return the flag that names the directory for the videos."""
    name: str = given["output"]
    if not name.strip():
        raise click.BadParameter("names no directory.", param_hint="'-o'")
    return name


def look_of(given: Mapping[str, Any]) -> Look:
    """Return the flags about what is shown."""
    return Look(
        progress=given["progress"],
        color=given["color"],
        json=given["as_json"],
        quiet=given["quiet"],
        verbose=given["verbose"],
    )


def run_file(given: Mapping[str, Any]) -> int:
    """Read the file, ask, and make every row that is not made yet, on record."""
    from kling_async.cli.batch_drive import drive_batch

    output = directory_of(given)
    name, setup, look = given["file"], setup_of(given), look_of(given)
    bounds = bounds_of(given)
    reading = checked(name, given["kind"], look=look, skip=given["skip_invalid"])
    jobs = reading.jobs[: given["limit"]]
    if not jobs:
        talk(f"{one_line(name)} has no valid row; nothing was sent")
        return USAGE
    session = ready(setup)
    items = planned(jobs)
    store = Store(given["store"])
    address = "" if session is None else address_of(session.gateway, session.base_url)
    path = store.journal_for(name, setup.name, reading.content, sandbox=setup.sandbox, address=address)
    if given["fresh"]:
        path = unused(path)
    elif not is_used(path) and (twin := twin_of(store, reading.content, session)) is not None:
        talk(f"The same rows ran before, as {one_line(twin.stem)}; nothing was sent.")
        talk(f"  go on with it       {command('resume', twin, given['store'])}")
        talk("  make them again     add --fresh")
        return USAGE
    else:
        path = store.latest_for(path)
    refuse_driven(path)
    if changed := changed_rows(path, items):
        return _tell_changed(name, changed, look)
    left = unsent(path, items)
    tell_refused(setup, [item.request for item in left], look)
    bounds = kept(bounds, path)
    price = priced(setup.adapter(), [item.request for item in left])
    if left and not setup.sandbox and not agreed(price, bounds.budget, yes=given["yes"], held=held_by(path)):
        return USAGE
    store.prepare()
    directory = None if given["no_download"] else kept_directory(output)
    order = BatchOrder(
        path=path,
        setup=setup,
        look=look,
        bounds=bounds,
        directory=None if directory is None else Path(output),
        items=items,
        source=name if name == "-" else recordable(str(Path(name).resolve())),
        sidecar=given["sidecar"],
        store=given["store"],
        content=reading.content.hex(),
        left_out=reading.bad_rows,
        session=session,
    )
    return drive_batch(order)


def _tell_changed(name: str, changed: Sequence[Problem], look: Look) -> int:
    rows = count(len(changed), "row asks", "rows ask")
    _list(f"{one_line(name)} cannot run: {rows} for something else than was sent under that name", changed, look)
    talk("\n  Give what is new a name of its own. A row that failed is mended in the file of failures.")
    return USAGE


def checked(name: str, kind: str | None, *, look: Look, skip: bool = False) -> Reading:
    """Read a file whole; what is wrong is listed, and unless it may be skipped nothing goes on (exit code 2)."""
    shown = "stdin" if name == "-" else one_line(name)
    try:
        reading = read_jobs(name, kind)
    except InputError as error:
        _list(f"{shown} cannot be read, nothing was sent", error.problems, look)
        sys.exit(USAGE)
    if not reading.problems:
        return reading
    bad = count(reading.bad_rows, "row is", "rows are")
    if skip:
        _list(f"{shown}: {bad} not valid and left out", reading.problems, look, reading.unlisted)
        return reading
    _list(f"{shown} cannot run: {bad} not valid, nothing was sent", reading.problems, look, reading.unlisted)
    if reading.jobs:
        talk(f"\n  Go on with the {count(len(reading.jobs), 'good row')}: add --skip-invalid")
    sys.exit(USAGE)


def _list(headline: str, problems: Sequence[Problem], look: Look, unlisted: int = 0) -> None:
    talk(headline)
    talk("")
    for line in problem_lines(problems, unlisted):
        talk(line)
    if look.json:
        from kling_async.cli.output import Output

        output = Output(events=True)
        for each in problems:
            facts = {"row": each.row, "place": each.place, "field": each.field, "code": each.code}
            output.tell("invalid", **facts, message=one_line(each.message))


def ready(setup: Setup) -> KlingSession | None:
    """Return the session, not entered; None for a sandbox, whose address is not known yet.

    Raises `ConfigurationError`: no key, no such gateway, a wrong flag.
    """
    if not setup.sandbox:
        return setup.session()
    evolve(setup, base_url="http://127.0.0.1").session()
    return None


def tell_refused(setup: Setup, requests: Sequence[Request], look: Look) -> None:
    """Say how many requests the gateway will refuse before anything is sent for them."""
    gateway = setup.adapter()
    bad = sum(1 for request in requests if refusal(gateway, request))
    if bad and not look.quiet:
        fail = (
            "it will fail before it is sent, and costs" if bad == 1 else "they will fail before they are sent, and cost"
        )
        rows = count(len(requests), "row")
        talk(f"{setup.name} cannot make {bad:,} of {rows}: {fail} nothing; `kling plan` names why")


def kept_directory(name: str) -> Path:
    """Return the directory for the videos of a run on record, made if need be."""
    place = str(Path(name).absolute())
    if recordable(place) != place:
        raise click.BadParameter(f"{one_line(place)} is not UTF-8, so no journal can hold it.", param_hint="'-o'")
    return made_directory(name)


def made_directory(name: str) -> Path:
    """Return the directory for the videos, made if need be; one that takes no file ends all (exit code 2)."""
    directory = Path(name)
    what = "made"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        what = "written to"
        with NamedTemporaryFile(dir=directory, prefix=".kling-") as file:  # what is paid for must have a place
            file.write(b"0")
            file.flush()
        free = disk_usage(directory).free
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        talk(f"kling: the directory {one_line(name)} cannot be {what}: {reason}; nothing was sent")
        sys.exit(USAGE)
    if free <= FREE_SPACE_KEPT:
        room = f"{free:,} bytes are free, and downloads leave {FREE_SPACE_KEPT:,} free"
        talk(f"kling: the disk of {one_line(name)} has no room: {room}; nothing was sent")
        sys.exit(USAGE)
    return directory


def print_json(value: Any) -> None:
    """Write one JSON document on stdout."""
    _print([plain_json(value)])


def print_lines(lines: Sequence[str]) -> None:
    """Write lines of text on stdout."""
    _print([line.encode("utf-8", "backslashreplace") for line in lines])


def _print(lines: Sequence[bytes]) -> None:
    from kling_async.cli.output import Output

    output = Output()
    for line in lines:
        output.line(line)
    if output.broken:
        talk(output.broken)
        sys.exit(UNEXPECTED)
