"""How long jobs take: the log-normal law, and how soon anybody can notice an end with so many looks a job."""

import math
from collections.abc import Iterator, Sequence
from random import Random

from attrs import define, field, frozen


@frozen
class LogNormal:
    """Durations whose logarithm is normal.

    Args:
        median: in seconds.
        sigma: of the logarithm.
    """

    median: float
    sigma: float

    @property
    def mean(self) -> float:
        """The mean in seconds."""
        return self.median * math.exp(self.sigma**2 / 2)

    def below(self, age: float) -> float:
        """Return the share of jobs that take less than this long."""
        return 0.5 * math.erfc(-self._normal(age) / math.sqrt(2)) if age > 0 else 0.0

    def density(self, age: float) -> float:
        """Return the density per second at this age."""
        if age <= 0:
            return 0.0
        return math.exp(-(self._normal(age) ** 2) / 2) / (age * self.sigma * math.sqrt(2 * math.pi))

    def draws(self, random: Random) -> Iterator[float]:
        """Draw durations without end."""
        centre = math.log(self.median)
        while True:
            yield random.lognormvariate(centre, self.sigma)

    def longest(self) -> float:
        """Return an age that practically no job reaches, in seconds."""
        return self.median * math.exp(6 * self.sigma)

    def _normal(self, age: float) -> float:
        return math.log(age / self.median) / self.sigma


@frozen
class Noticing:
    """What a schedule of looks comes to.

    Args:
        looks: looks per job, the one that finds it ended included.
        delay: mean seconds from the end to that look.
    """

    looks: float
    delay: float


def root_integral(law: LogNormal, step: float = 0.05) -> float:
    """Return J, the integral of the root of density times survival, in root seconds."""
    ages = (step * (number + 0.5) for number in range(int(law.longest() / step)))
    return step * sum(math.sqrt(law.density(age) * max(0.0, 1 - law.below(age))) for age in ages)


def bound(law: LogNormal, looks: float) -> float:
    """Return J^2 / 2m, the delay in seconds to which the best schedule of m looks a job tends where m is large.

    For few looks the best is worse, since a job cannot be looked at a fraction of once; `Schedules` finds it.
    """
    return root_integral(law) ** 2 / (2 * looks)


def fixed(law: LogNormal, interval: float) -> Noticing:
    """Return what looks at every multiple of `interval` seconds come to."""
    looks, number = 0.0, 0
    while (alive := 1 - law.below(number * interval)) > 1e-9:
        looks += alive
        number += 1
    return Noticing(looks, interval * looks - law.mean)


@define
class Schedules:
    """Finds by dynamic programming the ages at which to look at a job, on a grid of ages.

    Args:
        law: how long jobs take.
        step: the grid, in seconds.
    """

    law: LogNormal
    step: float = 0.5
    _below: list[float] = field(init=False)
    _area: list[float] = field(init=False)

    def __attrs_post_init__(self) -> None:
        count = int(self.law.longest() / self.step) + 1
        self._below = [self.law.below(number * self.step) for number in range(count)]
        self._area = [0.0]
        for left, right in zip(self._below, self._below[1:], strict=False):
            self._area.append(self._area[-1] + self.step * (left + right) / 2)

    def best(self, price: float) -> list[int]:
        """Return for each age of a look that found the job running when to look next, as places on the grid.

        Args:
            price: how many seconds of delay a look is worth.

        The value of an age is the least that is still to be paid by jobs that are alive there; one look more costs
        the price for each of them, and each that ends before it waits for it.
        """
        last = len(self._below) - 1
        value = [0.0] * (last + 1)
        following = [last] * (last + 1)
        reach = last
        for age in range(last - 1, -1, -1):
            paid = price * (1 - self._below[age])
            area, below = self._area[age], self._below[age]
            found, place = math.inf, last
            for later in range(age + 1, reach + 1):
                waited = self._area[later] - area - below * (later - age) * self.step
                total = waited + value[later]
                if total < found:
                    found, place = total, later
            value[age], following[age] = paid + found, place
            reach = place  # the next look of a younger job is never later than that of an older one
        return following

    def ages(self, price: float) -> list[float]:
        """Return the ages of the looks at a job, in seconds."""
        following = self.best(price)
        places, last = [following[0]], len(following) - 1
        while places[-1] < last:
            places.append(following[places[-1]])
        return [place * self.step for place in places]

    def noticing(self, ages: Sequence[float]) -> Noticing:
        """Return what looks at these ages come to."""
        looks, delay, before = 0.0, 0.0, 0.0
        for age in ages:
            looks += 1 - self.law.below(before)
            delay += self._ended(age) - self._ended(before) - self.law.below(before) * (age - before)
            before = age
        return Noticing(looks, delay)

    def _ended(self, age: float) -> float:
        return self._area[min(len(self._area) - 1, round(age / self.step))]

    def with_looks(self, looks: float) -> Noticing:
        """Return the best that can be had with so many looks a job, two schedules mixed where none has as many."""
        more, fewer = (self.noticing(self.ages(price)) for price in self.prices(looks))
        share = (looks - fewer.looks) / (more.looks - fewer.looks) if more.looks != fewer.looks else 0.0
        return Noticing(looks, fewer.delay + share * (more.delay - fewer.delay))

    def prices(self, looks: float) -> tuple[float, float]:
        """Return a price at which the best schedule has more looks a job than this, and one at which it has fewer."""
        low, high = 1e-4, 1e4
        for _ in range(30):
            price = math.sqrt(low * high)
            if self.noticing(self.ages(price)).looks > looks:
                low = price
            else:
                high = price
        return low, high
