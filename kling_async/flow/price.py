"""What a look is worth: the user's price, lower while others wait for a slot, higher while looks are scarce."""

import math

from attrs import define, field

from kling_async.flow.durations import Learner

SECONDS = 5.0
"""The price is judged anew so often."""
MEMORY = 60.0
"""Seconds over which the rate of accepted jobs is averaged."""
SHARE = 0.97
"""So much of the looks that the account allows is planned for."""
FLOOR = 0.2
"""Of all requests at least this share is for looks, however many jobs wait to be sent."""
CHEAPEST = 0.2
"""While slots are scarce the price falls to this part of the user's, not further."""
FEW, FEWEST = 10, 0.3
"""With fewer jobs than this looks are few whatever they cost, and what was made of a batch waits for its last ones: the
price falls with their number, to this part of the user's."""
DEAREST = 600.0
KINDS = 24
"""So many kinds of jobs, the most frequent ones, stand for all."""
LATE = 0.5
TRIM_LEAST, TRIM_MOST = 0.8, 3.0
TRIM_STEP = 0.005


@define
class Demand:
    """How many jobs of one kind are accepted per second, averaged over a minute."""

    rate: float = 0.0
    at: float = -math.inf

    def count(self, now: float) -> None:
        """Count a job."""
        self.rate = self.current(now) + 1 / MEMORY
        self.at = now

    def current(self, now: float) -> float:
        """Return jobs per second."""
        return self.rate * math.exp(-(now - self.at) / MEMORY) if self.rate else 0.0


@define
class Scarcity:
    """What limits looks at this moment.

    Args:
        requests: requests per second that the account may make, looks and submits together; infinity for no limit.
        left: requests that are left of a long quota, or infinity.
        running: jobs at the gateway.
        waiting: jobs that wait to be sent.
        slots: jobs that may run at once, if that is what the waiting ones wait for; else None.
        late: seconds by which the next look is overdue.
    """

    requests: float = math.inf
    left: float = math.inf
    running: int = 0
    waiting: int = 0
    slots: int | None = None
    late: float = 0.0


@define
class Price:
    """The price of a look in seconds of waiting.

    Args:
        own: the user's, `PollPlan.price`.
        shortest: seconds between two looks at one job, at least.
        value: the price in force.
        judged_at: when that was judged.
        trim: a factor from 0.8 to 3 that makes up for what the arithmetic does not see.
    """

    own: float
    shortest: float
    value: float = field(init=False)
    judged_at: float = -math.inf
    trim: float = 1.0
    demands: dict[Learner, Demand] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.value = self.own

    def accepted(self, kind: Learner, now: float) -> None:
        """Take note of a job that will have to be looked at."""
        self.demands.setdefault(kind, Demand()).count(now)

    def stale(self, now: float) -> bool:
        """Tell whether the price should be judged anew."""
        return now - self.judged_at >= SECONDS

    def judge(self, now: float, scarcity: Scarcity) -> None:
        """Set the price by what limits looks now.

        An idle slot delays every waiting job by the time divided by the slots, so that a look is then worth less
        waiting; few jobs need few looks; and the looks that follow from the price never exceed what the account allows.
        """
        passed = min(now - self.judged_at, 2 * SECONDS)
        self.judged_at = now
        low = self.own * max(FEWEST, min(1.0, scarcity.running / FEW))
        if scarcity.slots and scarcity.waiting:
            low = max(CHEAPEST * self.own, min(low, self.own / (1 + scarcity.waiting / scarcity.slots)))
        behind = scarcity.late > max(LATE, self.value / 4)
        step = (1 + TRIM_STEP) ** passed
        self.trim = min(TRIM_MOST, self.trim * step) if behind else max(TRIM_LEAST, self.trim / step)
        allowed = self._allowed(now, scarcity)
        self.value = low if allowed == math.inf else max(low, min(DEAREST, self._least(now, low, allowed) * self.trim))

    def _allowed(self, now: float, scarcity: Scarcity) -> float:
        """Return how many looks one accepted job may take on average."""
        jobs = sum(demand.current(now) for demand in self.demands.values())
        jobs = max(jobs, 1e-9)
        looks = SHARE * max(FLOOR * scarcity.requests, scarcity.requests - jobs)
        outstanding = scarcity.running + scarcity.waiting
        of_quota = (scarcity.left - scarcity.waiting) / max(1, outstanding)
        return min(looks / jobs, max(1.0, of_quota))

    def _least(self, now: float, low: float, allowed: float) -> float:
        """Return the lowest price, not below `low`, at which a job takes no more looks than allowed."""
        mix = self._mix(now)

        def looks(price: float) -> float:
            return sum(share * kind.law(now).looks(price, self.shortest) for share, kind in mix)

        if looks(low) <= allowed:
            return low
        high = DEAREST
        for _ in range(12):
            middle = math.sqrt(low * high)
            if looks(middle) <= allowed:
                high = middle
            else:
                low = middle
        return high

    def _mix(self, now: float) -> list[tuple[float, Learner]]:
        """Return the kinds that are being made most, with the share of each in all of them."""
        rates = ((demand.current(now), kind) for kind, demand in self.demands.items())
        most = sorted(rates, key=lambda each: each[0], reverse=True)[:KINDS]
        whole = sum(rate for rate, _ in most)
        return [(rate / whole, kind) for rate, kind in most] if whole > 0 else []
