"""How long jobs take, learned from looks: a law of durations from events and exposure, in logarithmic bins.

A look that finds a job running tells that it did not end since the look before: that is exposure. A look that finds it
ended tells when, exactly or between two looks: that is an event. Events over exposure are the hazard, and the hazard is
the law. Counting exposure instead of jobs keeps the law right while most jobs have not ended yet.
"""

import json
import math
from bisect import bisect_right
from collections.abc import Hashable, Iterable, Sequence
from itertools import pairwise

from attrs import define, field

from kling_async.requests import Request

RATIO = 1.12
"""Each bin is so many times as wide as the one before it."""
HORIZON = 14_400.0
"""Seconds: the last bin begins here; what runs on beyond it is looked at by its age alone."""
EDGES = (0.0, *(RATIO**power for power in range(math.ceil(math.log(HORIZON, RATIO)) + 1)))
BINS = len(EDGES) - 1
MEMORY = 500.0
"""Events after which an old one counts a third (1/e), so that the law follows a gateway that changes."""
PRIOR_JOBS, PRIOR_JOBS_LEAST = 4.0, 0.4
"""So many jobs the prior weighs at first, and when much is known."""
PRIOR_MEDIAN, PRIOR_SHAPE = 90.0, 2.0
"""What is believed of jobs that nobody has seen: log-logistic, with this median in seconds."""
EVEN_JOBS, EVEN_LEAST = 5.0, 0.03
"""After so many jobs the law so far decides half of when a job ended between two looks, and later all but this part."""
FRESH_EVENTS, FRESH_LOOKS = 10, 200
"""The law is computed anew after so many events, or looks without one, at most once a second."""
KINDS_TOLD, REMEMBERED_JOBS, SANE = 64, 200.0, 1e12
"""So many kinds are told to another process, and what it has seen counts as so many jobs at most."""
KINDS = 256
"""So many kinds of jobs are told apart; the rest share one law."""

# The law may be wrong: the first look comes when nine of ten have ended at the latest, and no later gap is longer
# than this, in seconds and in ages.
SURELY = 0.9
GAP, GAP_OF_AGE = 10.0, 0.35

_TINY = 1e-9


def _log_logistic(seconds: float) -> float:
    return float(1 / (1 + (seconds / PRIOR_MEDIAN) ** PRIOR_SHAPE))


def _bin(age: float) -> int:
    return min(bisect_right(EDGES, age), BINS) - 1


@define
class Cells:
    """Events and exposure (seconds at risk) in each bin."""

    events: list[float] = field(factory=lambda: [0.0] * BINS)
    exposure: list[float] = field(factory=lambda: [0.0] * BINS)

    def add(self, other: "Cells", weight: float = 1.0) -> None:
        """Add what other jobs have shown."""
        self.events = [mine + weight * theirs for mine, theirs in zip(self.events, other.events, strict=True)]
        self.exposure = [mine + weight * theirs for mine, theirs in zip(self.exposure, other.exposure, strict=True)]

    @property
    def jobs(self) -> float:
        """How many jobs have ended."""
        return sum(self.events)

    def told(self) -> list[tuple[int, float, float]]:
        """Return the bins in which anything was seen, with events and exposure."""
        bins = enumerate(zip(self.events, self.exposure, strict=True))
        return [(place, float(f"{seen:.4g}"), float(f"{risk:.4g}")) for place, (seen, risk) in bins if seen or risk]

    @classmethod
    def of(cls, told: Iterable[Sequence[float]]) -> "Cells":
        """Read what `told` has written. Raises `ValueError` for anything else."""
        made = cls()
        for place, seen, risk in told:
            if not (math.isfinite(seen) and math.isfinite(risk) and 0 <= seen <= SANE and 0 <= risk <= SANE):
                raise ValueError("no process has seen that")
            made.events[int(place)] = float(seen)
            made.exposure[int(place)] = float(risk)
        return made


