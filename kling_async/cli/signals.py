"""Ctrl-C and SIGTERM while an event loop runs."""

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

from kling_async.cli.codes import INTERRUPTED, WORK_LEFT


def _handled() -> dict[int, int]:
    """Return the signals that stop a run, and the exit code of each."""
    found: dict[int, int] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: WORK_LEFT}
    hangup = getattr(signal, "SIGHUP", None)
    # Under nohup it is ignored, and shall stay so.
    if hangup is not None and signal.getsignal(hangup) is signal.SIG_DFL:
        found[hangup] = WORK_LEFT
    return found


@contextlib.contextmanager
def signals(handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle(exit code)` on the event loop for each signal, until the block ends."""
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as undo:
        for number, code in _handled().items():
            try:
                loop.add_signal_handler(number, handle, code)
                undo.callback(loop.remove_signal_handler, number)
            except (NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
                with contextlib.suppress(ValueError, OSError):
                    undo.callback(signal.signal, number, signal.signal(number, _passing(loop, handle, code)))
        yield


def _passing(loop: asyncio.AbstractEventLoop, handle: Callable[[int], None], code: int) -> Callable[..., None]:
    """Return a plain signal handler that hands the signal to the loop."""

    def passed(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(handle, code)

    return passed
