"""`Batch`: a journal under a session. Kill it at any instant; the same program goes on where it stopped."""

import asyncio
import contextlib
import os
import stat
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio
from attrs import evolve, frozen

from kling_async.batch.amounts import amount_of, limit_of, micros
from kling_async.batch.course import Course
from kling_async.batch.entry import Entry, left_behind, retried
from kling_async.batch.forgetting import forget
from kling_async.batch.handle import BatchRun
from kling_async.batch.inputs import BatchItems, Inputs
from kling_async.batch.journal import Journal
from kling_async.batch.limits import Limits, failure_limit
from kling_async.batch.outcomes import outcome_of
from kling_async.batch.reading import Reading
from kling_async.batch.reconciling import reconciled
from kling_async.batch.record import Observer
from kling_async.batch.states import State, Step
from kling_async.batch.summary import Reconciled, Summary
from kling_async.batch.trouble import mode_at
from kling_async.bell import carried_out
from kling_async.errors import ConfigurationError, DownloadError, JournalError, KlingError, SessionClosedError
from kling_async.requests import KINDS, Request
from kling_async.results import Outcome
from kling_async.settings import positive_seconds
from kling_async.task import is_elsewhere

if TYPE_CHECKING:
    from kling_async.session import KlingSession

ENDED = (State.SUCCEEDED, State.DOWNLOADED, State.REJECTED, State.FAILED, State.IN_DOUBT)


@frozen(kw_only=True)
class Rules:
    """The user's own limits on a batch; see `KlingSession.batch`."""

    budget: int | None
    most_per_job: int | None
    failures: int | None
    share: float | None
    deadline: float | None
    patience: float

    @classmethod
    def of(cls, budget: Any, max_cost_per_job: Any, max_failures: Any, deadline: Any, patience: Any) -> "Rules":
        """Check what a user gave. Raises `ConfigurationError`."""
        failures, share = failure_limit(max_failures)
        return cls(
            budget=limit_of("budget", budget),
            most_per_job=limit_of("max_cost_per_job", max_cost_per_job),
            failures=failures,
            share=share,
            deadline=positive_seconds("deadline", deadline),
            patience=positive_seconds("patience", patience) or float("inf"),
        )


