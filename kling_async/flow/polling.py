"""When to look at a running job. A look costs a request, and waiting costs time: the price says how they compare."""

import math

from kling_async.settings import PollPlan

# How long jobs take before anything is learned: log-logistic, this median in seconds, shape 2.
MEDIAN = 90.0
# Some jobs end at once, most of them by moderation: one early look, and no gap more than twice the age after it.
EARLY = 5.0


def hazard(age: float, median: float = MEDIAN) -> float:
    """Return the chance per second that a job of this age (seconds) ends now."""
    ratio = age / median
    return 2 * ratio / (median * (1 + ratio * ratio))


def first_look(plan: PollPlan, eta: float | None = None, median: float = MEDIAN) -> float:
    """Return seconds from acceptance to the first look.

    Args:
        plan: `first` decides if it is given; `minimum` and `maximum` bound what is computed.
        eta: seconds until the gateway expects the job to end, or None.
        median: how long jobs like this take, in seconds.

    Looks are best spread as the square root of the hazard over twice the price. The first one is due where that
    density has added up to one look, or early, for the jobs that end at once.
    """
    if plan.first is not None:
        return min(plan.first, plan.maximum)
    if eta is not None and eta > 0:
        return _bounded(plan, eta)
    return _bounded(plan, min(EARLY * plan.price, (1.5 * median * math.sqrt(plan.price)) ** (2 / 3)))


def next_look(
    plan: PollPlan,
    age: float,
    *,
    progress: float | None = None,
    eta: float | None = None,
    missed: int = 0,
    median: float = MEDIAN,
) -> float:
    """Return seconds until the next look at a job that is still running.

    Args:
        plan: bounds and price.
        age: seconds since acceptance.
        progress: how far the gateway says it is, 0.0 to 1.0.
        eta: seconds until the gateway expects the end; None or past is no help.
        missed: looks in a row that brought no answer; each doubles the wait.
        median: how long jobs like this take, in seconds.
    """
    wait = min(math.sqrt(2 * plan.price / max(hazard(age, median), 1e-9)), EARLY * plan.price + 2 * age)
    if eta is not None and eta > 0:
        wait = eta
    elif progress is not None and 0 < progress < 1 and age > 0:
        wait = age * (1 - progress) / progress
    return _bounded(plan, wait * 2.0 ** min(missed, 30))


def spread(plan: PollPlan, wait: float, jitter: float) -> float:
    """Return the wait moved by up to a tenth either way, so that jobs that began together are not asked together."""
    return _bounded(plan, wait * (0.9 + 0.2 * jitter))


def _bounded(plan: PollPlan, wait: float) -> float:
    return min(max(wait, plan.minimum), plan.maximum)
