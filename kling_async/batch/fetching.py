"""The videos of a batch on disk: one name for each job, taken up again by a later run, checked, never twice."""

import asyncio
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, evolve

from kling_async import failpoints
from kling_async.batch import entry as steps
from kling_async.batch.entry import Entry
from kling_async.batch.journal import Journal
from kling_async.batch.record import Record
from kling_async.batch.states import Step
from kling_async.bell import in_thread
from kling_async.disk import digest_of_file, file_name, is_taken, part_of
from kling_async.download import disk_error
from kling_async.errors import DownloadError
from kling_async.kept import Kept, boot_id
from kling_async.results import Video

if TYPE_CHECKING:
    from kling_async.session import KlingSession

AT_ONCE = 4
"""Transfers at once."""
NAMES_TRIED = 5
"""Names that are tried for one file while other programs take them."""


class Fetching:
    """Brings the videos of one run into its directory.

    Args:
        session: downloads, and asks for fresh URLs.
        journal: keeps the names of the files, and how far each has come.
        directory: where they go.
    """

    def __init__(self, session: "KlingSession", journal: Journal, directory: Path) -> None:
        self._session = session
        self._journal = journal
        self._directory = directory
        self._taken: set[str] = set()
        self._places = asyncio.Semaphore(AT_ONCE)

    async def fetch(self, record: Record, video: Video) -> Path:
        """Bring one video to disk. Raises `DownloadError`, after which a later run goes on, or `JournalError`."""
        async with self._places:
            for tried in range(NAMES_TRIED):
                try:
                    if tried:
                        await self._name(record)
                    return await self._fetched(record, video)
                except DownloadError as error:
                    failure = error
                except OSError as error:
                    failure = disk_error(error, self._directory / (record.entry.file or ""))
                failure = failure.evolve(key=record.entry.key, task_id=record.entry.task_id)
                if failure.code != "disk" or record.entry.file is None:
                    break
                if not is_taken(self._directory / record.entry.file):
                    break
        await record.step(steps.unfetched(record.entry, failure), Step.UNFETCHED)
        raise failure

    async def _fetched(self, record: Record, video: Video) -> Path:
        target = await self._named(record)
        if not await self._is_there(record.entry, target):
            await self._session.fetched(video, target, _Keeper(record, await self._kept(record.entry, target)))
        await record.step(steps.downloaded(record.entry, time.time()), Step.DOWNLOADED)
        failpoints.reach("downloaded.committed")
        return target

    async def _named(self, record: Record) -> Path:
        """Return the job's file: the one it was given before, unless somebody else's stands there now."""
        known = record.entry.file
        if known is not None:
            target = self._directory / known
            if not target.exists() or await self._is_there(record.entry, target):
                return target
        return await self._name(record)

    async def _name(self, record: Record) -> Path:
        """Give the job's file a name that is free."""
        name = self._free(record.entry)
        self._taken.add(name.casefold())
        await record.step(steps.fetching(record.entry, file=name, part=None, sha256=None, size=None), Step.FETCHING)
        failpoints.reach("download.named")
        return self._directory / name

    async def _is_there(self, entry: Entry, target: Path) -> bool:
        """Tell whether the whole video stands under its name already: the program ended right before it said so."""
        if not _is_as_long(target, entry) or await in_thread(digest_of_file, target) != entry.sha256:
            return False
        part_of(target).unlink(missing_ok=True)
        return True

    async def _kept(self, entry: Entry, target: Path) -> Kept | None:
        """Return how far the transfer had come. A part that was checked before is whole, whatever the server said."""
        kept = Kept.read(entry.part) if entry.part else None
        if kept is not None and (not kept.boot or kept.boot != boot_id()):
            kept = None  # what was not synced before the machine went down may be zeros
        part = part_of(target)
        if not _is_as_long(part, entry):
            return kept
        if await in_thread(digest_of_file, part) != entry.sha256:
            return None
        return evolve(kept or Kept("", ""), total=entry.size)

    def _free(self, entry: Entry) -> str:
        """Return a name that no job and no other program uses: `boat.mp4`, else `boat-2.mp4` and so on."""
        first = file_name(entry.name or entry.key)
        stem, number, name = first.removesuffix(".mp4"), 1, first
        while self._in_use(name):
            number += 1
            name = f"{stem}-{number}.mp4"
        return name

    def _in_use(self, name: str) -> bool:
        there = self._directory / name
        on_disk = there.exists() or there.is_symlink() or part_of(there).exists()
        return on_disk or name.casefold() in self._taken or self._journal.has_file(name)


def _is_as_long(path: Path, entry: Entry) -> bool:
    """Tell whether a file is as long as the video of a job was when it was checked."""
    if entry.sha256 is None or path.is_symlink() or not path.is_file():
        return False
    return path.stat().st_size == entry.size


class _Keeper:
    """Keeps in the journal how far a transfer has come."""

    def __init__(self, record: Record, kept: Kept | None) -> None:
        self._record = record
        self.kept = kept

    async def keep(self, kept: Kept | None) -> None:
        """Remember durably how the transfer can be taken up again, or that it cannot be."""
        if kept != self.kept:
            part = None if kept is None else json.dumps(asdict(kept))
            await self._record.step(steps.fetching(self._record.entry, part=part), Step.FETCHING)
            self.kept = kept

    async def checked(self, size: int, sha256: str) -> None:
        """The part is whole: its size and hash are durable before it gets its name."""
        await self._record.step(steps.fetching(self._record.entry, size=size, sha256=sha256), Step.FETCHING)
