"""The sandbox itself: every dialect, the account and the videos, without a clock and without a socket."""

import math
import threading
from collections import Counter, deque
from collections.abc import Collection
from heapq import heappop, heappush
from random import Random
from typing import Any

from attrs import define, field

from kling_async.sandbox.faults import Action, Operation, Rule, Script
from kling_async.sandbox.files import File
from kling_async.sandbox.jobs import MILLI, Order, Task, credits_of
from kling_async.sandbox.ledger import Ledger
from kling_async.sandbox.limits import Buckets, Quota
from kling_async.sandbox.pages import route
from kling_async.sandbox.wire import Call, Reply

FIRST_DAY = 1_767_225_600.0
"""2026-01-01T00:00:00Z: where wall-clock times start when no `epoch` is given and no server sets one."""


@define(eq=False, kw_only=True)
class Sandbox:
    """A gateway that speaks all four dialects: `reply = sandbox.handle(call, now)`.

    `now` is seconds of any monotonic clock, so a test can drive it in virtual time. May be used from several threads.

    seed: everything random follows from it (ids, durations, shares of faults). Default 0.
    speed: durations are divided by it. Default 1.
    median, sigma: a task lasts a log-normal time with this median in seconds. Defaults 90 and 0.4.
    balance: credits in the account, None for endless. Default None.
    rate, burst: calls a second for each key, and how many at once (default a quarter of a second's worth, at least 2);
        above it 429. Default None, no limit.
    max_running: tasks that may run at once; above it 429. Default None, no limit.
    daily_quota: submits a UTC day for each key at klinggenerator, told in X-RateLimit-Remaining. Default None.
    api_keys: the keys that are let in, None for any that is not empty. Default None.
    epoch: Unix seconds at `now == 0`, for the timestamps in answers. Default: a server sets it from the wall clock;
        without a server 2026-01-01T00:00:00Z.
    public_url: the origin of the links to videos; a server sets it.
    """

    seed: int = 0
    speed: float = 1.0
    median: float = 90.0
    sigma: float = 0.4
    balance: float | None = None
    rate: float | None = None
    burst: float | None = None
    max_running: int | None = None
    daily_quota: int | None = None
    api_keys: Collection[str] | None = field(default=None, repr=False)
    epoch: float | None = None
    public_url: str | None = None
    ledger: Ledger = field(init=False, repr=False, factory=Ledger)
    tasks: dict[str, Task] = field(init=False, repr=False, factory=dict)
    images: dict[str, File] = field(init=False, repr=False, factory=dict)
    replays: dict[tuple[str, str], tuple[Any, Reply, str]] = field(init=False, repr=False, factory=dict)
    directed: Counter[tuple[str, str]] = field(init=False, repr=False, factory=Counter)
    buckets: Buckets = field(init=False, repr=False, factory=Buckets)
    quota: Quota = field(init=False, repr=False, factory=Quota)
    scripted: Script = field(init=False, repr=False)
    ids: Random = field(init=False, repr=False)
    _durations: Random = field(init=False, repr=False)
    _left: int = field(init=False, repr=False, default=0)
    _ends: list[tuple[float, int, Task]] = field(init=False, repr=False, factory=list)
    _lock: Any = field(init=False, repr=False, factory=threading.RLock)

    def __attrs_post_init__(self) -> None:
        if not self.speed > 0 or not self.median > 0 or self.sigma < 0:
            raise ValueError("speed and median must be above 0, sigma not below 0")
        self.reset()

    def handle(self, call: Call, now: float) -> Reply:
        """Answer one call at `now` seconds."""
        with self._lock:
            self._settle(now)
            return route(self, call, now)

    def script(
        self,
        action: Action,
        *,
        on: Operation | None = None,
        prompt: str | None = None,
        api_key: str | None = None,
        nth: int | Collection[int] | None = None,
        times: int | None = None,
        every: int | None = None,
        share: float | None = None,
    ) -> Rule:
        """Apply an action to every call that matches, and return the rule, whose `fired` counts.

        on: "submit", "poll", "download", "balance" or "upload"; None for any of them, or for the operation that the
            action is about: `fail`, `no_url` and their like work on submits and stay with the task.
        prompt: a part of the job's prompt. api_key: the key of the call.
        nth: only the n-th matching call (from 1), or several of them. times: at most so often. every: each n-th.
        share: with this probability, 0 to 1, drawn from the seed.
        """
        when = {"prompt": prompt, "api_key": api_key, "nth": nth, "times": times, "every": every, "share": share}
        with self._lock:
            return self.scripted.add(action, on, **when)

    def next(self, action: Action, *, on: Operation = "submit") -> None:
        """Apply an action to the very next call of that operation; several of them wait in line."""
        with self._lock:
            self.scripted.queued.setdefault(on, deque()).append(action)

    def forget(self, rule: Rule | None = None) -> None:
        """Drop a rule of the script, or the whole script and what waits in line."""
        with self._lock:
            if rule is None:
                self.scripted = Script(self.seed)
            elif rule in self.scripted.rules:
                self.scripted.rules.remove(rule)

    def reset(self) -> None:
        """Start anew: no tasks, an empty ledger, the first balance, no script, the random numbers from the seed."""
        with self._lock:
            self.ledger, self.tasks, self.images, self.replays = Ledger(), {}, {}, {}
            self.directed, self.buckets, self.quota = Counter(), Buckets(), Quota()
            self.scripted, self._ends = Script(self.seed), []
            self.ids, self._durations = Random(f"{self.seed}/ids"), Random(f"{self.seed}/durations")
            self._left = round((self.balance or 0) * MILLI)

    def top_up(self, amount: float) -> None:
        """Add credits to the account."""
        with self._lock:
            self._left += round(amount * MILLI)

    @property
    def credits_left(self) -> int | float | None:
        """The balance now, None when it is endless."""
        return None if self.balance is None else credits_of(self._left)

    def snapshot(self) -> dict[str, Any]:
        """The ledger as JSON can hold it, with the balance under `credits_left`."""
        with self._lock:
            return {**self.ledger.to_dict(), "credits_left": self.credits_left}

    def lost(self, seq: int) -> None:
        """Note that nobody was there to read the answer to that submit."""
        with self._lock:
            self.ledger.lost(seq)

    def wall(self, now: float) -> float:
        """Unix seconds at `now`."""
        return now + (FIRST_DAY if self.epoch is None else self.epoch)

    @property
    def origin(self) -> str:
        """What links to videos begin with."""
        return self.public_url or "http://127.0.0.1"

    def can_pay(self, price: int) -> bool:
        """Whether the account holds that much (thousandths of a credit)."""
        return self.balance is None or self._left >= price

    def begin(self, order: Order, gateway: str, task_id: str, seq: int, now: float) -> Task:
        """Charge for an order and start its task."""
        lasts = self.median * math.exp(self.sigma * self._durations.gauss(0, 1)) / self.speed
        task = Task(task_id, gateway, order, now, now + lasts, self.median / self.speed, seq)
        self.tasks[task_id] = task
        self._left -= order.price
        return task

    def schedule(self, task: Task) -> None:
        """Let a task end in time."""
        if task.ends_at != math.inf:
            heappush(self._ends, (task.ends_at, task.seq, task))

    def _settle(self, now: float) -> None:
        """Bring the account up to `now`: ended tasks free their place, failed ones give their credits back."""
        while self._ends and self._ends[0][0] <= now:
            _, _, task = heappop(self._ends)
            refund = task.order.price if task.fails else 0
            self._left += refund
            self.ledger.end(task.seq, refund)
