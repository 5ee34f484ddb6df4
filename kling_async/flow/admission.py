"""Whether a submit may leave: what the gateway's refusals have taught about its pace and its slots."""

import math

from attrs import define, field

from kling_async.errors import CapacityError, KlingError
from kling_async.flow.backoff import backoff
from kling_async.flow.pace import LOWERED, Pace
from kling_async.flow.slots import Slots
from kling_async.settings import RetryPolicy

WIDE = 16
"""Slow start: one more request in flight for each that is accepted up to here, then a quarter of that and less."""
PROBES, BLOCKED_SECONDS, BLOCKED_GAPS = 3, 3.0, 4.0
"""So many refused probes over so long, in seconds and in gaps of the known pace, are not a matter of pace."""
PROBE_MOST = 15.0
"""Seconds between two probes of a gateway that refuses everything, at most."""
ASKED_MUCH = 1.0
"""A `Retry-After` of more seconds is a pause of its own, ended by one probe."""
CUTS, CALM, RANDOM_SECONDS = 5, 30, 300.0
"""Where so many cuts of pace or level did not bring so many accepted jobs in a row, refusals come by chance, whatever
we do: for so many seconds."""
NEVER_CHANCE = 6
"""So many refusals in a row are no chance."""
NO_PACE = 60.0
"""Whoever refuses everything for so many seconds, and for BLOCKED_GAPS gaps of the pace, does not mind the pace."""
RESTED, RESTED_GAPS = 0.5, 3.0
"""Whoever sends nothing for so many seconds, and gaps of the pace, though it might, lets the bucket fill up."""


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
        slots: what is known of how many jobs it runs at once.
        probing: everything was refused: one submit at a time tries again, `tries` so far, the next at `probe_at`.
        blocked_since: when that began.
        before: the sound estimate of the pace when the last refusal came, or None.
        streak: refusals in a row.
        cuts: how often pace or level were cut in vain, with an accepted job before each and no calm in between.
        calm: jobs accepted in a row.
        hold_until: no submit leaves before.
        random_until: until then refusals come by chance: they are backed off from, and teach nothing.
        reacted_at: when it was last reacted to a refusal; answers to older requests teach nothing new.
        sent_at: when the last submit left.
        shared: whether looks were refused too: then they count in the gateway's pace.
        slow_downs: looks refused in a row, the first of them at `slowed_since`.
        look_cuts: how often the pace was cut for looks with no calm in between, from `pace_before`.
        looks_calm: looks answered in a row.
    """

    policy: RetryPolicy
    window: float = math.inf
    paused_until: float = -math.inf
    pace: Pace = field(factory=Pace)
    slots: Slots = field(factory=Slots)
    probing: bool = False
    probe_at: float = -math.inf
    tries: int = 0
    blocked_since: float = -math.inf
    before: float | None = None
    streak: int = 0
    cuts: int = 0
    calm: int = 0
    hold_until: float = -math.inf
    random_until: float = -math.inf
    reacted_at: float = -math.inf
    sent_at: float = math.inf
    shared: bool = False
    slow_downs: int = 0
    slowed_since: float = -math.inf
    look_cuts: int = 0
    pace_before: float = 0.0
    looks_calm: int = 0

    def next_submit(self, now: float, in_flight: int, running: int) -> float:
        """Return when the next submit may leave: now or later, or infinity where only an answer or an end can tell.

        Args:
            now: the time.
            in_flight: submits without an answer.
            running: our jobs at the gateway.
        """
        if self.probing:
            return max(now, self.probe_at, self.paused_until) if in_flight == 0 else math.inf
        when = self.slots.next_submit(now, in_flight, running) if in_flight < self.window else math.inf
        return max(when, self.paused_until, self.hold_until, self.pace.next_time(now))

    def next_look(self, now: float, in_flight: int = 0) -> float:
        """Return when the next look may leave; after two refused in a row one goes alone.

        Args:
            now: the time.
            in_flight: looks without an answer.
        """
        if self.slow_downs > 1 and in_flight:
            return math.inf
        when = max(now, self.paused_until)
        return max(when, self.pace.next_time(now)) if self.shared else when

    def submitted(self, now: float) -> None:
        """Take note that a submit leaves."""
        might = max(self.sent_at, self.paused_until, self.hold_until, self.probe_at)
        if now - might > max(RESTED, RESTED_GAPS * self.pace.gap):
            self.pace.rested()
        self.sent_at = now
        self.pace.take(now)

    def looking(self, now: float) -> None:
        """Take note that a look leaves."""
        if self.shared:
            self.sent_at = now
            self.pace.take(now)

    def accepted(self, now: float, sent_at: float, running: int) -> None:
        """Take note that the gateway took a job that was sent at this time; `running` counts it."""
        self.streak = 0
        self.calm += 1
        if self.calm >= CALM:
            self.cuts = 0
        self.pace.accepted(now)
        if self.window < WIDE:
            self.window += 1
        else:
            self.window += WIDE / 4 / self.window
        if self.probing:
            if sent_at >= self.reacted_at:
                self._unblocked(now, running)
        elif self.slots.accepted(now, running, late=sent_at < self.reacted_at):
            self.pace.forget()
            self.window = 1.0

    def _unblocked(self, now: float, running: int) -> None:
        """A probe was accepted."""
        self.probing = False
        if now < self.random_until:
            return
        if self._suspects_slots(now) and (running > 1 or self.slots.ends):
            self.slots.suspect(now, running)
            self.pace.restore(self.before, now)
        else:
            if self._is_no_pace(now, self.blocked_since):
                self.pace.rested()
            self.pace.restart(now)

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
        elif running and (capacity or self.slots.level is not None or self._is_full_again(now, running)):
            self._full(now, asked, running, capacity=capacity, jitter=jitter)
        elif self.probing:
            self._still_blocked(now, asked, jitter)
        else:
            first = self.pace.estimate is None and self.pace.empty_at is None
            self.before = None if self.pace.young else self.pace.estimate
            self._cut(now, self.pace.refused(now) and taken > 0)
            self.window = 1.0
            if first or self.streak > 1 or asked > ASKED_MUCH or not running:
                self.probing, self.tries, self.blocked_since = True, 0, now
                self.slots.ends = 0
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
        self.slots.forget()
        self.window = max(1.0, min(self.window, 2.0 * WIDE) / 2)
        self.probing = self.streak > 1
        self.probe_at = self.hold_until = now + max(asked, backoff(self.policy, self.streak, jitter))

    def _is_full_again(self, now: float, running: int) -> bool:
        """Tell whether a gateway that was full before is so again: what it took since is what has ended."""
        since = self.pace.empty_at
        if self.probing or not self.slots.confirmed:
            return False
        return since is None or self.slots.explain(self.pace.acks, now - since, running)

    def _full(self, now: float, asked: float, running: int, *, capacity: bool, jitter: float) -> None:
        """All slots are taken, unless that was one refusal below the level, which may be chance."""
        level = self.slots.level
        below = level is not None and running < level
        if below and not capacity and self.streak == 1:
            self.hold_until = now + max(asked, backoff(self.policy, 1, jitter))
            return
        self._cut(now, below and self.streak <= 2)
        self.probing = False
        self.slots.full(now, running, asked)

    def _still_blocked(self, now: float, asked: float, jitter: float) -> None:
        """Everything is refused: try again later, and later still."""
        self.tries += 1
        wait = min(backoff(self.policy, self.tries, jitter), PROBE_MOST)
        self.probe_at = now + max(asked, wait, min(self.pace.gap, PROBE_MOST))

    def _suspects_slots(self, now: float) -> bool:
        """Tell whether the gateway has refused for longer than any pace would explain."""
        least = max(BLOCKED_SECONDS, BLOCKED_GAPS * self.pace.gap) * 2.0**self.slots.refuted
        return self.tries >= PROBES and now - self.blocked_since >= least

    def ended(self, now: float, seconds: float | None, lag: float = 0.0) -> None:
        """Take note that a job has ended: a slot is free; see `Slots.ended`."""
        self.slots.ended(seconds, lag)
        if self.probing and self._suspects_slots(now):
            self.probe_at = min(self.probe_at, now)

    def slowed(self, now: float, sent_at: float, error: KlingError, jitter: float) -> None:
        """Take note of a look that was refused with 429: looks count too, and the whole account waits."""
        if sent_at < self.reacted_at:
            return
        self.reacted_at = now
        self.slow_downs += 1
        asked = min(error.retry_after or 0.0, self.policy.retry_after_cap)
        if self.slow_downs == 1:
            self.slowed_since = now
        if not self.shared:
            self.shared = True
            self.pace.share(now)
        elif now < self.random_until:
            self.pace.restart(now)
        elif self.slow_downs == 1 or (self.slow_downs == 2 and not self.pace.young):  # later ones say nothing new
            self._cut_for_look(now)
        self.looks_calm = 0
        self.paused_until = max(self.paused_until, now + max(asked, backoff(self.policy, self.slow_downs, jitter)))

    def _cut_for_look(self, now: float) -> None:
        """Learn from a refused look; cuts that change nothing are taken back, since refusals come by chance."""
        before = self.pace.estimate
        self.pace.refused(now)
        after = self.pace.estimate
        if before is None or after is None or after >= LOWERED * before:
            return
        if self.look_cuts == 0:
            self.pace_before = before
        self.look_cuts += 1
        if self.look_cuts >= CUTS:
            self.look_cuts = 0
            self.random_until = now + RANDOM_SECONDS
            self.pace.restore(self.pace_before, now)

    def looked(self, now: float) -> None:
        """Take note that a look was answered."""
        if self.slow_downs >= PROBES and self._is_no_pace(now, self.slowed_since):
            self.pace.rested()
        self.slow_downs = 0
        if not self.shared:
            return
        self.looks_calm += 1
        if self.looks_calm >= CALM:
            self.look_cuts = 0
        self.pace.accepted(now)

    def _is_no_pace(self, now: float, since: float) -> bool:
        """Tell whether everything was refused for so long that the pace cannot be why."""
        return now - since >= max(NO_PACE, BLOCKED_GAPS * self.pace.gap)