def _prior() -> Cells:
    """Return what one job of the prior would show on average."""
    alive = [_log_logistic(edge) for edge in EDGES]
    events = [first - second for first, second in pairwise(alive)]
    exposure = [
        (second - first) * (alive_first + alive_second) / 2
        for (first, second), (alive_first, alive_second) in zip(pairwise(EDGES), pairwise(alive), strict=True)
    ]
    return Cells(events, exposure)


PRIOR = _prior()


class Law:
    """A law of durations: the chance `done(age)` to have ended, and the expected time since the end.

    Args:
        hazards: the chance per second to end now, in each bin.
    """

    __slots__ = ("_areas", "_done", "_surely")

    def __init__(self, hazards: Sequence[float]) -> None:
        alive, area = 1.0, 0.0
        done, areas = [0.0], [0.0]
        for (first, second), hazard in zip(pairwise(EDGES), hazards, strict=True):
            risk = hazard * (second - first)
            left = alive * max(0.0, 1 - risk / (1 + risk / 2))  # a life table's: those who end do so halfway
            area += (second - first) * (1 - (alive + left) / 2)
            alive = left
            done.append(1 - alive)
            areas.append(area)
        self._done = done
        self._areas = areas
        self._surely = self.age_at(SURELY)

    def done(self, age: float) -> float:
        """Return the chance that a job of this age (seconds) has ended."""
        place = _bin(age)
        first, second = self._done[place], self._done[place + 1]
        return min(first + (second - first) * (age - EDGES[place]) / (EDGES[place + 1] - EDGES[place]), second)

    def age_at(self, chance: float) -> float:
        """Return the age at which jobs have ended with this chance, or the horizon."""
        place = bisect_right(self._done, chance) - 1
        if place >= BINS:
            return EDGES[-1]
        first, second = self._done[place], self._done[place + 1]
        return EDGES[place] + (EDGES[place + 1] - EDGES[place]) * (chance - first) / max(second - first, _TINY)

    def due(self, seen: float, price: float) -> float:
        """Return the first age at which a job's expected time of being ended unnoticed reaches the price.

        Args:
            seen: the age at which it was last seen running.
            price: seconds, above 0.

        That is where ``(I(a) - I(u) - F(u)(a - u)) / S(u) = price``, with ``I`` the integral of ``F``: to leading order
        looks as dense as the square root of the hazard over twice the price, which is the optimum for one job, and it
        remembers what chance has already passed.
        """
        place = _bin(seen)
        base = self.done(seen)
        alive = 1 - base
        if alive < 1e-6 or seen >= EDGES[-1]:
            return seen + max(GAP, GAP_OF_AGE * seen)  # nobody was ever seen to take so long
        slope = self._slope(place)
        soon = seen + math.sqrt(2 * price * alive / max(slope, _TINY))
        if soon <= EDGES[place + 1]:
            return soon
        gone = seen - EDGES[place]
        goal = price * alive + self._areas[place] + gone * (self._done[place] + base) / 2 - base * seen
        place = self._last_below(goal, base, place + 1)
        return EDGES[place] + self._within(place, goal, base)

    def _last_below(self, goal: float, base: float, low: int) -> int:
        """Return the last bin at whose beginning the goal is not reached yet."""
        high = BINS
        while high - low > 1:
            middle = (low + high) // 2
            if self._areas[middle] - base * EDGES[middle] < goal:
                low = middle
            else:
                high = middle
        return min(low, BINS - 1)

    def _within(self, place: int, goal: float, base: float) -> float:
        """Solve for the time within a bin, where the chance is a straight line and its area a parabola."""
        rise = self._done[place] - base
        need = goal - (self._areas[place] - base * EDGES[place])
        root = math.sqrt(rise * rise + 2 * self._slope(place) * max(need, 0.0))
        return min(2 * max(need, 0.0) / max(root + rise, _TINY), EDGES[place + 1] - EDGES[place])

    def _slope(self, place: int) -> float:
        return (self._done[place + 1] - self._done[place]) / (EDGES[place + 1] - EDGES[place])

    def due_at_most(self, seen: float, price: float) -> float:
        """Return `due`, or earlier, for a law that may be wrong: when nine of ten have ended, or a gap later."""
        return min(self.due(seen, price), max(self._surely, seen + max(GAP, GAP_OF_AGE * seen)))

    def width(self, seen: float) -> float:
        """Return the seconds within which the middle half of the jobs that still run at this age will end."""
        alive = 1 - self.done(seen)
        return self.age_at(1 - 0.25 * alive) - self.age_at(1 - 0.75 * alive)

    def looks(self, price: float, shortest: float, most: int = 64) -> float:
        """Return how many looks a job takes on average at a price, never two closer than `shortest` seconds."""
        age = max(self.due_at_most(0.0, price), shortest)
        total = 1.0
        for _ in range(most):
            alive = 1 - self.done(age)
            if alive < 0.005:
                break
            total += alive
            age = max(self.due_at_most(age, price), age + shortest)
        return total


