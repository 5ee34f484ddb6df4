"""The last lines of a durable run: where the whole batch stands, and the command that goes on."""

from collections.abc import Iterator
from pathlib import Path

from kling_async.batch.summary import Summary
from kling_async.cli.codes import INTERRUPTED, LIMIT, NO_KEY
from kling_async.cli.order import BatchOrder
from kling_async.cli.words import money, one_line
from kling_async.errors import BudgetExceededError, KlingError


def closing_lines(
    order: BatchOrder, summary: Summary, code: int, signal: int | None, failures: Path | None
) -> Iterator[str]:
    """Yield the lines."""
    if signal is not None or code == INTERRUPTED:
        spent = money(summary.spent, summary.unit)
        yield f"Stopped at {summary.done:,} of {summary.total:,}, {spent} spent. Nothing is lost."
    elif summary.stopped is not None and summary.planned:
        yield _why(summary.stopped, code)
    if code == NO_KEY and not order.setup.sandbox:
        yield f"The key that was refused is in {one_line(order.setup.key_source)}."
    if failures is not None:
        yield f"  failures     {one_line(failures)}   (the same columns as your file, plus error)"
    if summary.in_doubt:
        yield f"  unknown      {order.command('reconcile')}   (asks what became of them, where the gateway can tell)"
    if summary.rejected or summary.failed:
        yield f"  again        {order.command('retry')}   (a new attempt for what failed)"
    if summary.unfinished or (summary.succeeded and order.directory is not None):
        more = " --budget MORE" if code == LIMIT and _is_budget(summary.stopped) else ""
        yield f"  go on        {order.command('resume')}{more}"


def standing(summary: Summary) -> str:
    """Return the line for a run that had nothing to do."""
    told = [f"{summary.done:,} of {summary.total:,} done"]
    for number, words in ((summary.failed + summary.rejected, "failed"), (summary.in_doubt, "in doubt")):
        if number:
            told.append(f"{number:,} {words}")
    return f"Nothing is left to do: {', '.join(told)}; {money(summary.spent, summary.unit)} spent."


def _why(stopped: KlingError, code: int) -> str:
    whose = "a limit of yours" if code == LIMIT else "the gateway"
    return f"Stopped by {whose}: {one_line(stopped.message)}; what is not sent stays planned."


def _is_budget(stopped: KlingError | None) -> bool:
    return isinstance(stopped, BudgetExceededError) and stopped.code == "budget"
