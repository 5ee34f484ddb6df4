"""The last lines of a durable run: where the whole batch stands, and the command that goes on."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from attrs import frozen

from kling_async.batch.summary import Summary
from kling_async.cli.codes import INTERRUPTED, LIMIT, NO_KEY
from kling_async.cli.order import BatchOrder
from kling_async.cli.words import count, money, one_line
from kling_async.errors import BudgetExceededError, DownloadError, KlingError


@frozen
class Closing:
    """What the last lines of a run are about.

    Args:
        order: what was asked for.
        summary: where the batch stands; of what is planned, only what was asked for.
        whole: where the batch stands with everything.
        code, signal: the exit code, and that of the signal that stopped the run, or None.
        failures: the file of the rows that failed, or None.
        shown: jobs that the summary above was about.
        resolves: whether the gateway can tell what became of a job in doubt.
        needed: the budget that everything planned would need, or None.
    """

    order: BatchOrder
    summary: Summary
    whole: Summary
    code: int
    signal: int | None
    failures: Path | None
    shown: int
    resolves: bool
    needed: Decimal | None

    def lines(self) -> Iterator[str]:
        """Yield the lines."""
        order, summary = self.order, self.summary
        if self.signal is not None or self.code == INTERRUPTED:
            spent = money(summary.spent, summary.unit)
            safe = "Nothing is lost." if not summary.in_doubt + summary.submitting else "Everything is on record."
            yield f"Stopped at {summary.done:,} of {summary.total:,}, {spent} spent. {safe}"
        elif summary.stopped is not None and summary.planned:
            yield _why(summary.stopped, self.code)
        if self.shown and self.whole.total != self.shown:
            yield f"The whole run: {_stands(self.whole)}."
        if self.code == NO_KEY and not order.setup.sandbox:
            yield f"The key that was refused is in {one_line(order.setup.key_source)}."
        yield from self._next()

    def _next(self) -> Iterator[str]:
        order, summary = self.order, self.summary
        if self.failures is not None:
            yield f"  failures     {one_line(self.failures)}   (the same columns as your file, plus error)"
        if summary.in_doubt:
            gateway = one_line(summary.gateway, 60)
            told = f"asks {gateway}" if self.resolves else f"says when they were sent; {gateway} cannot tell more"
            yield f"  in doubt     {order.command('reconcile')}   ({told})"
        if summary.rejected or summary.failed:
            yield f"  again        {order.command('retry')}   (a new attempt for what failed)"
        gone = self.whole.planned - summary.planned if order.items else 0
        if gone:
            rows = count(gone, "row that is no longer in the file stays", "rows that are no longer in the file stay")
            yield f"  {rows} planned; resume sends them"
        if summary.unfinished or (summary.succeeded and order.directory is not None):
            budget = self.code == LIMIT and _is_budget(summary.stopped) and self.needed is not None
            more = f" --budget {self.needed:f}" if budget else ""
            yield f"  go on        {order.command('resume')}{more}"


def _stands(summary: Summary) -> str:
    parts = [
        (summary.failed + summary.rejected, "failed"),
        (summary.accepted + summary.submitting, "being made"),
        (summary.in_doubt, "in doubt"),
        (summary.planned, "not sent"),
    ]
    told = [f"{number:,} {words}" for number, words in parts if number]
    held = f", {money(summary.reserved, summary.unit)} reserved or in doubt" if summary.reserved else ""
    done = f"{summary.done:,} of {summary.total:,} done"
    return f"{', '.join([done, *told])}; {money(summary.spent, summary.unit)} spent{held}"


def standing(summary: Summary) -> str:
    """Return the line for a run that had nothing to do."""
    return f"Nothing is left to do: {_stands(summary)}."


def _why(stopped: KlingError, code: int) -> str:
    whose = "a limit of yours" if code == LIMIT else "the disk" if isinstance(stopped, DownloadError) else "the gateway"
    return f"Stopped by {whose}: {one_line(stopped.message)}; what is not sent stays planned."


def _is_budget(stopped: KlingError | None) -> bool:
    return isinstance(stopped, BudgetExceededError) and stopped.code == "budget"
