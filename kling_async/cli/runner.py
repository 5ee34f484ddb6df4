"""A run: jobs are submitted as slots free up, followed, and their videos downloaded, a few at a time."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

from attrs import define, field

from kling_async.cli.codes import INTERRUPTED
from kling_async.cli.events import Event, ended
from kling_async.cli.output import Output
from kling_async.cli.reading import Job, Named
from kling_async.cli.tally import Tally
from kling_async.cli.view import Moment, View
from kling_async.cli.words import count
from kling_async.disk import file_name
from kling_async.errors import KlingError
from kling_async.results import Status, Success
from kling_async.session import KlingSession
from kling_async.task import TaskFuture

DOWNLOADS = 4
WITHOUT_LIMIT = 1000
"""Jobs in flight at once where there is no limit of ours."""
WAITING_DOWNLOADS = 64
"""Finished clips that may wait for their download before no more are submitted."""
TICK_SECONDS = 0.25


@define
class Run:
    """One run over an open session.

    Args:
        session: makes the videos.
        jobs: what is to be made, and tasks that are followed.
        tally, view, output: count, show and write what happens.
        directory: where videos go; None for nowhere.
        target: the file for the one video, instead of a name of its own in `directory`.
    """

    session: KlingSession
    jobs: Sequence[Named]
    tally: Tally
    view: View
    output: Output
    directory: Path | None = None
    target: Path | None = None
    stopped: int | None = field(default=None, init=False)
    full: bool = field(default=False, init=False)
    _futures: dict[str, tuple[Named, TaskFuture]] = field(factory=dict, init=False)
    _fetching: dict[str, tuple[Named, Success, Path | None]] = field(factory=dict, init=False)
    _taken: set[str] = field(factory=set, init=False)
    _pulled: int = field(default=0, init=False)
    _places: asyncio.Semaphore = field(init=False)
    _alive: asyncio.Semaphore = field(init=False)
    _downloads: asyncio.Semaphore = field(init=False)

    def __attrs_post_init__(self) -> None:
        slots = self.session.stats.slots or WITHOUT_LIMIT
        self._places = asyncio.Semaphore(slots)
        self._alive = asyncio.Semaphore(slots + WAITING_DOWNLOADS)
        self._downloads = asyncio.Semaphore(DOWNLOADS)

    @property
    def _downloading(self) -> bool:
        return self.directory is not None or self.target is not None

    async def go(self) -> None:
        """Run every job to its end, or, after `stop`, those that the gateway has."""
        ticking = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as group:
                await self._feed(group)
            for job in self.jobs[self._pulled :]:
                self._happened(_never_begun(job))
        finally:
            ticking.cancel()

    async def _feed(self, group: asyncio.TaskGroup) -> None:
        for job in self.jobs:
            await self._alive.acquire()
            await self._places.acquire()
            if self.stopped is not None or self.full:
                return
            self._pulled += 1
            group.create_task(self._one(job))

    async def _one(self, job: Named) -> None:
        try:
            made = await self._made(job)
            if made is not None and self._downloading:
                await self._fetched(job, made)
        finally:
            self._alive.release()

    async def _made(self, job: Named) -> Success | None:
        """Submit one job, or take one up that the gateway has, and wait for its end."""
        try:
            future = self._begun(job)
            self._futures[job.key] = (job, future)
            with contextlib.suppress(KlingError):
                task_id = await future.accepted()
                if isinstance(job, Job):
                    self._happened(Event("accepted", job, task_id, credits=future.credits))
            outcome = await future.outcome()
            event = ended(job, outcome, future.credits)
            if isinstance(outcome, Success) and self._downloading:
                self._fetching[job.key] = (job, outcome, None)
            del self._futures[job.key]
            self._happened(event)
        finally:
            self._places.release()
        return outcome if isinstance(outcome, Success) else None

    def _begun(self, job: Named) -> TaskFuture:
        if isinstance(job, Job):
            return self.session.submit(job.request, key=job.key)
        return self.session.attach(job.key)

    async def _fetched(self, job: Named, made: Success) -> None:
        """Download one video under a name of ours."""
        async with self._downloads:
            target = self.target or self._free(job)
            self._fetching[job.key] = (job, made, target)
            try:
                path = await self.session.download(made, target)
            except KlingError as error:
                event = Event("download_failed", job, made.task_id, charged="yes", error=error)
            else:
                event = Event("downloaded", job, made.task_id, file=str(self._shown(path)))
            del self._fetching[job.key]
            self._happened(event)
            if event.error is not None and event.error.code == "disk":
                self._halt()

    def _free(self, job: Named) -> Path:
        """Return a file of the directory that nobody has: `boat.mp4`, else `boat-2.mp4` and so on."""
        assert self.directory is not None  # noqa: S101 - a run without one has a target
        first = file_name(job.key)
        stem, number, name = first.removesuffix(".mp4"), 1, first
        while name.casefold() in self._taken or _exists(self.directory / name):
            number += 1
            name = f"{stem}-{number}.mp4"
        self._taken.add(name.casefold())
        return self.directory / name

    def _shown(self, path: Path) -> Path:
        """Return the path as the user named its directory, not as the file system resolves it."""
        return self.target or (self.directory / path.name if self.directory is not None else path)

    def _happened(self, event: Event) -> None:
        self.tally.take(event, asyncio.get_running_loop().time())
        self.output.take(event)
        self.view.take(event)

    async def _tick(self) -> None:
        while True:
            stats = self.session.stats
            now = asyncio.get_running_loop().time()
            self.view.tick(Moment(now, stats.slots, stats.used, stats.refused, len(self._fetching)))
            await asyncio.sleep(TICK_SECONDS)

    # Stopping.

    def stop(self, code: int) -> None:
        """Send nothing new; what the gateway has goes on to its end."""
        self.stopped = code
        self._wind_down("Stopping")
        if code == INTERRUPTED:
            self.view.say("Ctrl-C again leaves at once and prints what is left running.")

    def _halt(self) -> None:
        """Send nothing new, because a video found no place on the disk: the next ones would be paid for in vain."""
        if self.full or self.stopped is not None:
            return
        self.full = True
        unsent = any(future.task_id is None and not future.done() for _, future in self._futures.values())
        if unsent or self._pulled < len(self.jobs):
            self._wind_down("A video cannot be written to the disk")

    def _wind_down(self, why: str) -> None:
        for _, future in list(self._futures.values()):
            future.withdraw_unsent()
        made = [future for _, future in self._futures.values() if not future.done()]
        self.output.tell("stopping", making=len(made), downloading=len(self._fetching))
        being = f" {count(len(made), 'clip is', 'clips are')} being made and paid for." if made else ""
        awaited = ["that"] if made else []
        awaited += [count(len(self._fetching), "download")] if self._fetching else []
        waiting = f" Waiting for {' and '.join(awaited)}." if awaited else ""
        self.view.say(f"{why}: nothing new is sent.{being}{waiting}")

    def abandon(self) -> None:
        """Record everything that is unfinished, for a program that leaves at once."""
        for job, future in list(self._futures.values()):
            self._happened(_unfinished(job, future))
        for job, made, target in list(self._fetching.values()):
            if target is not None:
                with contextlib.suppress(OSError):
                    target.with_name(f"{target.name}.part").unlink(missing_ok=True)
            words = "made and paid for; the download was left"
            self._happened(Event("download_failed", job, made.task_id, charged="yes", message=words))
        for job in self.jobs[self._pulled :]:
            self._happened(_never_begun(job))


def _exists(path: Path) -> bool:
    """Tell whether a name is in use, also by another download or by a link to nowhere."""
    return path.exists() or path.is_symlink() or path.with_name(f"{path.name}.part").exists()


def _never_begun(job: Named) -> Event:
    if isinstance(job, Job):
        return Event("not_sent", job, charged="no", message="stopped before it was sent")
    return Event("late", job, job.key, charged="unknown", message="stopped before it was looked at")


def _unfinished(job: Named, future: TaskFuture) -> Event:
    charged = future.charged()
    if future.task_id is not None:
        paid = future.credits if charged == "yes" else None
        return Event("late", job, future.task_id, credits=paid, charged=charged, message="still being made")
    if future.status is Status.SUBMITTING:
        words = "was being sent when the program left; whether the gateway took it is not known"
        return Event("in_doubt", job, charged="unknown", message=words)
    return Event("not_sent", job, charged="no", message="stopped before it was sent")
