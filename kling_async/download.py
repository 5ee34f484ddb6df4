"""From a URL that a stranger chose to a file that plays: guarded, bounded, resumed, checked, then renamed."""

import asyncio
import contextlib
import io
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from random import random
from typing import BinaryIO
from urllib.parse import urljoin

from attrs import define, field

from kling_async import failpoints
from kling_async.addresses import allows, checked_url
from kling_async.bell import in_thread
from kling_async.disk import discard, file_name, is_missing, measured, open_part, part_of, publish
from kling_async.errors import AuthenticationError, DownloadError, PermissionDeniedError
from kling_async.flow.backoff import backoff
from kling_async.kept import Keeper, Kept, boot_id
from kling_async.mp4 import problem_with
from kling_async.network import Fetched, Transport
from kling_async.results import Video
from kling_async.settings import DownloadPolicy, RetryPolicy
from kling_async.traces import unsigned

FREE_SPACE_KEPT = 16 * 1024 * 1024
WRITE_SIZE = 1024 * 1024
PROGRESS = 64 * 1024

_PASSING = (408, 412, 416, 425, 429)
"""Refusals (4xx) that say nothing of the URL; of all others a fresh one may be the cure."""
_REDIRECTS = (301, 302, 303, 307, 308)


def _error(code: str, message: str, **known: object) -> DownloadError:
    return DownloadError(message, code=code, stage="download", **known)  # type: ignore[arg-type]


class _BrokenError(Exception):
    """The transfer broke and may be taken up again."""

    def __init__(self, error: DownloadError) -> None:
        super().__init__(error.message)
        self.error = error