@define(eq=False)
class Learner:
    """What the looks at one kind of jobs have shown, and the law that follows from it.

    Args:
        family: the learner of a wider kind, whose jobs are the prior of this one; None for the widest.
        jobs: how many have ended.
    """

    family: "Learner | None" = None
    jobs: float = 0.0
    _cells: Cells = field(factory=Cells)
    _steps: list[float] = field(factory=lambda: [0.0] * (BINS + 1))
    _members: "list[Learner]" = field(factory=list)
    _weight: float = 1.0
    _law: Law | None = None
    _new: int = 0
    _made_at: float = -math.inf

    def member(self) -> "Learner":
        """Return a learner of a narrower kind within this one."""
        made = Learner(self)
        self._members.append(made)
        return made

    def running(self, since: float, age: float) -> None:
        """Take note that a job of this age is still running, last seen so at the age `since`."""
        self._expose(since, age)
        self._new += 1

    def ended(self, since: float, age: float, exact: float | None = None) -> None:
        """Take note that a job has ended after `since` and by `age`, or exactly then if the gateway says when."""
        if exact is not None:
            exact = min(max(exact, since), age)
            self._expose(since, exact)
            self._cells.events[_bin(exact)] += self._weight
        else:
            self._spread(since, age)
        self._count(1)
        self._weight *= 1 + 1 / MEMORY
        if self._weight > 1e6:
            self._rescale()
        self._new += FRESH_LOOKS // FRESH_EVENTS

    def _expose(self, since: float, age: float) -> None:
        """Add time at risk; whole bins are kept as steps up and down, so that a long span costs no more."""
        if age <= since:
            return
        first, last = _bin(since), _bin(age)
        exposure, weight = self._cells.exposure, self._weight
        if first == last:
            exposure[first] += weight * (age - since)
            return
        exposure[first] += weight * (EDGES[first + 1] - since)
        exposure[last] += weight * (age - EDGES[last])
        self._steps[first + 1] += weight
        self._steps[last] -= weight

    def _spread(self, since: float, age: float) -> None:
        """Share one event among the bins in which it may have been: evenly at first, then more as the law says."""
        first, last = _bin(since), _bin(age)
        marks = [since, *EDGES[first + 1 : last + 1], age] if age > since else [since, since]
        chance = self._law.done(age) - self._law.done(since) if self._law is not None else 0.0
        even = max(EVEN_LEAST, EVEN_JOBS / (EVEN_JOBS + self.jobs))
        left = 1.0
        for place, (low, high) in enumerate(pairwise(marks), start=first):
            share = (high - low) / (age - since) if age > since else 1.0
            if self._law is not None and chance > _TINY:
                share += (1 - even) * ((self._law.done(high) - self._law.done(low)) / chance - share)
            self._cells.events[place] += self._weight * share
            self._cells.exposure[place] += self._weight * (high - low) * (left - share / 2)
            left -= share

    def _rescale(self) -> None:
        factor = 1 / self._weight
        self._cells.events = [value * factor for value in self._cells.events]
        self._cells.exposure = [value * factor for value in self._cells.exposure]
        self._steps = [value * factor for value in self._steps]
        self._weight = 1.0

    @property
    def own(self) -> Cells:
        """Events and exposure so far, an event of now counting as one, without those of members."""
        factor = 1 / self._weight
        span = 0.0
        exposure = []
        for place, seconds in enumerate(self._cells.exposure):
            span += self._steps[place]
            exposure.append(factor * max(0.0, seconds + span * (EDGES[place + 1] - EDGES[place])))
        return Cells([factor * value for value in self._cells.events], exposure)

    def shown(self) -> Cells:
        """Return events and exposure so far, an event of now counting as one; of all members, if there are any."""
        whole = self.own
        for member in self._members:
            whole.add(member.shown())
        return whole

    def remember(self, cells: Cells) -> None:
        """Take over what an earlier process has seen."""
        share = min(1.0, REMEMBERED_JOBS / max(cells.jobs, _TINY))
        self._cells.add(cells, share * self._weight)
        self._count(share * cells.jobs, anew=True)

    def _count(self, jobs: float, *, anew: bool = False) -> None:
        """Count jobs here and in every wider kind; `anew` drops the laws, which are then made at once."""
        learner: Learner | None = self
        while learner is not None:
            learner.jobs += jobs
            if anew:
                learner._law = None
            learner = learner.family

    def law(self, now: float) -> Law:
        """Return the law as it is known now; computed anew at most once a second."""
        if self._law is None or (self._new >= FRESH_LOOKS and now - self._made_at >= 1.0):
            self._law = Law(self._hazards())
            self._new = 0
            self._made_at = now
        return self._law

    def _hazards(self) -> list[float]:
        cells = self._believed()
        return [events / max(exposure, _TINY) for events, exposure in zip(cells.events, cells.exposure, strict=True)]

    def _believed(self) -> Cells:
        """Return what was seen, together with what is believed beforehand."""
        cells = self.shown()
        weight = max(PRIOR_JOBS_LEAST, PRIOR_JOBS * 10 / (10 + cells.jobs))
        cells.add(self.family.prior() if self.family is not None else PRIOR, weight)
        return cells

    def prior(self) -> Cells:
        """Return what one job of this kind shows on average: the prior of the kinds within it."""
        cells = self._believed()
        one = Cells()
        one.add(cells, 1 / max(cells.jobs, _TINY))
        return one


