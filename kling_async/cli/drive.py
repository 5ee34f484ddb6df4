"""Drives a run from its flags to its exit code: loop, session, signals, screen, summary."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from kling_async.cli.codes import INTERRUPTED, code_of_run
from kling_async.cli.output import Output, talk
from kling_async.cli.reading import Named
from kling_async.cli.runner import Run
from kling_async.cli.setup import Setup, opened
from kling_async.cli.showing import Look, view_for
from kling_async.cli.signals import signals
from kling_async.cli.summary import summary_lines
from kling_async.cli.tally import Tally
from kling_async.cli.words import fetch_command, one_line
from kling_async.errors import AuthenticationError
from kling_async.session import KlingSession

Prepare = Callable[[KlingSession], Awaitable[Sequence[Named]]]


@frozen(kw_only=True)
class Order:
    """What is to be made, and how it is shown.

    Args:
        jobs: what is to be made, or followed.
        directory, target: where videos go; see `Run`.
        title: names the run on the screen.
        prepare: returns the jobs once the session is open, before they are sent.
        session: the session, if it is made already; not entered.
        left_out: rows of the file that are not valid and left out.
    """

    jobs: Sequence[Named]
    setup: Setup
    look: Look
    title: str
    directory: Path | None = None
    target: Path | None = None
    prepare: Prepare | None = None
    session: KlingSession | None = None
    left_out: int = 0


def drive(order: Order) -> int:
    """Run the order on an event loop of its own and return the exit code."""
    return to_conclusion(lambda concluded: _driven(order, concluded))


def to_conclusion(work: Callable[[Callable[[int], None]], Coroutine[Any, Any, int]]) -> int:
    """Run something on an event loop of its own; it calls its argument once it has said what came of it."""
    concluded: list[int] = []
    try:
        return on_loop(work(concluded.append))
    except KeyboardInterrupt:
        if not concluded:
            raise
        return INTERRUPTED  # while the session was closing


def on_loop(work: Coroutine[Any, Any, int]) -> int:
    """Run a coroutine on an event loop of its own, uvloop's where it is installed."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    with contextlib.suppress(ImportError):
        from uvloop import new_event_loop

        factory = new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


async def _driven(order: Order, concluded: Callable[[int], None]) -> int:
    loop = asyncio.get_running_loop()
    async with opened(order.setup, order.session) as session:
        jobs = await order.prepare(session) if order.prepare else order.jobs
        tally = Tally(len(jobs), loop.time(), left_out=order.left_out)
        output = Output(events=order.look.json, urls=order.directory is None and order.target is None)
        view = view_for(order.look, tally, output)
        run = Run(session, jobs, tally, view, output, directory=order.directory, target=order.target)
        closing = _Closing(order, run)
        with signals(closing.on_signal):
            output.tell("started", jobs=len(jobs), gateway=session.gateway.name, sandbox=order.setup.sandbox)
            try:
                view.begin(order.title)
                await run.go()
            except BaseException:
                view.end()
                closing.name_unfinished()
                raise
            code = closing.conclude()
            concluded(code)
            return code


@frozen
class _Closing:
    """The end of a run, however it comes."""

    order: Order
    run: Run

    def on_signal(self, code: int) -> None:
        """Stop at the first signal; leave at once at a Ctrl-C that follows one."""
        if self.run.stopped is None:
            self.run.stop(code)
        elif code == INTERRUPTED:
            self.run.stopped = INTERRUPTED
            self.run.abandon()
            self._exit(self.conclude())

    def conclude(self) -> int:
        """Say what came of it and return the exit code."""
        run, tally = self.run, self.run.tally
        run.view.end()
        run.output.through = None
        code = code_of_run(tally, stopped=run.stopped, broken=bool(run.output.broken))
        now = asyncio.get_running_loop().time()
        names = ("succeeded", "failed", "in_doubt", "late", "not_sent", "downloaded", "download_failed")
        facts = {name: tally.counts[name] for name in names}
        spent = {"credits": f"{tally.spent:f}", "unpriced": tally.unpriced}
        seconds = round(now - tally.began, 3)
        run.output.tell(
            "summary", jobs=tally.total, invalid=tally.left_out, **facts, **spent, seconds=seconds, exit_code=code
        )
        if not self.order.look.quiet or tally.troubles:
            for line in summary_lines(tally, now, run.session.gateway.name):
                talk(line)
        refused = any(isinstance(event.error, AuthenticationError) for event in tally.troubles)
        if refused and not self.order.setup.sandbox:
            talk(f"The key that was refused is in {one_line(self.order.setup.key_source)}.")
        if run.output.broken:
            talk(run.output.broken)
        return code

    def name_unfinished(self) -> None:
        """Something unforeseen ends the program: name what the gateway has, so that no id is lost."""
        for job in self.run.session.unfinished:
            if job.task_id is not None:
                talk(f"still being made at the gateway: {one_line(job.key, 80)}   {fetch_command(job.task_id)}")

    def _exit(self, code: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                continue
        os._exit(code)
