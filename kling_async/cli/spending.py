"""Before money is spent: what it should cost, and the user's word for it."""

import sys
from collections.abc import Iterable
from decimal import Decimal

import click
from attrs import frozen

from kling_async.cli.output import talk
from kling_async.cli.showing import is_terminal
from kling_async.cli.words import count, money
from kling_async.errors import KlingError
from kling_async.gateways.protocol import Gateway
from kling_async.requests import Request


@frozen
class Price:
    """What some jobs should cost: the sum of the known prices, how many are unknown, and the unit."""

    jobs: int
    total: Decimal
    unknown: int
    unit: str

    def __str__(self) -> str:
        if self.unknown and not self.total:
            return "a price that the gateway does not publish"
        rest = f" and {count(self.unknown, 'job')} of unknown price" if self.unknown else ""
        return f"about {money(self.total, self.unit)}{rest}"


def priced(gateway: Gateway, requests: Iterable[Request]) -> Price:
    """Price requests, as far as prices are known; what the gateway does not take costs nothing."""
    total, unknown, unit, jobs = Decimal(0), 0, "credits", 0
    for request in requests:
        jobs += 1
        try:
            cost = gateway.estimate(request)
        except KlingError:  # it will fail before it is sent
            continue
        if cost is None:
            unknown += 1
        else:
            total, unit = total + cost.amount, cost.unit
    return Price(jobs, total, unknown, unit)


def agreed(
    price: Price, budget: Decimal | str | None, *, yes: bool, what: str = "Start", held: Decimal = Decimal(0)
) -> bool:
    """Have the user's word before real money is spent.

    Without a terminal nobody can be asked: then `--yes` and `--budget` must say it. Raises `click.UsageError`.

    Args:
        price: what is to be sent.
        budget: the limit in force; "none" for an explicit one of none, None where nobody named one.
        yes: whether the flag was given.
        what: the verb of the question.
        held: what earlier jobs of the run take of the budget.
    """
    if budget not in (None, "none") and price.unknown:
        unknown = count(price.unknown, "job has a price", "jobs have a price")
        raise click.UsageError(f"{unknown} that nobody knows, so a budget cannot be kept: leave it out, or the jobs.")
    asks = is_terminal(sys.stdin) and is_terminal(sys.stderr)
    if not asks:
        missing = [flag for flag, given in (("--yes", yes), ("--budget", budget is not None)) if not given]
        if missing:
            jobs = count(price.jobs, "job costs", "jobs cost")
            words = f"Nobody can be asked here, and {jobs} {price}: give {' and '.join(missing)}."
            raise click.UsageError(f"{words} (`--budget none` for no limit.)")
        return True
    if yes:
        return True
    stops = ""
    if budget not in (None, "none"):
        used = f", of which {money(held, '').strip()} are used" if held else ""
        stops = f" (stops at {money(Decimal(str(budget)), price.unit)}{used})"
    if click.confirm(f"{what} {count(price.jobs, 'job')} for {price}{stops}?", default=False, err=True):
        return True
    talk("Nothing was sent.")
    return False