class _GoneError(Exception):
    """The URL does not work any more."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@define
class _Transfer:
    """How far a file has come.

    Args:
        file: the open `.part` file.
        directory: where it is.
        size: bytes written.
        source: where the bytes came from, without the query; another place's file is another file.
        validator: the ETag that `If-Range` needs, or None.
        total: the whole length the server announced, or None.
        refused: whether the host has answered a range with an error since it sent something.
    """

    file: BinaryIO
    directory: Path
    size: int = 0
    source: str = ""
    validator: str | None = None
    total: int | None = None
    refused: bool = False

    def take_up(self, kept: Kept) -> None:
        """Go on where an earlier process stopped."""
        self.size = self.file.seek(0, io.SEEK_END)
        self.source, self.total = kept.source, kept.total
        self.validator = kept.validator if _TAG.fullmatch(kept.validator) else None
        if self.total is not None and self.size > self.total:
            self.restart()

    def kept(self) -> Kept | None:
        """Return what a later process needs to go on; None where it has to begin anew."""
        return None if self.validator is None else Kept(self.source, self.validator, self.total, boot_id())

    @property
    def whole(self) -> bool:
        """Whether every byte the server announced is there."""
        return self.total is not None and self.size == self.total

    def restart(self) -> None:
        """Forget what was written."""
        self.go_back(0)
        self.validator = self.total = None

    def go_back(self, size: int) -> None:
        """Forget what was written beyond so many bytes."""
        self.file.seek(size)
        self.file.truncate()
        self.size = size


@define
class Download:
    """Fetches one video.

    Args:
        transport: opens the connections.
        policy: limits.
        retry: how often a broken transfer is taken up again.
        base_url: the gateway, whose host and port are allowed.
        refresh: asks the gateway for the video again.
        keeper: remembers a broken transfer, so that a later call takes it up; without one its bytes are deleted.
        clean: masks what an error must not hold: it may quote what came instead of a video.
        betrays: tells whether a text holds what must not be kept.
    """

    transport: Transport
    policy: DownloadPolicy
    retry: RetryPolicy
    base_url: str
    refresh: Callable[[], Awaitable[Video | None]]
    keeper: Keeper | None = None
    clean: Callable[[DownloadError], DownloadError] = lambda error: error
    betrays: Callable[[str], bool] = lambda text: False
    _failures: int = field(default=0, init=False)
    _farthest: int = field(default=0, init=False)

    def target(self, video: Video, path: Path, *, overwrite: bool) -> Path:
        """Return the file to write. Raises `DownloadError` (disk) where it may not be written."""
        try:
            return self._target(video, path, overwrite=overwrite)
        except (OSError, ValueError) as error:
            problem = f"the path cannot be used: {type(error).__name__}"
        raise _error("disk", problem, task_id=video.task_id)

    def _target(self, video: Video, path: Path, *, overwrite: bool) -> Path:
        if b"\0" in os.fsencode(path):
            raise ValueError("a path holds no NUL")
        target = path / file_name(video.task_id) if path.is_dir() else path
        if not target.parent.is_dir():
            raise _error("disk", f"there is no directory {target.parent}", task_id=video.task_id)
        if target.is_symlink() or (target.exists() and not (overwrite and target.is_file())):
            raise _error("disk", f"{target} exists already; overwrite=True replaces it", task_id=video.task_id)
        return target.parent.resolve() / target.name

    async def run(self, video: Video, target: Path, *, overwrite: bool) -> Path:
        """Fetch the video into `target`; the file appears there only when it is whole."""
        part = part_of(target)
        failure: DownloadError | None = None
        try:
            with open_part(part, keep=self.keeper is not None and self.keeper.kept is not None) as file:
                transfer = _Transfer(file, target.parent)
                try:
                    await self._bring(video, transfer, partial(publish, file, part, target, overwrite=overwrite))
                except DownloadError as error:
                    failure = self.clean(error.evolve(message=unsigned(error.message)))
                except OSError as error:
                    failure = disk_error(error, target)
                finally:
                    if not (is_missing(target) and self._worth_keeping(transfer, failure)):
                        discard(file, part)
        except OSError as error:
            failure = failure or disk_error(error, part)
        if failure is not None:
            raise failure.evolve(task_id=video.task_id)
        return target

    async def _bring(self, video: Video, transfer: _Transfer, give: Callable[[], None]) -> None:
        """Fetch the video, see that it is one, and give it its name."""
        if self.keeper is not None and self.keeper.kept is not None:
            transfer.take_up(self.keeper.kept)
        await self._fetch_whole(video, transfer)
        if self.keeper is not None:
            await self.keeper.checked(*await in_thread(measured, transfer.file))
            failpoints.reach("download.checked")
        await in_thread(give)
        failpoints.reach("download.renamed")

    def _worth_keeping(self, transfer: _Transfer, failure: DownloadError | None) -> bool:
        """Tell whether a later call can go on with what is there."""
        if self.keeper is None or not transfer.size or not transfer.validator:
            return False
        return failure is None or failure.code in ("network", "disk", "too_slow", "expired")

    async def _fetch_whole(self, video: Video, transfer: _Transfer) -> None:
        """Fetch until the file is whole, taking broken transfers up and renewing an expired URL once."""
        url, renewed = video.url, False
        while not transfer.whole:
            try:
                await self._fetch(url, transfer)
            except _GoneError as gone:
                status = gone.status
            except _BrokenError as broken:
                await self._pause(broken.error, transfer.size)
                continue
            else:
                break
            try:
                fresh = None if renewed else await self.refresh()
            except DownloadError as missed:
                if missed.code != "network" or isinstance(missed.cause, (AuthenticationError, PermissionDeniedError)):
                    raise
                await self._pause(missed, transfer.size)  # a missed look: the old URL is no better, and asks again
                continue
            renewed = True
            if fresh is None:
                raise _error("expired", f"the video's URL answers HTTP {status}", http_status=status)
            url = fresh.url
            transfer.restart()
        problem = await in_thread(problem_with, transfer.file, transfer.size)
        if problem is not None:
            raise _error("not_a_video", problem)

    async def _pause(self, error: DownloadError, size: int) -> None:
        """Wait before the next pass; only one that came a good deal further than any before it is progress."""
        moved = size >= self._farthest + PROGRESS
        self._farthest = max(self._farthest, size)
        self._failures = 1 if moved else self._failures + 1
        if self._failures >= self.retry.attempts:
            raise error
        await asyncio.sleep(backoff(self.retry, self._failures, random()))

    async def _fetch(self, url: str, transfer: _Transfer) -> None:
        """Make one pass over the URL and its redirects."""
        for _ in range(self.policy.max_redirects + 1):
            parts = checked_url(url)
            guarded = not allows(parts, self.policy.allow_private_hosts, self.base_url)
            onwards = await self._one(url, transfer, guarded=guarded)
            if onwards is None:
                return
            url = _joined(url, onwards)
        raise _error("redirects", f"the video's URL redirects more than {self.policy.max_redirects} times")

    async def _one(self, url: str, transfer: _Transfer, *, guarded: bool) -> str | None:
        """Fetch one URL; returns where it redirects to, or None when the body is written."""
        headers = {}
        # A host that has only errors for a range is asked for the whole at last; what is there stays until that comes.
        insists = not (transfer.refused and self._failures == self.retry.attempts - 1)
        if transfer.size and transfer.validator and insists:
            headers = {"Range": f"bytes={transfer.size}-", "If-Range": transfer.validator}
        elif transfer.size and insists:
            transfer.restart()
        try:
            async with self.transport.fetch(url, headers, guarded=guarded, stall=self.policy.stall) as answer:
                if answer.status in _REDIRECTS:
                    return str(answer.headers.get("location", ""))
                self._check_head(answer, transfer, url.partition("?")[0])
                if self.keeper is not None:
                    await self.keeper.keep(transfer.kept())  # before a byte of it stands where another's may have stood
                await self._write(answer, transfer)
        except DownloadError as error:
            broken = _BrokenError(error) if error.code == "network" else None
            if broken is None:
                raise
        else:
            return None
        raise broken

    def _check_head(self, answer: Fetched, transfer: _Transfer, source: str) -> None:
        """Decide from status, header fields and place whether, and from where on, the body is written."""
        if 400 <= answer.status < 500 and answer.status not in _PASSING:
            raise _GoneError(answer.status)
        if answer.status == 416:
            transfer.restart()
            raise _BrokenError(_error("network", "the server does not know the range", http_status=416))
        if answer.status not in (200, 206):
            transfer.refused = True
            words = f"the video's host answered HTTP {answer.status}"
            raise _BrokenError(_error("network", words, http_status=answer.status))
        total = None
        if answer.status == 206:
            found = _range_in(answer.headers, transfer) if transfer.source == source else None
            if found is None:
                transfer.restart()
                raise _BrokenError(_error("network", "the server sent another range than it was asked for"))
            start, total = found
            transfer.go_back(start)
        elif transfer.size:
            transfer.restart()
        transfer.source, transfer.refused = source, False
        length = answer.headers.get("content-length", "")
        expected = int(length) if length.isdigit() and len(length) < 19 else None
        if total is None and expected is not None:
            total = transfer.size + expected
        if total is not None:
            self._check_room(total, transfer)
        transfer.total = total
        validator = _strong_validator(answer.headers)
        transfer.validator = None if validator is None or self.betrays(validator) else validator

    def _check_room(self, total: int, transfer: _Transfer) -> None:
        self._check_size(total)
        free = shutil.disk_usage(transfer.directory).free
        if total - transfer.size + FREE_SPACE_KEPT > free:
            raise _error("disk", f"the video has {total} bytes; of {free} free ones {FREE_SPACE_KEPT} are kept")

    def _check_size(self, size: int) -> None:
        if size > self.policy.max_bytes:
            raise _error("too_large", f"the video is larger than {self.policy.max_bytes} bytes")

    async def _write(self, answer: Fetched, transfer: _Transfer) -> None:
        """Write the body while watching its size and its speed."""
        loop = asyncio.get_running_loop()
        since, fresh = loop.time(), 0
        pending: list[bytes] = []
        held = 0
        try:
            async for chunk in answer.chunks:
                held += len(chunk)
                failpoints.reach("download.half")
                fresh += len(chunk)
                self._check_size(transfer.size + held)
                pending.append(chunk)
                if held >= WRITE_SIZE:
                    whole, pending, held = pending, [], 0  # what failed halfway is not written once more below
                    await _append(transfer, whole)
                now = loop.time()
                if now - since >= self.policy.stall:
                    if fresh < self.policy.minimum_speed * (now - since):
                        raise _error("too_slow", f"slower than {self.policy.minimum_speed:g} bytes a second")
                    since, fresh = now, 0
        finally:
            await _append(transfer, pending)
        if transfer.total is not None and transfer.size != transfer.total and "content-encoding" not in answer.headers:
            raise _BrokenError(_error("network", f"{transfer.size} of {transfer.total} bytes came"))


def _joined(url: str, onwards: str) -> str:
    """Return where a redirect leads. Raises `DownloadError` (blocked) for a `Location` that is no URL."""
    with contextlib.suppress(ValueError):
        return urljoin(url, onwards)
    raise _error("blocked", "the video's URL redirects to something that is no URL")


async def _append(transfer: _Transfer, chunks: list[bytes]) -> None:
    if chunks:
        data = b"".join(chunks)
        await in_thread(transfer.file.write, data)
        transfer.size += len(data)


def _strong_validator(headers: Mapping[str, str]) -> str | None:
    """Return what `If-Range` may hold (RFC 9110, 13.1.5): a strong ETag; a date is too coarse to trust."""
    tag = headers.get("etag", "")
    return tag if _TAG.fullmatch(tag) and "content-encoding" not in headers else None


_TAG = re.compile(r'"[\x21\x23-\x7e]{0,512}"')


def _range_in(headers: Mapping[str, str], transfer: _Transfer) -> tuple[int, int | None] | None:
    """Return where the range of a 206 begins, and how long the whole is; None where it does not continue what is there.

    A server may send another range than it was asked for (RFC 9110, 15.3.7): one that begins earlier overlaps, and
    after one that ends earlier the rest is asked for.
    """
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", headers.get("content-range", "").strip())
    if not match or int(match[1]) > transfer.size or headers.get("etag") not in (None, transfer.validator):
        return None
    total = transfer.total if match[3] == "*" else int(match[3])
    return (int(match[1]), total) if transfer.total in (None, total) else None


def disk_error(error: OSError, path: Path) -> DownloadError:
    """Return the error for what the disk refuses."""
    return _error("disk", f"{path} cannot be written: {error.strerror or type(error).__name__}")
