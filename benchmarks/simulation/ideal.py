"""What a client would do that knows the limits, submits the moment it may and knows an outcome the moment it is there.

With the durations given in the order of acceptance, nobody can have any job accepted earlier than this client, so its
makespan is a lower bound, and its submit span as well. Requests take it no time.
"""

from collections.abc import Sequence

from attrs import frozen

from benchmarks.simulation.limits import SLACK, Limit, Slots
from benchmarks.simulation.worlds import World


@frozen
class Ideal:
    """The lower bounds of one run, in seconds.

    Args:
        makespan: until the last outcome.
        span: until the last acceptance.
    """

    makespan: float
    span: float


def ideal(world: World, seed: int) -> Ideal:
    """Return the lower bounds of a world.

    Where looks take from the same allowance, each job needs at least one, so that no client is done before twice as
    many requests as jobs are through.
    """
    makespan, span = 0.0, 0.0
    limits = world.drawn(seed)
    for duration in world.durations(seed):
        span = _earliest(limits, span)
        for limit in limits:
            limit.take(span, span + duration)
        makespan = max(makespan, span + duration)
    return Ideal(max(makespan, _twice(world, seed)), span)


def _twice(world: World, seed: int) -> float:
    if not world.manners.counts_polls:
        return 0.0
    limits = tuple(limit for limit in world.drawn(seed) if not isinstance(limit, Slots))
    now = 0.0
    for _ in range(2 * world.jobs):
        now = _earliest(limits, now)
        for limit in limits:
            limit.take(now, now)
    return now


def _earliest(limits: Sequence[Limit], now: float) -> float:
    """Return when all limits allow a request."""
    while (due := max(limit.next_time(now) for limit in limits)) > now + SLACK:
        now = due
    return now
