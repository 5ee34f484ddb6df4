"""Whether a submit may leave: what the gateway's refusals have taught about its pace and its slots."""

import math

from attrs import define, field

from kling_async.errors import CapacityError, KlingError
from kling_async.flow.backoff import backoff
from kling_async.flow.limits import SLACK
from kling_async.flow.pace import Pace
from kling_async.settings import RetryPolicy

WIDE = 16
"""Slow start: one more request in flight for each that is accepted up to here, then a quarter of that and less."""
PROBES, BLOCKED_SECONDS, BLOCKED_GAPS = 3, 3.0, 4.0
"""So many refused probes over so long, in seconds and in gaps of the known pace, are not a matter of pace."""
PROBE_MOST = 15.0
"""Seconds between two probes of a gateway that refuses everything, at most."""
ASKED_MUCH = 1.0
"""A `Retry-After` of more seconds is a pause of its own, ended by one probe."""
CLIMB_SHARE, CLIMB_LEAST, CLIMB_AGES = 0.02, 5.0, 4.0
"""One submit in fifty tries whether there is another slot, so many seconds apart at least and jobs' ages at most."""
CLIMB_UNKNOWN, CLIMB_UNKNOWN_MOST = 30.0, 120.0
"""Seconds between such tries before any job has ended; doubled each time."""
REFUTED, REFUTED_SHARE = 8, 0.25
"""So many such tries accepted in a row, and this share of the level, say that slots are not what the gateway minds."""
EXPLAINED = 1.2
"""Accepted jobs up to so many times the jobs that have ended are explained by those."""
CUTS, CALM, RANDOM_SECONDS = 5, 30, 300.0
"""Where so many cuts of pace or level did not bring so many accepted jobs in a row, refusals come by chance, whatever
we do: for so many seconds."""
NEVER_CHANCE = 6
"""So many refusals in a row are no chance."""
MEMORY = 0.1
"""The weight of the newest job in the mean duration."""


