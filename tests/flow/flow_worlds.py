"""Gateways as a few numbers, and one that sends to them as an `Admission` lets it. Time is a number too."""

import heapq
import math
from itertools import count
from random import Random

from kling_async.errors import RateLimitError
from kling_async.flow.admission import Admission
from kling_async.flow.limits import SLACK
from kling_async.settings import RetryPolicy


class TokenBucket:
    """A gateway that minds the pace, exactly: the accepted requests of a window are its rate and its burst."""

    def __init__(self, rate, burst):
        self.rate, self.burst = rate, burst
        self._tokens, self._at = burst, 0.0

    def set_rate(self, rate, now):
        self._fill(now)
        self.rate = rate

    def takes(self, now, running=0):
        self._fill(now)
        taken = self._tokens >= 1 - SLACK
        self._tokens -= taken
        return taken

    def _fill(self, now):
        self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now


class Slots:
    """A gateway that runs so many jobs at once."""

    def __init__(self, slots):
        self.slots = slots

    def takes(self, now, running):
        return running < self.slots


class Chance:
    """A gateway that refuses this share by chance, and otherwise does as another one."""

    def __init__(self, share, random, other=None):
        self.share, self.random, self.other = share, random, other

    def takes(self, now, running):
        return self.random.random() >= self.share and (self.other is None or self.other.takes(now, running))


class Never:
    """A gateway that takes this many jobs and then none."""

    def __init__(self, jobs=0):
        self.jobs = jobs

    def takes(self, now, running):
        self.jobs -= 1
        return self.jobs >= 0


class World:
    """Sends for ever what an admission lets go; each job runs for a while and is seen to end at once.

    Args:
        gateway: it `takes` a request or not.
        rtt: seconds of a request.
        lasts: returns how many seconds a job runs.
        seed: of the jitter.
        error: makes a refusal.
        watch: is called with the world after every answer.
    """

    def __init__(self, gateway, *, rtt=0.05, lasts=lambda: 60.0, seed=0, error=RateLimitError, watch=None, window=1.0):
        self.gateway, self.rtt, self.lasts, self.error, self.watch = gateway, rtt, lasts, error, watch
        self.random = Random(seed)
        self.admission = Admission(RetryPolicy(), window)
        self.now = 0.0
        self.running = self.there = self.in_flight = 0
        self.accepted, self.refused = [], []
        self._events, self._number = [], count()

    @property
    def requests(self):
        return len(self.accepted) + len(self.refused)

    def run(self, seconds=math.inf, requests=math.inf):
        """Go on for so many seconds, or requests answered."""
        until, answered = self.now + seconds, self.requests + requests
        while self.requests < answered:
            when = self.admission.next_submit(self.now, self.in_flight, self.running)
            assert when >= self.now
            if when <= self.now + SLACK:
                self._send()
                continue
            step = min(when, self._events[0][0] if self._events else math.inf)
            assert step < math.inf, "nothing will ever happen again"
            if step > until:
                self.now = until
                return self
            self.now = step
            self._let_happen(step)
        return self

    def rest(self, seconds):
        """Send nothing for so many seconds."""
        self._let_happen(self.now + seconds)
        self.now += seconds
        return self

    def _let_happen(self, until):
        while self._events and self._events[0][0] <= until:
            when, _, what, args = heapq.heappop(self._events)
            self.now, back = when, self.now
            what(*args)
            self.now = max(when, back)

    def _later(self, seconds, what, *args):
        heapq.heappush(self._events, (self.now + seconds, next(self._number), what, args))

    def _send(self):
        self.admission.submitted(self.now)
        self.in_flight += 1
        self._later(self.rtt / 2, self._arrive, self.now)

    def _arrive(self, sent_at):
        taken = self.gateway.takes(self.now, self.there)
        if taken:
            self.there += 1
            lasts = self.lasts()
            self._later(lasts, self._end, lasts)
        self._later(self.rtt / 2, self._answer, sent_at, taken)

    def _end(self, lasts):
        self.there -= 1
        self._later(self.rtt / 2, self._notice, lasts)

    def _notice(self, lasts):
        self.running -= 1
        self.admission.ended(self.now, lasts)

    def _answer(self, sent_at, taken):
        self.in_flight -= 1
        if taken:
            self.running += 1
            self.accepted.append(self.now)
            self.admission.accepted(self.now, sent_at, self.running)
        else:
            self.refused.append(self.now)
            jitter = self.random.random()
            self.admission.refused(self.now, sent_at, self.error(), running=self.running, jitter=jitter)
        if self.watch is not None:
            self.watch(self)
