"""Virtual time: an event loop whose clock jumps to the next timer when nothing else can happen."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

START = 7_654_321.0
"""When virtual time begins, in seconds. A large odd offset: code that reads another clock is found out at once."""

T = TypeVar("T")


class Jumping(selectors.DefaultSelector):
    """Never waits for time to pass: it moves the loop's clock to the next timer instead."""

    loop: "VirtualLoop"

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; where nothing is, let the time pass at once."""
        if timeout is None:
            events = super().select(5)
            if not events:
                raise RuntimeError("virtual time stands still: nothing is planned and nothing happens")
            return events
        events = super().select(0)
        if not events and timeout > 0:
            self.loop.now += timeout
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time: the same program takes the same steps at the same times, each time it runs."""

    def __init__(self) -> None:
        self.now = START
        selector = Jumping()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self.now


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end on a virtual loop of its own."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