class Batch:
    """Many jobs under one durable journal; made by `KlingSession.batch` and used with `async with`.

    What is promised: a job is sent only after its intent is on disk, and its task id is on disk before anybody sees
    it. Whatever kills the program, the next run follows what was accepted, sends what was surely not sent, and
    reports what nobody can know; it never sends that again by itself.
    """

    def __init__(
        self,
        session: "KlingSession",
        path: str | os.PathLike[str],
        *,
        rules: Rules,
        download_to: str | os.PathLike[str] | None,
        observer: Observer | None,
    ) -> None:
        self.path = Path(path)
        self.directory = None if download_to is None else Path(download_to)
        self._session = session
        self._rules = rules
        self._observer = observer
        self._journal: Journal | None = None
        self._inputs: Inputs | None = None
        self._course: Course | None = None
        self._stopped: KlingError | None = None

    def __repr__(self) -> str:
        return f"<Batch {self.path} {'open' if self._journal is not None else 'closed'}>"

    # Lifetime.

    async def __aenter__(self) -> Self:
        if self._journal is not None:
            raise ConfigurationError("this batch is open already")
        session = self._session
        _ = session.stats  # says so if the session is not open
        self._make_directory()
        gateway = session.gateway
        journal = Journal(self.path, gateway=gateway.name, unit=unit_of(session), base_url=session.base_url)
        try:
            self._claim(journal)
            session.remember(journal.learned())
        except BaseException:
            journal.close()
            raise
        self._pid, self._loop = os.getpid(), asyncio.get_running_loop()
        self._journal = journal
        self._inputs = Inputs(journal, self._price)
        return self

    def _make_directory(self) -> None:
        if self.directory is None:
            return
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            words = f"the directory {self.directory} cannot be made: {error.strerror}"
        else:
            return
        raise DownloadError(words, code="disk", stage="download", charged="no")

    def _claim(self, journal: Journal) -> None:
        """See that the journal is of this gateway: another one knows nothing of its jobs."""
        facts = journal.facts()
        session = self._session
        here: dict[str, str | None] = {"stop": None, "base_url": session.base_url}
        if facts.gateway != session.gateway.name:
            self._refuse_begun(journal, facts.gateway)
            here |= {"gateway": session.gateway.name, "unit": unit_of(session)}
        if self.directory is not None:
            here["directory"] = str(self.directory.absolute())
            self._refuse_elsewhere(journal, facts.directory)
        journal.note(**here)

    def _refuse_begun(self, journal: Journal, there: str) -> None:
        """Refuse a batch of another gateway that has sent something, or was planned with other prices."""
        counts = journal.counts()
        begun = bool(counts.held or set(counts.states) - {State.PLANNED, State.REJECTED})
        prices = ((entry.estimate, self._price(entry.asked())) for entry in journal.each(counts.states))
        if begun or any(planned != here for planned, here in prices):
            what = "a batch at" if begun else "planned with the prices of"
            words = f"{self.path} is {what} {there}, and this session is at {self._session.gateway.name}"
            raise ConfigurationError(words, field="gateway")

    def _refuse_elsewhere(self, journal: Journal, before: str | None) -> None:
        """Keep the videos of a batch in one place: the journal knows them by names within it."""
        assert self.directory is not None  # noqa: S101 - there is a directory
        if (
            before is None
            or not stat.S_ISDIR(mode_at(Path(before), self.path))
            or Path(before).resolve() == self.directory.resolve()
        ):
            return
        if next(journal.each([State.DOWNLOADED]), None) is not None:
            words = f"the videos of {self.path} are in {before}; go on there, or move that directory first"
            raise ConfigurationError(words, field="download_to")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the batch: what is being sent comes to its end, so that no id is lost; the rest stays on record.

        A forked child may leave the block, too: it touches nothing that is its parent's.
        """
        journal = self._journal
        if journal is None or os.getpid() != self._pid:
            return
        if not self._loop.is_closed():
            self._check_place()
        self._journal = None
        course, self._course = self._course, None
        try:
            if not self._loop.is_closed():
                with anyio.CancelScope(shield=True):
                    await carried_out(partial(self._end, course))
        finally:
            with contextlib.suppress(JournalError):  # it is worth no more than fewer looks
                journal.note(learned=self._session.learned())
            journal.close()

    async def _end(self, course: Course | None) -> None:
        try:
            if course is not None:
                await course.close()
                self._stopped = course.stopped
        finally:
            if self._inputs is not None:
                await self._inputs.close()

    def __del__(self) -> None:
        if getattr(self, "_journal", None) is not None and self._pid == os.getpid():
            warnings.warn(f"{self!r} was never closed; use `async with`", ResourceWarning, stacklevel=2, source=self)

    def _here(self) -> Journal:
        if self._journal is None:
            raise ConfigurationError("this batch is not open; use `async with session.batch(…) as batch:`")
        if os.getpid() != self._pid:
            raise ConfigurationError("this batch belongs to the parent process; open one after the fork")
        self._check_place()
        return self._journal

    def _check_place(self) -> None:
        if is_elsewhere(self._loop):
            raise ConfigurationError("this batch belongs to another event loop; use it where it was opened")

    # What is to be made.

    def add(self, items: BatchItems) -> int | None:
        """Add jobs; what is in the batch already, under the same key, is not added again.

        Args:
            items: requests, pairs of a key and a request, or plain rows as `request_from` takes them. A job without
                a key gets a hash of its request, and a number among equals of the same input: adding the same input
                again adds nothing, and two equal requests in one input are two jobs. A list or another collection is
                added at once, all of it or nothing. An iterator, which may be endless, or an asynchronous one is
                pulled by `run` as slots free up, or by `plan`.

        Returns:
            how many jobs are new or have a changed request, or None for what is pulled later.

        Raises:
            InvalidRequestError: something is not a request, or a key names another request that was sent already.
                A job that was surely never accepted takes the new request.
            JournalError: the journal cannot be written; nothing was added.
        """
        self._here()
        assert self._inputs is not None  # noqa: S101 - made with the journal
        one = isinstance(items, (*KINDS.values(), Mapping)) or _is_pair(items)
        if one:
            return self._inputs.plan([items])
        if isinstance(items, Collection) and not isinstance(items, (str, bytes, bytearray)):
            return self._inputs.plan(items)
        if isinstance(items, (str, bytes, bytearray)) or (
            not hasattr(items, "__iter__") and not hasattr(items, "__aiter__")
        ):
            raise ConfigurationError(f"a {type(items).__name__} is no list of requests", field="items")
        self._inputs.later(items)
        return None

    async def plan(self) -> int:
        """Pull everything that `add` left for later; returns how many jobs are new or changed."""
        self._here()
        assert self._inputs is not None  # noqa: S101 - made with the journal
        new = 0
        while (some := await self._inputs.some()) is not None:
            new += some
            await asyncio.sleep(0)
        return new

    def _price(self, request: Request) -> int | None:
        """Return what a request should cost; nothing for one that the gateway does not take."""
        try:
            cost = self._session.estimate(request)
            return micros(cost.amount) if cost is not None else None
        except KlingError:
            return 0
        except Exception:  # noqa: BLE001 - a plug-in's fault: nobody knows the price
            return None

    # Making it.

    def run(self, *, earlier: bool = False, only: Collection[str] | None = None) -> "BatchRun":
        """Return an async iterator of outcomes as they complete: follow what an earlier run left, then send the rest.

        Jobs that could not be sent, because of a limit of yours or of the account (402, 401, 403, a quota), stay
        planned for another run, and `summary().stopped` is the reason. Where the reason is about the jobs themselves
        (the budget, their price, what the account can pay or may do), the first of them is yielded as a `Failure`
        with the status `queued`. A job whose download failed is a `Failure` with a `DownloadError` and the status
        `succeeded`; the next run takes its download up. Leaving the loop early sends nothing new.

        Args:
            earlier: yield the outcomes of earlier runs first (default False).
            only: send only jobs of these keys that are planned already; nothing is pulled from iterators, and what
                the gateway has is followed all the same. None (default) for all.

        Raises:
            ConfigurationError: a run is under way, or there is a budget and a price that nobody knows.
            JournalError: while iterating: the journal cannot be written. Nothing is sent without it.
        """
        journal = self._here()
        before = self._course
        if before is not None and not before.left:
            raise ConfigurationError("this batch has a run under way; read that to its end")
        rules = self._rules
        if rules.budget is not None and (unknown := journal.unpriced()):
            words = f"nobody knows the price of {', '.join(unknown[:5])}, so a budget cannot be kept"
            raise ConfigurationError(words, field="budget", code="unknown_price")
        assert self._inputs is not None  # noqa: S101 - made with the journal
        loop = asyncio.get_running_loop()
        course = Course(
            self._session,
            journal,
            Limits(
                budget=rules.budget,
                held=journal.counts().held,
                most_per_job=rules.most_per_job,
                failures=rules.failures,
                share=rules.share,
                unit=journal.facts().unit,
            ),
            self._inputs,
            directory=self.directory,
            patience=rules.patience,
            deadline=None if rules.deadline is None else loop.time() + rules.deadline,
            observer=self._observer,
            only=None if only is None else frozenset(only),
        )
        course.before = before
        self._course = course
        self._stopped = None
        return BatchRun(course, self.outcomes() if earlier else iter(()), self._over)

    def _over(self, course: Course) -> None:
        if self._course is course:
            self._course = None
            self._stopped = course.stopped

    def stop(self, reason: KlingError | None = None) -> None:
        """Send nothing new in the run under way; what the gateway has goes on to its end."""
        if self._course is not None:
            self._here()
            self._course.stop(reason or SessionClosedError("the run was stopped; what is not sent stays planned"))

    @property
    def under_way(self) -> Course | None:
        """The run under way, for who shows it."""
        return self._course

    # What came of it.

    def summary(self) -> Summary:
        """Return how many jobs stand where, and what they cost."""
        stopped = self._course.stopped if self._course is not None else self._stopped
        found = summary_of(self._here())
        budget = None if self._rules.budget is None else amount_of(self._rules.budget)
        return evolve(found, budget=budget, stopped=stopped)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the outcome of every job that has one, in the order in which the jobs were added."""
        journal = self._here()
        for entry in journal.each(ENDED):
            yield outcome_of(entry, self.directory)

    def retry(self, kinds: Iterable[str] = (), *, in_doubt: bool = False) -> int:
        """Plan a new attempt for jobs that were rejected or failed; the next run sends it. Returns how many.

        Args:
            kinds: only these: names of errors (`GenerationFailedError`), their `code`s, "rejected" or "failed";
                empty (default) for all. "expired", which must be named, also takes videos that were made and paid for
                and can be downloaded no more.
            in_doubt: also those in doubt, which may then be paid for twice (default False).

        Raises:
            ConfigurationError: a run is under way.
            JournalError: the journal cannot be written.
        """
        journal = self._here()
        if self._course is not None and not self._course.left:
            raise ConfigurationError("this batch has a run under way; retry after it")
        wanted = {kinds.casefold()} if isinstance(kinds, str) else {str(kind).casefold() for kind in kinds}
        states = [State.REJECTED, State.FAILED] + ([State.IN_DOUBT] if in_doubt else [])
        if "expired" in wanted:
            states.append(State.SUCCEEDED)
        chosen = 0
        for entry in list(journal.each(states)):
            if entry.state is State.SUCCEEDED and "expired" not in kinds_of(entry):
                continue  # a failed download is taken up again, never paid for again
            if not wanted or wanted & kinds_of(entry):
                journal.write_now(entry, retried(entry), Step.RETRIED, left_behind(entry))
                chosen += 1
        return chosen

    def forget(self) -> int:
        """Begin anew with everything that only the gateway knew; returns how many jobs.

        For simulated gateways that end with their program, as nothing was paid. Never for one that is paid.
        """
        return forget(self._here())

    def note(self, *, source: str | None = None, options: str | None = None) -> None:
        """Keep in the journal what a front wants to know again: the file the jobs came from, settings as JSON."""
        known = {"source": source, "options": options}
        said = {name: value for name, value in known.items() if value is not None}
        if said:
            self._here().note(**said)

    def find(self, key: str) -> Entry | None:
        """Return the job of a name, as the journal keeps it."""
        return self._here().find(key)

    def flush(self) -> None:
        """Wait until everything that was handed to the journal is on disk, a few seconds at most."""
        self._here().flush()

    def entries(self, *states: State) -> Iterator[Entry]:
        """Yield the jobs that stand in one of some states, as the journal keeps them."""
        return self._here().each(states)

    async def reconcile(self) -> Reconciled:
        """Ask the gateway, where it can tell, what became of jobs in doubt.

        What it finds is accepted from then on, and followed by the next run. A gateway that recognises a key is sent
        the same request under it, as long as it surely remembers the key: that makes one job, whether the first
        request was accepted or not.
        """
        self._here()
        async with contextlib.aclosing(self.run()) as run:
            found = await reconciled(run.course)
        self._stopped = None
        return found