@define
class Admission:
    """What one account has learned about when the gateway takes another job. Times are seconds of the session's clock.

    A plain 429 may mean too fast or too many. It is told apart by what the gateway does next: while nothing is sent a
    bucket fills by itself, but a slot frees only when a job ends.

    Args:
        policy: bounds every wait.
        window: submits in flight while nothing is known of the pace; infinity where the user has set one.
        paused_until: nothing leaves before, by the gateway's own word.
        pace: what is known of its pace.
        level: how many jobs it runs at once, or None while that does not matter.
        climb_at: when to try whether there is another slot.
        climbs: such tries accepted in a row.
        unknown_climb: seconds until the next try while no job has ended yet.
        probing: everything was refused: one submit at a time tries again, `tries` so far, the next at `probe_at`.
        blocked_since: when that began.
        refuted: how often slots were suspected and refuted.
        was_full: whether slots were ever confirmed.
        streak: refusals in a row.
        cuts: how often pace or level were cut in vain, with an accepted job before each and no calm in between.
        calm: jobs accepted in a row.
        hold_until: no submit leaves before.
        random_until: until then refusals come by chance: they are backed off from, and teach nothing.
        reacted_at: when it was last reacted to a refusal; answers to older requests teach nothing new.
        mean: seconds that jobs take, or None.
        shared: whether looks were refused too: then they count in the gateway's pace.
        slow_downs: looks refused in a row.
    """

    policy: RetryPolicy
    window: float = math.inf
    paused_until: float = -math.inf
    pace: Pace = field(factory=Pace)
    level: int | None = None
    climb_at: float = math.inf
    climbs: int = 0
    unknown_climb: float = CLIMB_UNKNOWN
    probing: bool = False
    probe_at: float = -math.inf
    tries: int = 0
    blocked_since: float = -math.inf
    refuted: int = 0
    was_full: bool = False
    streak: int = 0
    cuts: int = 0
    calm: int = 0
    hold_until: float = -math.inf
    random_until: float = -math.inf
    reacted_at: float = -math.inf
    mean: float | None = None
    shared: bool = False
    slow_downs: int = 0

    def next_submit(self, now: float, in_flight: int, running: int) -> float:
        """Return when the next submit may leave: now or later, or infinity where only an answer or an end can tell.

        Args:
            now: the time.
            in_flight: submits without an answer.
            running: our jobs at the gateway.
        """
        if self.probing:
            return max(now, self.probe_at, self.paused_until) if in_flight == 0 else math.inf
        if self.level is not None and running + in_flight >= self.level:
            when = self.climb_at if in_flight == 0 else math.inf
        else:
            when = now if in_flight < self.window else math.inf
        return max(when, self.paused_until, self.hold_until, self.pace.next_time(now))

    def may_submit(self, now: float, in_flight: int, running: int) -> bool:
        """Tell whether a submit may leave now; see `next_submit`."""
        return self.next_submit(now, in_flight, running) <= now + SLACK

    def next_look(self, now: float) -> float:
        """Return when the next look may leave."""
        when = max(now, self.paused_until)
        return max(when, self.pace.next_time(now)) if self.shared else when

    def submitted(self, now: float) -> None:
        """Take note that a submit leaves."""
        self.pace.take(now)

    def looking(self, now: float) -> None:
        """Take note that a look leaves."""
        if self.shared:
            self.pace.take(now)

    def accepted(self, now: float, sent_at: float, running: int) -> None:
        """Take note that the gateway took a job that was sent at this time; `running` counts it."""
        self.streak = 0
        self.calm += 1
        if self.calm >= CALM:
            self.cuts = 0
        self.pace.accepted()
        if self.window < WIDE:
            self.window += 1
        else:
            self.window += WIDE / 4 / self.window
        if self.probing:
            if sent_at >= self.reacted_at:
                self._unblocked(now, running)
        elif self.level is not None and running > self.level:
            self._climbed(running, late=sent_at < self.reacted_at)

    def _unblocked(self, now: float, running: int) -> None:
        """A probe was accepted."""
        self.probing = False
        if now < self.random_until:
            return
        if self._suspects_slots(now) and running > 1:
            self.was_full = True
            self.level = running
            self.climb_at = now
            self.climbs = 0
        else:
            self.pace.restart(now)

    def _climbed(self, running: int, *, late: bool) -> None:
        """There was another slot."""
        self.level = running
        if late:
            return
        self.climbs += 1
        self.unknown_climb = CLIMB_UNKNOWN
        if self.climbs >= REFUTED + REFUTED_SHARE * running:
            self.level = None
            self.refuted += 1
            self.was_full = self.was_full and self.refuted < 3
            self.pace.forget()
            self.window = 1.0

    def refused(self, now: float, sent_at: float, error: KlingError, *, running: int, jitter: float) -> bool:
        """Take note of a submit that was refused with 429; False if it taught nothing.

        Args:
            now: the time.
            sent_at: when it was sent; if that was before the last reaction, it teaches nothing.
            error: what was answered.
            running: our jobs at the gateway.
            jitter: a random number from 0 to 1.
        """
        taken, self.calm = self.calm, 0
        if sent_at < self.reacted_at:
            return False
        self.reacted_at = now
        self.streak += 1
        asked = min(error.retry_after or 0.0, self.policy.retry_after_cap)
        capacity = isinstance(error, CapacityError)
        if asked and not capacity:
            self.paused_until = max(self.paused_until, now + asked)
        if self.streak >= NEVER_CHANCE:
            self.random_until = -math.inf
        if now < self.random_until and not capacity:
            self._back_off(now, asked, jitter)
        elif running and (capacity or self.level is not None or self._is_full_again(now, running)):
            if capacity or self.level is None or running >= self.level or self.streak > 1:
                self._cut(now, self.streak <= 2 and self.level is not None and running < self.level)
                self._full(now, running, asked)
            else:  # below the level one refusal may be chance
                self.hold_until = now + max(asked, backoff(self.policy, 1, jitter))
        elif self.probing:
            self._still_blocked(now, asked, jitter)
        else:
            first = self.pace.empty_at is None
            self._cut(now, self.pace.refused(now) and taken > 0)
            self.window = 1.0
            if first or self.streak > 1 or asked > ASKED_MUCH or not running:
                self.probing, self.tries, self.blocked_since = True, 0, now
                self._still_blocked(now, asked, jitter)
        return True

    def _cut(self, now: float, cut: bool) -> None:
        """Count a cut that followed an accepted job; a gateway that cuts do not move refuses by chance."""
        self.cuts += cut
        if self.cuts < CUTS:
            return
        self.cuts = 0
        self.random_until = now + RANDOM_SECONDS
        self.pace.forget()

    def _back_off(self, now: float, asked: float, jitter: float) -> None:
        """Refusals come by chance: wait with full jitter, and after two in a row let one go alone."""
        self.level = None
        self.window = max(1.0, min(self.window, 2.0 * WIDE) / 2)
        self.probing = self.streak > 1
        self.probe_at = self.hold_until = now + max(asked, backoff(self.policy, self.streak, jitter))

    def _is_full_again(self, now: float, running: int) -> bool:
        """Tell whether a gateway that was full before is so again: what it took since is what has ended."""
        if not self.was_full or self.probing or self.mean is None:
            return False
        since = self.pace.empty_at
        return since is None or self.pace.acks <= EXPLAINED * running / self.mean * (now - since) + 1

    def _full(self, now: float, running: int, asked: float) -> None:
        """All slots are taken: each job that ends lets one in, and once in a while one tries whether there are more."""
        self.was_full = True
        self.probing = False
        self.level = running
        self.climbs = 0
        self.climb_at = now + max(asked, self._climb_gap(running))

    def _climb_gap(self, running: int) -> float:
        if self.mean is None:
            gap, self.unknown_climb = self.unknown_climb, min(2 * self.unknown_climb, CLIMB_UNKNOWN_MOST)
            return gap
        return min(max(self.mean / (CLIMB_SHARE * running), CLIMB_LEAST), max(CLIMB_LEAST, CLIMB_AGES * self.mean))

    def _still_blocked(self, now: float, asked: float, jitter: float) -> None:
        """Everything is refused: try again later, and later still."""
        self.tries += 1
        wait = min(backoff(self.policy, self.tries, jitter), PROBE_MOST)
        self.probe_at = now + max(asked, wait, min(self.pace.gap, PROBE_MOST))

    def _suspects_slots(self, now: float) -> bool:
        """Tell whether the gateway has refused for longer than any pace would explain."""
        least = max(BLOCKED_SECONDS, BLOCKED_GAPS * self.pace.gap) * 2.0**self.refuted
        return self.tries >= PROBES and now - self.blocked_since >= least

    def ended(self, now: float, seconds: float | None) -> None:
        """Take note that a job has ended, `seconds` after its acceptance if that is known: a slot is free."""
        if seconds is not None:
            self.mean = seconds if self.mean is None else self.mean + MEMORY * (seconds - self.mean)
        if self.probing and self._suspects_slots(now):
            self.probe_at = min(self.probe_at, now)

    def slowed(self, now: float, sent_at: float, error: KlingError, jitter: float) -> None:
        """Take note of a look that was refused with 429: looks count too, and the whole account waits."""
        if sent_at < self.reacted_at:
            return
        self.reacted_at = now
        self.slow_downs += 1
        asked = min(error.retry_after or 0.0, self.policy.retry_after_cap)
        if not self.shared:
            self.shared = True
            self.pace.share(now)
        else:
            self.pace.refused(now)
        self.paused_until = max(self.paused_until, now + max(asked, backoff(self.policy, self.slow_downs, jitter)))

    def looked(self) -> None:
        """Take note that a look was answered."""
        self.slow_downs = 0
        if self.shared:
            self.pace.accepted()