class Durations:
    """The laws of all kinds of jobs of an account. A kind is a path, from wide to narrow: model, then the rest."""

    def __init__(self) -> None:
        self.all = Learner()
        self._kinds: dict[tuple[Hashable, ...], Learner] = {(): self.all}

    def of(self, *kind: Hashable) -> Learner:
        """Return the learner of a kind; kinds beyond the first 256 share the one of their family."""
        known = self._kinds.get(kind)
        if known is None:
            family = self.of(*kind[:-1])
            known = family.member() if len(self._kinds) < KINDS else family
            if len(self._kinds) < KINDS:
                self._kinds[kind] = known
        return known

    def told(self) -> str:
        """Return what was learned, as JSON for `remember`: the kinds that were seen most, at most 64 of them."""
        kinds = sorted(self._kinds.items(), key=lambda item: -item[1].own.jobs)[:KINDS_TOLD]
        return json.dumps([[kind, learner.own.told()] for kind, learner in kinds if learner.own.jobs])

    def remember(self, told: str) -> None:
        """Take over what another process has learned; what cannot be understood is left out."""
        try:
            for kind, cells in json.loads(told)[:KINDS_TOLD]:
                self.of(*map(_hashable, kind)).remember(Cells.of(cells))
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError):
            return


def _hashable(value: object) -> Hashable:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError("no kind is named like that")


def of_request(request: Request) -> tuple[Hashable, Hashable]:
    """Return the kind of a request: what is made with which model, then what else decides how long that takes."""
    seconds, sound = getattr(request, "duration", None), getattr(request, "sound", None)
    return (type(request).__name__, request.model), (seconds, request.quality, sound)
