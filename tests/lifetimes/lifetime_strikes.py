"""Coroutines that are watched step by step, so that a cancellation can be placed at any of their awaits."""

import asyncio
from collections.abc import Coroutine

from attrs import define, field


class Watched(Coroutine):
    """A coroutine that tells of each of its suspensions: `suspended(future)`, with what it waits for or None."""

    def __init__(self, work, suspended):
        self._work = work
        self._suspended = suspended

    def send(self, value):
        waits_for = self._work.send(value)
        self._suspended(waits_for)
        return waits_for

    def throw(self, *error):
        waits_for = self._work.throw(*error)
        self._suspended(waits_for)
        return waits_for

    def close(self):
        self._work.close()

    def __await__(self):
        raise NotImplementedError("it is run as a task")


def at_once(future, tasks):
    """Cancel as soon as they wait."""
    for task in tasks:
        task.cancel()


def with_the_result(future, tasks):
    """Cancel at the very moment at which what is waited for is there."""
    if future is None:
        at_once(future, tasks)
    else:
        future.add_done_callback(lambda _: at_once(future, tasks))


@define(eq=False)
class Strike:
    """A cancellation at the Nth suspension that it is told of, and at the next ones if it is repeated.

    Args:
        nth: from 1.
        how: `at_once` or `with_the_result`.
        times: how many suspensions in a row are struck.
        whom: "the program", "the one who waits", or "everybody": every task of the loop but who judges.
    """

    nth: int
    how: object = at_once
    times: int = 1
    whom: str = "the program"
    program: object = None
    judge: object = field(factory=asyncio.current_task)
    seen: int = 0
    reached: bool = False
    over: bool = False

    def suspended(self, future):
        if self.over or asyncio.current_task() is self.judge:
            return
        self.seen += 1
        if self.nth <= self.seen < self.nth + self.times:
            self.reached = True
            self.how(future, self._struck())

    def _struck(self):
        if self.whom == "everybody":
            return asyncio.all_tasks() - {self.judge}
        return [self.program if self.whom == "the program" else asyncio.current_task()]

    async def run(self, work):
        """Run a program as a task of its own until it ends; returns what ended it, or None."""
        self.program = asyncio.get_running_loop().create_task(work)
        await asyncio.wait([self.program], timeout=30)
        self.over = True
        assert self.program.done(), f"hangs after a cancellation at await {self.nth}: {self.program!r}"
        return asyncio.CancelledError() if self.program.cancelled() else self.program.exception()

    def explains(self, error):
        """Tell whether a program may end like this: a cancellation that it was sent is never swallowed."""
        if self.whom == "the one who waits":
            return True
        return isinstance(error, asyncio.CancelledError) if self.reached else error is None


@define(eq=False)
class Cut:
    """Something that ends a program at some moment; `expected` is what it then ends with, unless it was over before."""

    cut_off: object
    expected: type

    async def run(self, work):
        """Run a program as a task of its own until it ends; returns what ended it, or None."""
        task = asyncio.get_running_loop().create_task(self.cut_off(work))
        await asyncio.wait([task], timeout=30)
        assert task.done(), f"hangs: {task!r}"
        return asyncio.CancelledError() if task.cancelled() else task.exception()

    def explains(self, error):
        """Tell whether a program may end like this."""
        return error is None or isinstance(error, self.expected)


class Striker:
    """A factory of tasks that tells the strike of the moment of each suspension of any of them."""

    def __init__(self):
        self.strike = None

    def __call__(self, loop, work, **more):
        return asyncio.Task(Watched(work, self.suspended), loop=loop, **more)

    def suspended(self, future):
        if self.strike is not None:
            self.strike.suspended(future)