def summary_of(journal: Reading) -> Summary:
    """Return what a journal holds."""
    facts, counts = journal.facts(), journal.counts()
    states: dict[str, Any] = {str(state): counts.states.get(state, 0) for state in State}
    return Summary(
        path=journal.path,
        gateway=facts.gateway,
        unit=facts.unit,
        total=sum(states.values()),
        spent=amount_of(counts.spent),
        reserved=amount_of(counts.reserved + counts.doubted),
        **states,
    )


def kinds_of(entry: Entry) -> set[str]:
    """Return every word by which the user may name what went wrong with a job."""
    error = entry.problem()
    words = {str(entry.state)} if entry.state is not State.SUCCEEDED else set()
    while error is not None:
        words |= {type(error).__name__.casefold(), type(error).__name__.casefold().removesuffix("error")}
        words |= {error.code.casefold()} if error.code else set()
        error = error.cause
    return words


def unit_of(session: "KlingSession") -> str:
    """Return the gateway's unit of money."""
    from kling_async.requests import TextToVideo

    with contextlib.suppress(Exception):  # a plug-in's fault must not close the batch
        cost = session.estimate(TextToVideo("a boat"))
        if cost is not None:
            return cost.unit
    return "credits"


def _is_pair(items: Any) -> bool:
    return isinstance(items, tuple) and len(items) == 2 and isinstance(items[0], str)
