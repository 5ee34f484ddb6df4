"""`KlingSession`: one account at one gateway, its limits and its running jobs."""

import asyncio
import mimetypes
import os
import random
import warnings
from collections.abc import AsyncIterable, Callable
from decimal import Decimal
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self
from weakref import WeakSet

import anyio

from kling_async.asked import invalid_argument, key_fault, request_fault
from kling_async.bell import ENDINGS, carried_out, ended, in_thread, to_its_end
from kling_async.conversation import secret_of
from kling_async.credentials import base_url_for, gateway_for
from kling_async.engine import CONNECTIONS, Engine
from kling_async.errors import (
    ConfigurationError,
    DownloadError,
    KlingError,
    NotFoundError,
    ProtocolError,
    SessionClosedError,
    UnsupportedError,
)
from kling_async.flow.durations import Durations
from kling_async.gateways.protocol import Accepted, Gateway
from kling_async.loading import loads
from kling_async.mishaps import tell_mishap
from kling_async.network import Transport
from kling_async.requests import Request
from kling_async.results import Balance, Cost, Outcome, Snapshot, Stats, Success, Video, video_of
from kling_async.secret import Secret
from kling_async.settings import (
    DownloadPolicy,
    PollPlan,
    Rate,
    RetryPolicy,
    Timeouts,
    positive_seconds,
    rate_limits,
    slot_limit,
)
from kling_async.stream import Item, Requests, Stream
from kling_async.task import Recorder, TaskFuture, is_elsewhere, is_running_here
from kling_async.wire import is_task_id

if TYPE_CHECKING:
    from kling_async.batch.batch import Batch, Rules
    from kling_async.batch.record import Observer
    from kling_async.kept import Keeper

_SAME: Any = object()

BATCH_ROOM = 1000
"""Jobs that a batch has in flight at most where nobody has set a number of slots."""


