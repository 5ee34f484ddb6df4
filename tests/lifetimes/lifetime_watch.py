"""Runs a program on an event loop of its own and tells what it leaves behind, and what is complained of meanwhile."""

import asyncio
import gc
import logging
import os
import sys
import threading
import warnings
from contextlib import contextmanager

import uvloop
from attrs import Factory, define, frozen

EAGER = getattr(asyncio, "eager_task_factory", None)
POOL = ("asyncio_", "uvloop_")
"""The threads of an event loop's own executor, which it joins when it closes."""


def _eager_loop():
    loop = asyncio.new_event_loop()
    loop.set_task_factory(EAGER)
    return loop


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
KINDS = {
    "asyncio": (asyncio.new_event_loop, False),
    "asyncio, debug": (asyncio.new_event_loop, True),
    "uvloop": (uvloop.new_event_loop, False),
} | ({"asyncio, eager tasks": (_eager_loop, False)} if EAGER else {})
"""Event loops by name, and whether they run in asyncio's debug mode."""


@frozen
class Footprint:
    """What this process has open at a moment, the calling task aside."""

    tasks: frozenset
    threads: frozenset
    files: frozenset

    @classmethod
    def now(cls):
        tasks = asyncio.all_tasks() - {asyncio.current_task()} if asyncio._get_running_loop() else ()
        for thread in threading.enumerate():
            if thread.name == "kling-work":
                thread.join(0.5)  # one that has said what came of its work is still on its way out
        threads = (thread for thread in threading.enumerate() if not thread.name.startswith(POOL))
        return cls(frozenset(tasks), frozenset(threads), frozenset(_open_files()))

    def more_than(self, before):
        """Return what is there that was not there before."""
        return [
            *(self.tasks - before.tasks),
            *(self.threads - before.threads),
            *(self.files - before.files),
        ]


def _open_files():
    for number in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{number}")
        except OSError:  # the directory that is being listed
            continue
        if target != "/dev/null":  # uvloop's own: each loop opens one at its first connection
            yield int(number), target


@define
class Noise(logging.Handler):
    """Everything that somebody complained of: the loop, the collector, warnings, logs."""

    heard: list = Factory(list)

    def __attrs_pre_init__(self):
        super().__init__(logging.WARNING)

    def __hash__(self):
        return id(self)

    def emit(self, record):
        slow_machine = record.name == "asyncio" and record.getMessage().startswith("Executing ")
        ours = record.name.startswith("kling_async")
        if not slow_machine and record.levelno >= (logging.ERROR if ours else logging.WARNING):
            self.heard.append(f"{record.name}: {record.getMessage()}")

    def told(self, loop, context):
        self.heard.append(f"the loop: {context['message']} {context.get('exception')!r}")

    def unraisable(self, about):
        self.heard.append(f"unraisable: {about.err_msg} {about.exc_value!r} in {about.object!r}")


@contextmanager
def listening():
    """Yield a `Noise` that hears everything until the end of the block."""
    noise = Noise()
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = noise.unraisable
    threading.excepthook = lambda about: noise.heard.append(f"a thread: {about.exc_value!r}")
    logging.getLogger().addHandler(noise)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield noise
            gc.collect()
            noise.heard += [f"{each.category.__name__}: {each.message}" for each in warned]
    finally:
        sys.unraisablehook, threading.excepthook = hooks
        logging.getLogger().removeHandler(noise)


def live(program, kind="asyncio", *, factory=None, said=()):
    """Run a program to its end, see that it leaves nothing behind and is quiet, and return what it returns.

    Args:
        program: called without arguments, returns a coroutine.
        kind: one of `KINDS`.
        factory: of tasks, for a loop of this kind.
        said: parts of complaints that belong to the program.
    """
    gc.collect()
    before = Footprint.now()
    found, noise = overheard(program, kind, factory=factory)
    pool = [thread for thread in threading.enumerate() if thread.name.startswith(POOL)]
    assert [*Footprint.now().more_than(before), *pool] == []
    assert [each for each in noise if not any(part in each for part in said)] == []
    return found


def overheard(program, kind="asyncio", *, factory=None):
    """Run a program to its end; return what it returns, and every complaint."""
    new_loop, debug = KINDS[kind]
    with listening() as noise:
        with asyncio.Runner(loop_factory=new_loop, debug=debug) as runner:
            runner.get_loop().set_exception_handler(noise.told)
            if factory is not None:
                runner.get_loop().set_task_factory(factory)
            found = runner.run(_alone(program))
        del runner
    return found, noise.heard


async def _alone(program):
    try:
        return await program()
    finally:
        gc.collect()  # what was dropped is to complain while the loop still runs
        await asyncio.sleep(0)


def assert_nothing_more_than(before):
    """See that everything is as it was, at this very moment."""
    assert Footprint.now().more_than(before) == []
