"""From a URL that a stranger chose to a file that plays: guarded, bounded, resumed, checked, then renamed."""

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import shutil
import stat
import unicodedata
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

_GONE = (401, 403, 404, 410)
_REDIRECTS = (301, 302, 303, 307, 308)
_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?")


def file_name(key: str, ending: str = ".mp4", longest: int = 100) -> str:
    """Return a safe file name for a key of ours: letters, digits and `._-`; changed keys get a hash to stay apart."""
    flat = unicodedata.normalize("NFKC", key)
    safe = re.sub(r"[^\w.\-]+", "-", flat, flags=re.ASCII).strip("-. ")[:longest]
    if not safe or safe != key or _RESERVED.fullmatch(safe):
        safe = f"{safe or 'video'}-{hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
    return safe + ending


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
    """

    file: BinaryIO
    directory: Path
    size: int = 0
    source: str = ""
    validator: str | None = None
    total: int | None = None

    def take_up(self, kept: Kept) -> None:
        """Go on where an earlier process stopped."""
        self.size = self.file.seek(0, os.SEEK_END)
        self.source, self.validator, self.total = kept.source, kept.validator, kept.total
        if self.total is not None and self.size > self.total:
            self.restart()

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
    """

    transport: Transport
    policy: DownloadPolicy
    retry: RetryPolicy
    base_url: str
    refresh: Callable[[], Awaitable[Video | None]]
    keeper: Keeper | None = None
    clean: Callable[[DownloadError], DownloadError] = lambda error: error
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
        if "\0" in str(path):
            raise ValueError("a path holds no NUL")
        target = path / file_name(video.task_id) if path.is_dir() else path
        if not target.parent.is_dir():
            raise _error("disk", f"there is no directory {target.parent}", task_id=video.task_id)
        if target.is_symlink() or (target.exists() and not (overwrite and target.is_file())):
            raise _error("disk", f"{target} exists already; overwrite=True replaces it", task_id=video.task_id)
        return target.parent.resolve() / target.name

    async def run(self, video: Video, target: Path, *, overwrite: bool) -> Path:
        """Fetch the video into `target`; the file appears there only when it is whole."""
        part = target.with_name(f"{target.name}.part")
        created = False
        failure: DownloadError | None = None
        kept = self.keeper.kept if self.keeper is not None else None
        transfer: _Transfer | None = None
        try:
            with _opened(part, keep=kept is not None) as file:
                created = True
                transfer = _Transfer(file, target.parent)
                if kept is not None:
                    transfer.take_up(kept)
                await self._fetch_whole(video, transfer)
                if self.keeper is not None:
                    await self.keeper.checked(*await in_thread(_measured, file))
                    failpoints.reach("download.checked")
                await in_thread(partial(_publish, file, part, target, overwrite=overwrite))
                failpoints.reach("download.renamed")
        except DownloadError as error:
            failure = self.clean(error.evolve(task_id=video.task_id, message=unsigned(error.message)))
        except OSError as error:
            failure = _disk(error, target if created else part).evolve(task_id=video.task_id)
        finally:
            if created and not (_missing(target) and self._worth_keeping(transfer, failure)):
                part.unlink(missing_ok=True)
        if failure is not None:
            raise failure
        return target

    def _worth_keeping(self, transfer: _Transfer | None, failure: DownloadError | None) -> bool:
        """Tell whether a later call can go on with what is there."""
        if self.keeper is None or transfer is None or not transfer.size or not transfer.validator:
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
        if transfer.size and transfer.validator:
            headers = {"Range": f"bytes={transfer.size}-", "If-Range": transfer.validator}
        elif transfer.size:
            transfer.restart()
        try:
            async with self.transport.fetch(url, headers, guarded=guarded, stall=self.policy.stall) as answer:
                if answer.status in _REDIRECTS:
                    return str(answer.headers.get("location", ""))
                self._check_head(answer, transfer, url.partition("?")[0])
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
        if answer.status in _GONE:
            raise _GoneError(answer.status)
        if answer.status == 416:
            transfer.restart()
            raise _BrokenError(_error("network", "the server does not know the range", http_status=416))
        if answer.status not in (200, 206):
            words = f"the video's host answered HTTP {answer.status}"
            raise _BrokenError(_error("network", words, http_status=answer.status))
        length = answer.headers.get("content-length", "")
        expected = int(length) if length.isdigit() and len(length) < 19 else None
        if answer.status == 206:
            start = _start_in(answer.headers, transfer) if transfer.source == source else None
            if start is None:
                transfer.restart()
                raise _BrokenError(_error("network", "the server sent another range than it was asked for"))
            transfer.go_back(start)
        elif transfer.size:
            transfer.restart()
        transfer.source = source
        if expected is not None:
            transfer.total = transfer.size + expected
            self._check_size(transfer.total)
            free = shutil.disk_usage(transfer.directory).free
            if expected + FREE_SPACE_KEPT > free:
                raise _error("disk", f"the video has {expected} bytes; of {free} free ones {FREE_SPACE_KEPT} are kept")
        transfer.validator = _strong_validator(answer.headers)
        if self.keeper is not None and transfer.validator is not None:
            self.keeper.keep(Kept(source, transfer.validator, transfer.total, boot_id()))

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
    return tag if tag.startswith('"') and "content-encoding" not in headers else None