class KlingSession:
    """Makes videos through one gateway, many at once, each paid for at most once.

    Use it with `async with`, on one event loop. Leaving it never hangs and never loses an id: it lets the POSTs that
    have begun come to their end (at most `timeouts.submit` seconds), and fails unfinished futures with
    `SessionClosedError`, which carries the task id.

    Args:
        gateway: a name ("kling3api", "apiin", "klinggenerator", "apimart", or a plug-in's), a `Gateway`, or None
            (default) for the environment variable `KLING_GATEWAY`.
        api_key: the key; None (default) for the gateway's own variable (`KLING3API_API_KEY`, `APIIN_API_KEY`,
            `KLINGGENERATOR_API_KEY`, `APIMART_API_KEY`) or `KLING_API_KEY`.
        base_url: origin of the API with an optional prefix; None (default) for `KLING_BASE_URL`, else the documented
            one.
        concurrency: the most jobs in flight, from admission to their end. "auto" (default) begins with one submit at
            a time and finds out how many the gateway runs; a number is never exceeded, and fewer run while the gateway
            says it is full. None for no limit of ours and no slow start. Give a number where a gateway queues what it
            cannot run instead of refusing it: there is nothing to learn from then.
        rate: the most requests per time, submits and looks together: "10/s", "30/min", "1000/day", a `RateLimit` or a
            list of them, never exceeded. "auto" (default) is what the gateway documents, or where it documents nothing
            the pace that its refusals teach. None for no limit of ours and no slow start.
        poll: when to look at running jobs.
        timeouts: how long to wait for what.
        retry: how stubborn to be where trying again cannot cost twice.
        downloads: what a download may do.

    Raises:
        ConfigurationError: no such gateway, no key, a key or URL that cannot be used, or a wrong setting.
    """

    def __init__(
        self,
        gateway: str | Gateway | None = None,
        *,
        api_key: str | Secret | None = None,
        base_url: str | None = None,
        concurrency: int | Literal["auto"] | None = "auto",
        rate: Rate = "auto",
        poll: PollPlan = PollPlan(),
        timeouts: Timeouts = Timeouts(),
        retry: RetryPolicy = RetryPolicy(),
        downloads: DownloadPolicy = DownloadPolicy(),
    ) -> None:
        self._engine: Engine | None = None
        self._closed = False
        self._closing: asyncio.Future[None] | None = None
        try:
            api_key = None if api_key is None else Secret(api_key)
        except ConfigurationError:
            api_key = None  # so that no traceback with locals shows it
            raise
        self.gateway = gateway_for(gateway, api_key)
        self.base_url = base_url_for(self.gateway, base_url)
        self._slots = slot_limit(concurrency)
        self._rates = self.gateway.rates if rate == "auto" else rate_limits(rate)
        self._learns_pace = "auto" in (concurrency, rate)
        self._poll = poll
        self._timeouts = timeouts
        self._retry = retry
        self._downloads = downloads
        self._durations = Durations()
        self._number = count(1)
        self._keys: dict[str, TaskFuture] = {}
        self._streams: WeakSet[Stream] = WeakSet()
        self._downloading: dict[Path, asyncio.Future[Path]] = {}

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open" if self._engine else "not entered"
        where = f"{self.gateway.name} at {self.base_url}" if hasattr(self, "base_url") else "without a gateway"
        return f"<KlingSession {where} {state}>"

    # Lifetime.

    async def __aenter__(self) -> Self:
        if self._closed:
            raise SessionClosedError("this session was closed; make a new one")
        if self._engine is not None:
            raise ConfigurationError("this session is open already")
        # Made before a fork and opened after it, two sessions must not name their jobs alike.
        self._pid, self._loop = os.getpid(), asyncio.get_running_loop()
        self._name = os.urandom(4).hex()
        _load()
        self._engine = Engine(
            self.gateway,
            self._transport(),
            slots=self._slots,
            rates=self._rates,
            learns_pace=self._learns_pace,
            durations=self._durations,
            poll=self._poll,
            timeouts=self._timeouts,
            retry=self._retry,
            random=random.Random(),
        )
        return self

    def _transport(self) -> Transport:
        from kling_async.transport import AiohttpTransport

        return AiohttpTransport(self.base_url, connect=self._timeouts.connect, connections=CONNECTIONS)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the session; what `async with` does at its end. Closing twice is closing once.

        A forked child may leave the block, too: it touches nothing that is its parent's.
        """
        engine = self._engine
        over = engine is None and (self._closing is None or self._closing.done())
        if over or os.getpid() != self._pid:
            self._closed = True
        elif self._loop.is_closed():
            self._engine, self._closed = None, True
            if engine is not None:
                await engine.abandon()
        elif is_elsewhere(self._loop):
            raise ConfigurationError("this session belongs to another event loop; close it where it was opened")
        else:
            # Cancelling now would cut a paid POST in two: the close runs to its bounded end, then the cancel goes on.
            with anyio.CancelScope(shield=True):
                if engine is not None:
                    await self._close(engine)
                elif self._closing is not None:
                    await to_its_end(self._closing)

    async def _close(self, engine: Engine) -> None:
        self._engine, self._closed = None, True
        self._closing = self._loop.create_future()
        engine.shut()
        for stream in list(self._streams):
            stream.end_input()
        for download in self._downloading.values():
            download.cancel()
        try:
            await carried_out(partial(self._end, engine))
        finally:
            self._closing.set_result(None)

    async def _end(self, engine: Engine) -> None:
        try:
            if downloads := list(self._downloading.values()):
                await asyncio.wait(downloads, timeout=ENDINGS)
        finally:
            await engine.close()

    def __del__(self) -> None:
        if getattr(self, "_engine", None) is not None and self._pid == os.getpid():
            warnings.warn(f"{self!r} was never closed; use `async with`", ResourceWarning, stacklevel=2, source=self)

    def _here(self) -> Engine:
        """Return the engine, if this is the place to use it."""
        if self._closed:
            raise SessionClosedError
        if self._engine is None:
            raise ConfigurationError("this session is not open; use `async with KlingSession(…) as session:`")
        if os.getpid() != self._pid:
            raise ConfigurationError("this session belongs to the parent process; open one after the fork")
        if not is_running_here(self._loop):
            raise ConfigurationError("this session belongs to another event loop; use it where it was opened")
        return self._engine

    # Making videos.

    def submit(self, request: Request, *, key: str | None = None, timeout: float | None = _SAME) -> TaskFuture:
        """Submit a request and return its handle at once; what is wrong with the request comes on the future.

        Args:
            request: what is wanted.
            key: a name of your own for this job, at most 200 printable characters. The same key again in this
                session returns the same future and pays once; with another request it fails. The session remembers
                keyed futures until it is closed.
            timeout: seconds from acceptance until we stop looking; None for no end; left out: `timeouts.generation`.

        Raises:
            ConfigurationError: the session is not open, or used in another event loop or a forked child.
            SessionClosedError: the session was closed.
        """
        engine = self._here()
        if isinstance(key, str) and key in self._keys:
            return self._known(engine, key, request)
        job = self._job(engine, request, key, timeout)
        bad_key = key_fault(key)
        if key is not None and bad_key is None:
            self._keys[key] = job
        fault = bad_key or request_fault(request) or self._gateway_fault(request)
        if fault is not None:
            engine.fail(job, fault)
        else:
            engine.add(job)
        return job

    def submit_recorded(
        self, request: Request, *, key: str, record: Recorder, lost: KlingError | None = None
    ) -> TaskFuture:
        """Submit a job that a journal keeps. For batches; see `submit`.

        Args:
            request: what is wanted.
            key: its name in the batch.
            record: keeps its intent and its task id.
            lost: why an earlier submit of it under the same identity is in doubt, or None.
        """
        engine = self._here()
        job = self._job(engine, request, key, _SAME)
        job.record = record
        job.lost = lost
        fault = self._gateway_fault(request)
        if fault is not None:
            engine.fail(job, fault)
        else:
            engine.add(job)
        return job

    def follow_recorded(self, request: Request, *, key: str, task_id: str, wait: float) -> TaskFuture:
        """Follow a job that an earlier process submitted, with the first look in `wait` seconds. For batches."""
        engine = self._here()
        job = self._job(engine, request, key, _SAME)
        engine.claim(task_id, key)
        engine.attach(job, task_id, wait)
        return job

    async def find_recorded(self, identity: str) -> Accepted | None:
        """Look a job up by its identity, where the gateway can; None for one that was not found. For batches."""
        return await self._here().submitting.find(identity)

    def let_go(self, job: TaskFuture) -> None:
        """Stop looking after a job without a word to the gateway. For batches."""
        if self._engine is not None and not job.done():
            self._engine.let_go(job)

    def learned(self) -> str:
        """Return what this session has learned of how long jobs take, for `remember`. For batches."""
        return self._durations.told()

    def remember(self, learned: str | None) -> None:
        """Take over what an earlier session has learned, unless this one has learned for itself. For batches."""
        if learned is not None and not self._durations.all.jobs:
            self._durations.remember(learned)

    @property
    def timeouts(self) -> Timeouts:
        """How long the session waits for what."""
        return self._timeouts

    @property
    def poll_plan(self) -> PollPlan:
        """When the session looks at running jobs."""
        return self._poll

    @property
    def retry(self) -> RetryPolicy:
        """How stubborn the session is where trying again cannot cost twice."""
        return self._retry

    def _job(self, engine: Engine, request: Request | None, key: str | None, timeout: float | None) -> TaskFuture:
        seconds = self._timeouts.generation if timeout is _SAME else positive_seconds("timeout", timeout)
        name = key if isinstance(key, str) else f"{self._name}-{next(self._number):06}"
        return TaskFuture(engine, request, name, named=key is not None, timeout=seconds, now=engine.now())

    def _known(self, engine: Engine, key: str, request: Request) -> TaskFuture:
        job = self._keys[key]
        if job.request is None or job.request == request:
            return job
        other = self._job(engine, request, None, _SAME)
        engine.fail(other, invalid_argument("key", f"{key!r} names another request already"))
        return other

    def _gateway_fault(self, request: Request) -> KlingError | None:
        """Return what the gateway's adapter has against a request, before it waits for its turn."""
        exchange: Any = None
        try:
            exchange = self.gateway.submit(request, "check")
            next(exchange)
        except KlingError as error:
            return error.evolve(gateway=error.gateway or self.gateway.name, stage=error.stage or "validate")
        except Exception as error:  # noqa: BLE001 - of the adapter, which may be a plug-in
            tell_mishap(f"the adapter {self.gateway.name} failed", error, self.gateway)
            return ProtocolError(f"the adapter failed: {type(error).__name__}", code="adapter", charged="no")
        finally:
            if exchange is not None:
                exchange.close()
        return None

    async def generate(self, request: Request, *, key: str | None = None, timeout: float | None = _SAME) -> Video:
        """Submit a request and wait for its video; raises a `KlingError` where there is none.

        Cancelling the wait withdraws the job if it was not sent yet.
        """
        job = self.submit(request, key=key, timeout=timeout)
        try:
            return await job
        finally:
            if not job.done() and key is None:
                job.withdraw_unsent()

    def _submit_item(self, item: Item) -> TaskFuture:
        if isinstance(item, tuple) and len(item) == 2:
            return self.submit(item[1], key=item[0])
        return self.submit(item)  # what else it may be is said on the future

    async def gather(self, requests: Requests) -> list[Outcome]:
        """Submit all requests and return their outcomes in the order of the input: as many as there were requests.

        A request may come with a key of your own, as a pair (key, request); the outcome carries it.
        Cancelling the wait withdraws what was not sent yet.
        """
        jobs: list[TaskFuture] = []
        try:
            if isinstance(requests, AsyncIterable):
                async for request in requests:
                    jobs.append(self._submit_item(request))  # noqa: PERF401 - what was submitted must be known if the input fails
            else:
                jobs.extend(map(self._submit_item, requests))
            return [await job.outcome() for job in jobs]
        finally:
            for job in jobs:
                if not job.done():
                    job.withdraw_unsent()

    def stream(self, requests: Requests) -> Stream:
        """Return an async iterator of outcomes in completion order.

        `requests` may be an endless iterable or async iterable; they are pulled only as slots free up. Leaving the
        loop early withdraws what was not sent. As in `gather`, a request may come as a pair (key, request).
        """
        stream = Stream(requests, self._submit_item, self._here())
        self._streams.add(stream)
        return stream

    def attach(self, task_id: str, *, key: str | None = None, timeout: float | None = _SAME) -> TaskFuture:
        """Follow a task that was submitted elsewhere; it is looked at once without delay.

        An id that the gateway does not know fails with `NotFoundError` after 60 seconds: gateways' own copies lag.

        Args:
            task_id: the gateway's id. An id this session follows already returns that future.
            key: a name of your own; left out: the id.
            timeout: seconds from now until we stop looking; None for no end; left out: `timeouts.generation`.
        """
        engine = self._here()
        fault = key_fault(key) or (
            None if is_task_id(task_id) else invalid_argument("task_id", "this cannot be a task id")
        )
        named = self._keys.get(key) if isinstance(key, str) else None
        if fault is None and named is not None and named.task_id != task_id:
            fault = invalid_argument("key", f"{key!r} names another job already")
        if fault is not None:
            job = self._job(engine, None, None, timeout)
            engine.fail(job, fault)
            return job
        known = named if named is not None and not named.done() else engine.followed(task_id)
        if known is not None:
            return known
        engine.claim(task_id, key or task_id)
        job = self._job(engine, None, key or task_id, timeout)
        if key is not None:
            self._keys[key] = job
        engine.attach(job, task_id)
        return job

    @property
    def unfinished(self) -> tuple[TaskFuture, ...]:
        """The jobs that have no outcome yet, in the order in which they were submitted."""
        return tuple(self._engine.unfinished) if self._engine is not None else ()

    @property
    def stats(self) -> Stats:
        """What the session is doing now."""
        engine = self._here()
        waiting = len(engine.unfinished) - engine.used_slots
        return Stats(engine.limit, engine.used_slots, max(0, waiting), engine.refused_requests)

    @property
    def room(self) -> int:
        """How many jobs a run should have open now, so that no slot stays idle. For batches."""
        if self._engine is None:
            return 1
        return self._engine.room if self._engine.slots is not None else min(self._engine.room, BATCH_ROOM)

    # Around the videos.

    def estimate(self, request: Request) -> Cost | None:
        """Return what a request should cost by the gateway's published prices, or None where they are unknown.

        Raises `InvalidRequestError` for a request that the gateway does not take.
        """
        return self.gateway.estimate(request)

    async def balance(self) -> Balance:
        """Ask what is left on the account.

        Raises `UnsupportedError` where the gateway cannot tell. Money that is there lets jobs be tried again after
        `InsufficientCreditsError`.
        """
        engine = self._here()
        exchange = self.gateway.balance()
        if exchange is None:
            raise UnsupportedError(f"{self.gateway.name} tells no balance", gateway=self.gateway.name, field="balance")
        balance = await engine.control(exchange)
        if balance.unlimited or balance.amount:
            engine.gate.account.solvent()
        return balance

    async def upload(self, path: str | os.PathLike[str]) -> str:
        """Upload a picture and return the URL to use in a request.

        Raises `UnsupportedError` where the gateway takes no uploads. A lost answer is not asked for again.
        """
        engine = self._here()
        file = Path(path)
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        exchange = self.gateway.upload(file.name, kind, await in_thread(file.read_bytes))
        if exchange is None:
            raise UnsupportedError(f"{self.gateway.name} takes no uploads", gateway=self.gateway.name, field="image")
        return await engine.control(exchange, fresh=True)

    async def download(self, video: Video | Success, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Download a video to a file and return its path.

        The file appears under its name only when it is whole and is a video. A directory gets a file named after the
        task. A transfer that breaks is taken up where it stopped, and a URL that has expired is asked for anew.

        Args:
            video: the video, or the outcome that holds it.
            path: the file, or an existing directory.
            overwrite: whether a file of that name may be replaced (default False).

        Raises:
            DownloadError: with a `code`: blocked, expired, too_large, too_slow, not_a_video, redirects, disk, network.
            SessionClosedError: the session was closed meanwhile; the video is still there.
        """
        return await self._fetched(video.video if isinstance(video, Success) else video, path, overwrite=overwrite)

    async def fetched(self, video: Video, path: Path, keeper: "Keeper") -> Path:
        """Download a video as `download` does; a transfer that broke is taken up by the next call. For batches."""
        return await self._fetched(video, path, keeper=keeper)

    async def _fetched(
        self, found: Video, path: str | os.PathLike[str], *, overwrite: bool = False, keeper: "Keeper | None" = None
    ) -> Path:
        from kling_async.download import Download

        engine = self._here()
        download = Download(
            engine.talk.transport,
            self._downloads,
            self._retry,
            self.base_url,
            lambda: self._refreshed(found),
            keeper,
            self._clean,
            engine.talk.betrays,
        )
        target = download.target(found, Path(path), overwrite=overwrite)
        if target in self._downloading:
            raise DownloadError(f"{target} is being downloaded already", code="disk", stage="download")
        work = asyncio.ensure_future(download.run(found, target, overwrite=overwrite))
        self._downloading[target] = work
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError:
            work.cancel()
            await ended(work)
            if not work.cancelled():
                work.exception()  # nobody asks for it any more
            raise
        finally:
            del self._downloading[target]
        if work.cancelled():
            raise SessionClosedError("the session was closed during the download", task_id=found.task_id)
        return work.result()

    def _clean(self, error: DownloadError) -> DownloadError:
        return error.scrubbed(secret_of(self.gateway))

    def batch(
        self,
        path: str | os.PathLike[str],
        *,
        budget: Decimal | float | None = None,
        download_to: str | os.PathLike[str] | None = None,
        max_cost_per_job: Decimal | float | None = None,
        max_failures: int | str | None = None,
        deadline: float | None = None,
        patience: float | None = 1800.0,
        observer: "Observer | None" = None,
    ) -> "Batch":
        """Return a durable batch, to be used with `async with`; see `kling_async.batch.Batch`.

        Args:
            path: the journal, one SQLite file; made if there is none. The same file again goes on where it stopped.
            budget: the most that all its jobs may cost together, over all runs, in the gateway's unit; None (default)
                for no limit. It is reserved before each request and never overshot; what is in doubt stays reserved.
            download_to: a directory for the videos, made if there is none; None (default) to download nothing.
            max_cost_per_job: jobs that cost more stay planned; None (default) for no limit.
            max_failures: so many failed jobs of one run, or such a share ("5%", judged from the 20th end on), end it.
            deadline: seconds after the start of a run when nothing new is sent any more; None (default) for none.
            patience: seconds for which a gateway that takes nothing is tried again before the run ends (default
                1800); None for no end.
            observer: called with each step of a job, the job before it and after it, once that is durable.

        Raises:
            ConfigurationError: a wrong setting; on entering: the journal belongs to another gateway.
            JournalError: on entering: the journal cannot be used, or another process drives it (`code="locked"`).
        """
        batch, rules_of = _load_batches()
        rules = rules_of(budget, max_cost_per_job, max_failures, deadline, patience)
        return batch(self, path, rules=rules, download_to=download_to, observer=observer)

    async def _refreshed(self, video: Video) -> Video | None:
        """Ask the gateway for the video again, for a URL that has not expired."""
        engine = self._here()
        try:
            found = await engine.control(self.gateway.poll([video.task_id]), fresh=True)
        except NotFoundError:
            return None
        except KlingError as error:
            failure = error
        else:
            snapshot: Snapshot | None = found.get(video.task_id)
            return video_of(snapshot) if snapshot is not None and snapshot.urls else None
        words = f"the URL has expired, and the gateway could not be asked for another: {failure.message}"
        raise DownloadError(words, code="network", stage="download", task_id=video.task_id, cause=failure)


@loads("what a session needs")
def _load() -> None:
    """Load what the jobs and the end of a session need: later there may be no file left to open."""
    import kling_async.download
    import kling_async.rows
    import kling_async.transport  # noqa: F401

    anyio.CancelScope()  # loads its backend when one is made first


@loads("batches")
def _load_batches() -> "tuple[type[Batch], Callable[..., Rules]]":
    """Load what only who makes a durable batch needs."""
    from kling_async.batch.batch import Batch, Rules

    return Batch, Rules.of
