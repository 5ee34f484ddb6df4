"""`kling make`: one clip from the command line; local pictures are uploaded where the gateway takes uploads."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from attrs import evolve, frozen

from kling_async.batch.keys import slug
from kling_async.cli.codes import USAGE
from kling_async.cli.commands import look_of, made_directory, ready, setup_of
from kling_async.cli.drive import Order, drive
from kling_async.cli.output import talk
from kling_async.cli.places import is_directory, is_used
from kling_async.cli.reading import Job
from kling_async.cli.setup import Setup
from kling_async.cli.showing import is_terminal
from kling_async.cli.spending import agreed, priced
from kling_async.cli.words import one_line
from kling_async.errors import InvalidRequestError
from kling_async.gateways.protocol import Gateway
from kling_async.requests import Request
from kling_async.rows import request_from
from kling_async.session import KlingSession

PLACEHOLDER = "https://uploaded.example/"
"""Stands for a local file until it is uploaded, so that the request can be checked and priced before."""
MOST_BYTES = 50_000_000
_SLASHES = tuple(filter(None, (os.sep, os.altsep)))


@frozen
class _Local:
    """A local file that a request refers to."""

    url: str
    path: Path


def make_clip(given: Mapping[str, Any]) -> int:
    """Make one clip."""
    setup, look = setup_of(given), look_of(given)
    row, files = _row(given)
    request = request_from(row)
    target = _target(given["output"], given["prompt"])
    session = ready(setup)
    gateway = setup.adapter()
    _check(gateway, request, files)
    name = target.stem[:200] if target.stem.isprintable() else "clip"
    job = Job(1, name, request)  # a key has at most 200 characters
    if not _agreed(setup, request, yes=given["yes"]):
        return USAGE
    made_directory(str(target.parent))
    title = f"{setup.name}{' (sandbox)' if setup.sandbox else ''}   {one_line(given['prompt'], 60)}"

    async def prepare(session: KlingSession) -> Sequence[Job]:
        return [evolve(job, request=request_from(await _uploaded(session, row, files)))]

    prepared = prepare if files else None
    order = Order(jobs=[job], setup=setup, look=look, title=title, target=target, prepare=prepared, session=session)
    return drive(order)


def _agreed(setup: Setup, request: Request, *, yes: bool) -> bool:
    """Ask before real money is spent, if there is somebody to ask: the clip was named on the command line."""
    if setup.sandbox or yes or not (is_terminal(sys.stdin) and is_terminal(sys.stderr)):
        return True
    return agreed(priced(setup.adapter(), [request]), None, yes=False)


def _row(given: Mapping[str, Any]) -> tuple[dict[str, Any], list[_Local]]:
    """Return the flags as a row, in which local files have placeholders, and those files."""
    files: list[_Local] = []
    row: dict[str, Any] = {"type": _kind(given), "prompt": given["prompt"]}
    for name in ("duration", "aspect_ratio", "quality", "model"):
        if given[name] is not None:
            row[name] = given[name]
    if given["sound"]:
        row["sound"] = True
    for name in ("image", "end_image"):
        if given[name] is not None:
            row[name] = _media(given[name], files)
    if given["reference"]:
        row["images"] = [_media(each, files) for each in given["reference"]]
    if given["video"] is not None:
        row["video"] = given["video"]
    return row, files


def _kind(given: Mapping[str, Any]) -> str:
    if given["reference"]:
        return "reference-to-video"
    if given["video"] is not None:
        return "video-edit"
    return "image-to-video" if given["image"] is not None or given["end_image"] is not None else "text-to-video"


def _media(text: str, files: list[_Local]) -> str:
    """Return a URL as it is; a local file gets a placeholder. Raises `InvalidRequestError` for neither."""
    if "://" in text or text.startswith("data:"):
        return text
    path = Path(text)
    try:
        size = path.stat().st_size if path.is_file() else None
    except (OSError, ValueError):
        size = None
    if size is None:
        raise InvalidRequestError(f"{one_line(text)} is neither a URL nor a file", field="image", code="MISSING_IMAGE")
    if size > MOST_BYTES:
        raise InvalidRequestError(f"{one_line(text)} has {size:,} bytes, more than any gateway takes", field="image")
    files.append(_Local(f"{PLACEHOLDER}{len(files)}", path))
    return files[-1].url


def _target(output: str | None, prompt: str) -> Path:
    """Return the file to write; one that cannot be is an error before anything is paid (exit code 2)."""
    if output is not None and not output.strip():
        raise click.BadParameter("names no file.", param_hint="'-o'")
    target = Path(output or ".")
    if output is None or output.endswith(_SLASHES) or is_directory(target):
        return _free(target, slug(prompt) or "clip")
    if is_used(target):
        problem = "exists already"
    elif not is_directory(target.parent):
        problem = "is in a directory that does not exist"
    else:
        return target
    talk(f"kling: {one_line(output)} {problem}; nothing was sent")
    sys.exit(USAGE)


def _free(directory: Path, stem: str) -> Path:
    """Return a file of the directory that is not there yet."""
    target, number = directory / f"{stem}.mp4", 1
    while is_used(target):
        number += 1
        target = directory / f"{stem}-{number}.mp4"
    return target


def _check(gateway: Gateway, request: Any, files: Sequence[_Local]) -> None:
    """Raise what the gateway's adapter has against the request, and against uploads."""
    exchange = gateway.submit(request, "check")
    try:
        next(exchange)
    finally:
        exchange.close()
    if files and gateway.upload("check.png", "image/png", b"") is None:
        words = f"{gateway.name} takes no uploads; give the URL of a picture instead of {files[0].path.name}"
        raise InvalidRequestError(one_line(words), field="image", code="INVALID_PARAMETER")


async def _uploaded(session: KlingSession, row: Mapping[str, Any], files: Sequence[_Local]) -> dict[str, Any]:
    """Return the row with the URLs of the uploaded files."""
    urls = {file.url: await session.upload(file.path) for file in files}
    ready = {name: urls.get(value, value) for name, value in row.items() if isinstance(value, str)}
    images = {"images": [urls.get(each, each) for each in row["images"]]} if "images" in row else {}
    return {**row, **ready, **images}
