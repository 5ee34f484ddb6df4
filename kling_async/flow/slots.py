"""How many jobs a gateway runs at once, learned from its refusals: jobs that end let others in, few tries find more."""

import math

from attrs import define

CLIMB_SHARE, CLIMB_LEAST, CLIMB_AGES = 0.02, 5.0, 4.0
"""One submit in fifty tries whether there is another slot, so many seconds apart at least and jobs' ages at most."""
CLIMB_UNKNOWN, CLIMB_UNKNOWN_MOST = 30.0, 120.0
"""Seconds between such tries before any job has ended; doubled each time."""
REFUTED, REFUTED_SHARE = 8.0, 0.25
"""So many such tries accepted, and this share of the level, say that slots are not what the gateway minds."""
DOUBTED_GAP, DOUBTED_GROWTH, DOUBTED_MOST, DOUBTED_CLIMBS = 2.0, 1.5, 15.0, 3.0
"""While slots are only suspected tries come after so many seconds, each refused one makes that longer, and so many
accepted ones, without as many jobs having ended, refute them."""
AT_ONCE = 1.0
"""A refusal within so many seconds of a try that was accepted says little: a small bucket may have been emptied."""
EXPLAINED = 1.2
"""Accepted jobs up to so many times the jobs that have ended are explained by those."""
MEMORY = 0.1
"""The weight of the newest job in the mean duration."""


@define
class Slots:
    """The jobs that a gateway runs at once, as far as its refusals have taught. Times are seconds.

    Args:
        level: how many jobs it runs at once, or None while that does not matter.
        doubted: whether that is only suspected: no job was seen to end that would explain what was accepted.
        climb_at: when to try whether there is another slot.
        climbs: such tries that were accepted, less those refused right after.
        climbed_at: when the last one was accepted.
        gap: seconds between such tries while slots are suspected, or before any job has ended.
        hurry: makes tries more frequent, down to a tenth, while they succeed.
        ends: jobs that have ended since slots were suspected.
        refuted: how often slots were refuted.
        confirmed: whether slots were ever confirmed.
        mean: seconds that jobs take, or None.
        lag: seconds from a job's end until it is known, on average.
        borrowed: tries that were accepted for want of news: a job had ended unseen, whose slot they took.
    """

    level: int | None = None
    doubted: bool = False
    climb_at: float = math.inf
    climbs: float = 0.0
    climbed_at: float = -math.inf
    gap: float = CLIMB_UNKNOWN
    hurry: float = 1.0
    ends: int = 0
    refuted: int = 0
    confirmed: bool = False
    mean: float | None = None
    lag: float = 0.0
    borrowed: float = 0.0

    def next_submit(self, now: float, in_flight: int, running: int) -> float:
        """Return when a submit may leave: now, or at the level once in a while to try for more; infinity: not yet."""
        if self.level is None or running + in_flight < self.level:
            return now
        return max(now, self.climb_at) if in_flight == 0 else math.inf

    def suspect(self, now: float, running: int) -> None:
        """All slots seem to be taken: nothing was accepted for longer than any pace would explain."""
        self.level = running
        self.doubted = self.ends == 0
        self.confirmed = self.confirmed or not self.doubted
        self.climbs = 0.0
        self.gap = DOUBTED_GAP
        self.climb_at = now + DOUBTED_GAP if self.doubted else now

    def full(self, now: float, running: int, asked: float = 0.0) -> None:
        """A submit was refused for want of a slot: each job that ends lets one in, and now and then one tries for more.

        Args:
            now: the time.
            running: our jobs at the gateway.
            asked: seconds that the gateway asks to wait.
        """
        below = self.level is None or running < self.level
        if below:
            self.borrowed = 0.0
        self.level = running
        if self.doubted and not below and not self.ends:
            self.gap = min(DOUBTED_GROWTH * self.gap, DOUBTED_MOST)
            self.climb_at = now + max(asked, self.gap)
            return
        self.doubted = False
        self.confirmed = True
        if below or now - self.climbed_at > AT_ONCE:
            self.climbs, self.hurry = 0.0, 1.0
        else:
            self.climbs, self.hurry = self.climbs - 0.5, max(0.1, self.hurry / 2)
        self.climb_at = now + max(asked, self._climb_gap(running))

    def _climb_gap(self, running: int) -> float:
        if self.mean is None:
            gap, self.gap = max(self.gap, CLIMB_UNKNOWN), min(2 * max(self.gap, CLIMB_UNKNOWN), CLIMB_UNKNOWN_MOST)
            return gap
        gap = min(self.mean / (CLIMB_SHARE * running), CLIMB_AGES * self.mean)
        return max(gap * self.hurry, CLIMB_LEAST)

    def accepted(self, now: float, running: int, *, late: bool) -> bool:
        """Take note of a job that the gateway took; True if that refutes that slots are what it minds.

        Args:
            now: the time.
            running: our jobs at the gateway, this one included.
            late: it was sent before the last refusal was known, so that it shows no new slot.
        """
        if self.level is None or running <= self.level:
            return False
        self.level = running
        if late:
            return False
        self.climbs += 1
        self.climbed_at = now
        if self.mean is not None:
            self.borrowed = min(self.borrowed + 1, running / max(self.mean, 1.0) * self.lag)
        if self.doubted:
            self.climb_at = now + self.gap
            refuted = self.climbs >= DOUBTED_CLIMBS and self.climbs > 2 * self.ends
        else:
            self.climb_at = now
            refuted = self.climbs >= REFUTED + REFUTED_SHARE * running
        if refuted:
            self.forget()
            self.refuted += 1
            self.confirmed = self.confirmed and self.refuted < 3
        return refuted

    def forget(self) -> None:
        """Let as many jobs run as are accepted."""
        self.level, self.doubted, self.ends = None, False, 0
        self.climbs, self.hurry, self.gap, self.borrowed = 0.0, 1.0, CLIMB_UNKNOWN, 0.0

    def ended(self, seconds: float | None, lag: float = 0.0) -> None:
        """Take note that a job has ended.

        Args:
            seconds: its age then, if that is known.
            lag: about how long ago that was, in seconds.
        """
        self.ends += 1
        self.lag += MEMORY * (lag - self.lag)
        if self.level is not None and self.borrowed >= 1:
            self.borrowed -= 1
            self.level -= 1  # its slot is taken already
        if seconds is not None:
            self.mean = seconds if self.mean is None else self.mean + MEMORY * (seconds - self.mean)

    def explain(self, accepted: int, seconds: float, running: int) -> bool:
        """Tell whether so many jobs accepted within so many seconds are just those for which others have ended."""
        if not self.confirmed or self.mean is None:
            return False
        return accepted <= EXPLAINED * running / self.mean * seconds + 1
