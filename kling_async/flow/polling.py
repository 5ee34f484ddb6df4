"""When to look at a running job. A look costs a request, and waiting costs time: the price says how they compare."""

import math
from typing import NamedTuple

from kling_async.flow.durations import PRIOR_MEDIAN, Law
from kling_async.settings import PollPlan

# Some jobs end at once, most of them by moderation: until jobs of a kind are known, one early look, and no gap more
# than twice the age after it.
EARLY = 5.0
KNOWN_JOBS = 10
# So many first looks come earlier than the law says, to find out when jobs have become faster.
EXPLORED = 0.04


class Forecast(NamedTuple):
    """What the gateway says of a job's end.

    Args:
        age: how old the job was when it was said, in seconds.
        left: how long it then still had to run, in seconds, above 0.
        kind: how that is known: "eta" or "progress".
    """

    age: float
    left: float
    kind: str

    def scaled(self, age: float) -> float:
        """Return an age in units of the forecast, so that a job which keeps to it ends at the prior's median."""
        return PRIOR_MEDIAN * (age - self.age) / self.left


def forecast(age: float, progress: float | None, eta: float | None) -> Forecast | None:
    """Return what an answer says of a job's end, or None.

    Args:
        age: seconds since acceptance.
        progress: how far the job is, 0.0 to 1.0, or None.
        eta: seconds until the gateway expects the end, or None; one that has passed is no help.
    """
    if eta is not None and eta > 0:
        return Forecast(age, eta, "eta")
    if progress is not None and 0 < progress < 1 and age > 0:
        return Forecast(age, age * (1 - progress) / progress, "progress")
    return None


class Sight(NamedTuple):
    """What is known for planning a look.

    Args:
        law: how long jobs of this kind take.
        known: whether that was learned from enough of them.
        price: how many seconds of waiting one look is worth now; not below the user's while looks are scarce.
        promised: what the gateway says of this job's end, or None.
        kept: how such promises were kept so far, a law over `Forecast.scaled` ages; None without a promise.
    """

    law: Law
    known: bool
    price: float
    promised: Forecast | None = None
    kept: Law | None = None


def first_look(plan: PollPlan, sight: Sight, chance: float = 1.0) -> float:
    """Return seconds from acceptance to the first look.

    Args:
        plan: `first` decides if it is given; `minimum` and `maximum` bound what is computed.
        sight: what is known.
        chance: a random number from 0 to 1; below 0.04 the look comes early, to find out whether jobs became faster.
    """
    if plan.first is not None:
        return min(plan.first, plan.maximum)
    wait = _due(sight, 0.0)
    if _is_new(plan, sight):
        wait = min(wait, EARLY * plan.price)
    wait = _bounded(plan, sight, wait)
    if chance < EXPLORED and not _is_scarce(plan, sight):
        wait = plan.minimum * (wait / plan.minimum) ** (chance / EXPLORED)
    return wait


def next_look(plan: PollPlan, sight: Sight, age: float, missed: int = 0) -> float:
    """Return seconds until the next look at a job that is still running at this age.

    Args:
        plan: bounds and price.
        sight: what is known.
        age: seconds since acceptance at the last look.
        missed: looks in a row that brought no answer; the first is repeated after `minimum`, each later one after twice
            as long.
    """
    if missed:
        return _bounded(plan, sight, plan.minimum * float(2 ** min(missed - 1, 30)))
    wait = _due(sight, age) - age
    if _is_new(plan, sight):
        wait = min(wait, EARLY * plan.price + 2 * age)
    return _bounded(plan, sight, wait)


def _is_new(plan: PollPlan, sight: Sight) -> bool:
    """Tell whether to look early, since nothing is known of such jobs; not where looks are scarce."""
    return not sight.known and sight.promised is None and not _is_scarce(plan, sight)


def _is_scarce(plan: PollPlan, sight: Sight) -> bool:
    return sight.price > 2 * plan.price


def _due(sight: Sight, age: float) -> float:
    """Return the age at which the expected time of being ended unnoticed reaches the price."""
    promised = sight.promised
    if promised is None or sight.kept is None:
        return sight.law.due_at_most(age, sight.price)
    unit = PRIOR_MEDIAN / promised.left
    if sight.known and sight.kept.width(promised.scaled(age)) / unit > sight.law.width(age):
        return sight.law.due_at_most(age, sight.price)  # such promises say less than the job's age
    return promised.age + sight.kept.due_at_most(promised.scaled(age), sight.price * unit) / unit


def spread(plan: PollPlan, wait: float, jitter: float) -> float:
    """Return the wait, shorter by up to a tenth: jobs that began together are not asked together."""
    return max(wait * (0.9 + 0.1 * jitter), min(wait, plan.minimum))


def _bounded(plan: PollPlan, sight: Sight, wait: float) -> float:
    """Keep the plan's bounds; the longest gap gives way only where the account's rate allows no more looks."""
    scarcity = math.sqrt(max(1.0, sight.price / plan.price))
    return min(max(wait, plan.minimum), plan.maximum * scarcity)
