"""Drives a durable run from its flags to its exit code: session, batch, signals, screen, summary."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

from attrs import define, evolve, field

from kling_async.batch.amounts import amount_of
from kling_async.batch.batch import Batch
from kling_async.batch.course import Course
from kling_async.batch.entry import Entry
from kling_async.batch.reading import Reading
from kling_async.batch.recovery import resolves
from kling_async.batch.states import State, Step
from kling_async.batch.summary import Summary
from kling_async.cli.codes import INTERRUPTED, LIMIT, WORK_LEFT, code_of_batch
from kling_async.cli.drive import to_conclusion
from kling_async.cli.events import Event
from kling_async.cli.failures import failure_file, write_failures, write_sidecar
from kling_async.cli.order import BatchOrder
from kling_async.cli.output import Output, talk
from kling_async.cli.setup import opened
from kling_async.cli.showing import view_for
from kling_async.cli.signals import signals
from kling_async.cli.stepping import event_of, late, left
from kling_async.cli.store import is_begun
from kling_async.cli.summary import summary_lines
from kling_async.cli.tally import Tally
from kling_async.cli.view import Moment, View
from kling_async.cli.whatnext import Closing, standing
from kling_async.cli.words import count, one_line, span
from kling_async.errors import ConfigurationError, DownloadError, JournalError, KlingError
from kling_async.results import Failure, Outcome
from kling_async.session import KlingSession

TICK_SECONDS = 0.25
DRAIN_SECONDS = 600.0
"""So long a run that is stopped waits for clips that are being made."""


def drive_batch(order: BatchOrder) -> int:
    """Run the order on an event loop of its own and return the exit code."""
    refuse_mixed(order)
    ready = _seeded(order) if order.setup.sandbox else order
    return to_conclusion(lambda concluded: _driven(ready, concluded))


def refuse_mixed(order: BatchOrder) -> None:
    """Keep what is paid and what is simulated apart. Raises `ConfigurationError`."""
    if not is_begun(order.path):
        return
    with Reading(order.path) as journal:
        before = journal.facts().options.get("sandbox")
    if before is not None and before is not order.setup.sandbox:
        was, is_ = ("simulated", "paid for") if before else ("paid for", "simulated")
        raise ConfigurationError(f"{order.path} is a run that was {was}; this one would be {is_}", field="store")


def _seeded(order: BatchOrder) -> BatchOrder:
    """Give the simulation of a later run other task ids than those that the journal knows already."""
    if not is_begun(order.path):
        return order
    with Reading(order.path) as journal:
        return evolve(order, setup=evolve(order.setup, seed=order.setup.seed + journal.newest()))


async def _driven(order: BatchOrder, concluded: Callable[[int], None]) -> int:
    running: list[_Running] = []

    def observe(step: Step, old: Entry, new: Entry) -> None:
        for each in running:
            each.step(step, old, new)

    bounds = order.bounds
    async with opened(order.setup, order.session) as session:
        batch = session.batch(
            order.path,
            budget=bounds.limit,
            download_to=order.directory,
            max_cost_per_job=None if bounds.max_cost_per_job is None else float(bounds.max_cost_per_job),
            max_failures=bounds.max_failures,
            deadline=bounds.deadline,
            observer=observe,
        )
        async with batch:
            said = _prepare(order, batch)
            run = _Running.of(order, session, batch)
            running.append(run)
            with signals(run.on_signal):
                code = await run.go(said)
            concluded(code)
            return code


def _prepare(order: BatchOrder, batch: Batch) -> list[str]:
    """Have the journal know what is to be made, and how."""
    said = []
    if order.setup.sandbox and (forgotten := batch.forget()):
        said.append(f"{count(forgotten, 'job')} of an ended simulation {'is' if forgotten == 1 else 'are'} begun anew")
    batch.note(source=order.source, options=order.options())
    if order.items:
        batch.add(list(order.items))
    if order.prepare is not None and (words := order.prepare(batch)):
        said.append(words)
    return said


@define
class _Running:
    """One run on the screen and on stdout."""

    order: BatchOrder
    session: KlingSession
    batch: Batch
    tally: Tally
    output: Output
    view: View
    rows: dict[str, int] = field(factory=dict)
    stopped: int | None = field(default=None, init=False)
    broken: str = field(default="", init=False)
    _made: set[int] = field(factory=set, init=False)
    _announced: bool = field(default=False, init=False)
    _resting: float = field(default=0.0, init=False)

    @classmethod
    def of(cls, order: BatchOrder, session: KlingSession, batch: Batch) -> "_Running":
        """Return the run of an opened batch."""
        tally = Tally(0, asyncio.get_running_loop().time(), left_out=order.left_out, recorded=True)
        output = Output(events=order.look.json, urls=order.directory is None)
        run = cls(order, session, batch, tally, output, view_for(order.look, tally, output))
        summary = run._asked()
        tally.total = summary.unfinished + (summary.succeeded if order.directory is not None else 0)
        return run

    async def go(self, said: list[str]) -> int:
        """Run the batch to its end, or, after a signal, what the gateway has."""
        self._begin(said)
        ticking = asyncio.create_task(self._tick())
        try:
            async with contextlib.aclosing(self.batch.run(only=self.only)) as run:
                async for outcome in run:
                    self._take(outcome)
        except JournalError as error:
            self.broken = one_line(error.message, 500)
        except BaseException:
            self.view.end()
            raise
        finally:
            ticking.cancel()
        return self.conclude()

    @property
    def only(self) -> frozenset[str] | None:
        """The names of the jobs that are asked for; rows of an earlier file that are in this one no more are not."""
        return self.order.only or frozenset(item.key for item in self.order.items) or None

    def _asked(self) -> Summary:
        """Return where the batch stands; of what is planned, only what is asked for counts."""
        summary, only = self.batch.summary(), self.only
        if only is None or not summary.planned:
            return summary
        return evolve(summary, planned=sum(entry.key in only for entry in self.batch.entries(State.PLANNED)))

    def _begin(self, said: list[str]) -> None:
        order, summary = self.order, self._asked()
        shown = "stdin" if order.source == "-" else Path(order.source).name if order.source else order.run
        where = f" to {order.directory}" if order.directory is not None else ""
        simulated = " (sandbox)" if order.setup.sandbox else ""
        ended = summary.downloaded + summary.rejected + summary.failed + summary.in_doubt
        ended += 0 if order.directory is not None else summary.succeeded
        before = f"   {ended:,} of {summary.total:,} ended before" if ended else ""
        title = (
            f"{order.run}   {order.setup.name}{simulated}   {count(self.tally.total, 'job')} of {shown}{where}{before}"
        )
        facts = {"jobs": self.tally.total, "gateway": self.session.gateway.name, "sandbox": order.setup.sandbox}
        self.output.tell("started", run=order.run, **facts)
        self.view.begin(one_line(title))
        for words in said:
            self.view.say(words)

    def step(self, step: Step, old: Entry, new: Entry) -> None:
        """Show a step of a job."""
        if new.row is not None:
            self.rows[new.key] = new.row
        event = event_of(step, old, new, self.order.directory)
        if step is Step.SUCCEEDED:
            self._made.add(new.id)
        elif step is Step.DOWNLOADED and new.id not in self._made:
            self.tally.counts["succeeded"] += 1  # made by an earlier run
        if event is not None:
            self._happened(event)
        if step is Step.DOWNLOADED and self.order.sidecar:
            self._sidecar(new)

    def _sidecar(self, entry: Entry) -> None:
        assert self.order.directory is not None  # noqa: S101 - something was downloaded
        try:
            write_sidecar(self.order.directory, entry)
        except OSError as error:
            self.broken = f"a sidecar cannot be written: {error.strerror or type(error).__name__}"

    def _take(self, outcome: Outcome) -> None:
        """Show an outcome that is no step in the journal: one that is late."""
        if isinstance(outcome, Failure):
            event = late(outcome, self._row_of(outcome.key), self.order.command("resume"))
            if event is not None:
                self._happened(event)

    def _row_of(self, key: str) -> int:
        if key not in self.rows and (entry := self.batch.find(key)) is not None:
            self.rows[key] = entry.row if entry.row is not None else entry.id
        return self.rows.get(key, 0)

    def _happened(self, event: Event) -> None:
        self.tally.take(event, asyncio.get_running_loop().time())
        self.output.take(event)
        self.view.take(event)

    async def _tick(self) -> None:
        while True:
            stats, course = self.session.stats, self.batch.under_way
            now = asyncio.get_running_loop().time()
            finishing = course.finishing if course is not None else 0
            self.view.tick(Moment(now, stats.slots, stats.used, stats.refused, finishing))
            asked = course.stop_asked if course is not None else None
            if asked is not None and self.stopped is None:
                self.on_signal(WORK_LEFT)
            if course is not None:
                self._tell_trouble(course)
            if asked == "now":
                self.leave()
            await asyncio.sleep(TICK_SECONDS)

    def _tell_trouble(self, course: Course) -> None:
        """Say once that the run stops by itself, and each time it rests."""
        if course.stopped is not None and not self._announced and self.stopped is None:
            self._announced = True
            self.view.say(f"Stopping: {one_line(course.stopped.message)}; nothing new is sent.")
        rest = course.rest
        if rest.why is not None and rest.until != self._resting:
            self._resting = rest.until
            words = one_line(rest.why.message)
            self.view.say(f"The gateway takes nothing at present ({words}); trying again in {span(rest.seconds)}")

    # Stopping.

    def on_signal(self, code: int) -> None:
        """Drain at the first signal; leave at once at a Ctrl-C that follows one."""
        if self.stopped is None:
            self.stopped = code
            self._drain()
        elif code == INTERRUPTED:
            self.stopped = INTERRUPTED
            self.leave()

    def _drain(self) -> None:
        self.batch.stop()
        course = self.batch.under_way
        making = course.making if course is not None else 0
        self.output.tell("stopping", making=making)
        made = f" {count(making, 'clip is', 'clips are')} being made and already paid for." if making else ""
        self.view.say(f"Stopping: no new submissions.{made}")
        self._announced = True
        if making:
            again = "Ctrl-C again to leave now; " if self.stopped == INTERRUPTED else ""
            them = "it stays" if making == 1 else "they stay"
            minutes = f"{DRAIN_SECONDS / 60:.0f} min"
            self.view.say(
                f"  waiting for {'it' if making == 1 else 'them'}, up to {minutes}  ({again}{them} on record)"
            )
        asyncio.get_running_loop().call_later(DRAIN_SECONDS, self.leave)

    def leave(self) -> None:
        """Leave at once. Everything is on record; what is being sent at this moment will be in doubt."""
        course = self.batch.under_way
        for entry in course.under_way() if course is not None else ():
            self._happened(left(entry))
        self.batch.flush()
        code = self.conclude()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue
        os._exit(code)

    # The end.

    def conclude(self) -> int:
        """Say what came of it and return the exit code."""
        self.view.end()
        self.output.through = None
        summary = self._asked()
        self.tally.counts["not_sent"] = summary.planned
        full = isinstance(summary.stopped, DownloadError)
        failures = self._failures()
        code = code_of_batch(
            summary,
            downloads=self.order.directory is not None,
            signal=self.stopped,
            broken=bool(self.broken or self.output.broken or full),
            fail_under=self.order.bounds.fail_under,
        )
        now = asyncio.get_running_loop().time()
        names = ("succeeded", "failed", "in_doubt", "late", "not_sent", "downloaded", "download_failed")
        facts = {name: self.tally.counts[name] for name in names}
        spent = {"credits": f"{self.tally.spent:f}", "unpriced": self.tally.unpriced}
        self.output.tell(
            "summary",
            run=self.order.run,
            jobs=self.tally.total,
            invalid=self.tally.left_out,
            **facts,
            **spent,
            batch=summary.to_dict(),
            seconds=round(now - self.tally.began, 3),
            exit_code=code,
        )
        if not self.order.look.quiet or code:
            gateway = self.session.gateway.name
            lines = summary_lines(self.tally, now, gateway) if self.tally.total else [standing(summary)]
            closing = Closing(
                order=self.order,
                summary=summary,
                whole=self.batch.summary(),
                code=code,
                signal=self.stopped,
                failures=failures,
                shown=self.tally.total,
                resolves=resolves(self.session.gateway),
                needed=self._needed() if code == LIMIT else None,
            )
            for line in [*lines, *closing.lines()]:
                talk(line)
        for words in (self.broken, self.output.broken):
            if words:
                talk(words)
        return code

    def _needed(self) -> Decimal | None:
        """Return the budget that everything planned would need; None where a price is not known."""
        summary = self.batch.summary()
        prices = [entry.estimate for entry in self.batch.entries(State.PLANNED)]
        known = [price for price in prices if price is not None]
        return summary.spent + summary.reserved + amount_of(sum(known)) if len(known) == len(prices) else None

    def _failures(self) -> Path | None:
        """Write the rows that failed beside the videos; returns where, if there are any."""
        if self.order.directory is None:
            return None
        path = failure_file(self.order.directory, self.order.run, self.order.source)
        try:
            return path if write_failures(path, self.batch.entries(State.REJECTED, State.FAILED)) else None
        except (OSError, KlingError) as error:
            self.broken = self.broken or f"the file of failed rows cannot be written: {one_line(error)}"
            return None