def _start_in(headers: Mapping[str, str], transfer: _Transfer) -> int | None:
    """Return where the range of a 206 begins, None where it does not continue what is there.

    A server may send another range than it was asked for (RFC 9110, 15.3.7): one that begins earlier overlaps.
    """
    match = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", headers.get("content-range", "").strip())
    if not match or int(match[1]) > transfer.size or headers.get("etag") not in (None, transfer.validator):
        return None
    same = transfer.total is None or match[3] in ("*", str(transfer.total))
    return int(match[1]) if same else None


def _missing(target: Path) -> bool:
    """Tell whether nothing stands at a path yet."""
    return not os.path.lexists(target)


def is_taken(target: Path) -> bool:
    """Tell whether a file stands at a path, or another program is about to put one there."""
    if not _missing(target):
        return True
    try:
        with target.with_name(f"{target.name}.part").open("r+b") as part:
            _lock(part)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


def _opened(part: Path, *, keep: bool = False) -> BinaryIO:
    """Open a new `.part` and lock it, or with `keep` the one that is there.

    A regular file left by a crash is replaced; one that another process writes, or anything else, is not touched.
    """
    nofollow = getattr(os, "O_NOFOLLOW", 0)
    try:
        if not stat.S_ISREG(part.lstat().st_mode):
            raise OSError(errno.EEXIST, f"{part} is not a regular file")
        if keep:
            left = os.fdopen(os.open(part, os.O_RDWR | nofollow), "r+b")
            try:
                _lock(left)
            except BaseException:
                left.close()
                raise
            return left
        with os.fdopen(os.open(part, os.O_RDWR | nofollow), "r+b") as left:
            _lock(left)
            part.unlink()
    except FileNotFoundError:
        pass
    file = os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL | nofollow, 0o644), "w+b")
    _lock(file)
    return file


def _lock(file: BinaryIO) -> None:
    """Take the file for this process, where the system can; raises `OSError` if another one has it."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _measured(file: BinaryIO) -> tuple[int, str]:
    """Make the part durable and return its size and its SHA-256."""
    file.flush()
    os.fsync(file.fileno())
    file.seek(0)
    found = _hash(file)
    return file.seek(0, os.SEEK_END), found


def _hash(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return _hash(file)


def _publish(file: BinaryIO, part: Path, target: Path, *, overwrite: bool) -> None:
    """Make the file durable and give it its name, if it is still the one that stands there."""
    file.flush()
    os.fsync(file.fileno())
    ours, there = os.fstat(file.fileno()), part.lstat()
    if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
        raise OSError(errno.EBUSY, "another program took its place")
    give_name(part, target, overwrite=overwrite)


def give_name(part: Path, target: Path, *, overwrite: bool) -> None:
    """Give a finished file its name in one durable step. Raises `OSError` where another one has it."""
    if overwrite:
        part.replace(target)
    else:
        try:
            os.link(part, target)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links
            if target.exists():
                raise FileExistsError(errno.EEXIST, "the file exists already", str(target)) from None
            part.rename(target)
    handle = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _disk(error: OSError, path: Path) -> DownloadError:
    return _error("disk", f"{path} cannot be written: {error.strerror or type(error).__name__}")
