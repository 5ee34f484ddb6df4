"""A program that forks while a session and a batch are at work, and says what its children met."""

import asyncio
import json
import os
import sys
from pathlib import Path

from lifetime_place import Gateway, clip
from lifetime_uses import Opened, tried, tried_by_hand
from lifetime_watch import LOOPS


def say(**known):
    os.write(1, json.dumps(known).encode() + b"\n")


def in_a_child(work):
    """Do something in a forked child, wait for its end, and say how it ended."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    say(child=os.waitstatus_to_exitcode(status))


def told(found):
    for name, error in found.items():
        say(use=name, error=type(error).__name__, message=str(error))


def where_the_parent_was(opened):
    """Go on in the child where the parent was, on no loop of its own, and leave both blocks."""
    told(tried_by_hand(opened.uses()))
    told(tried_by_hand({"leave": opened.close, "submit afterwards": opened.of_session()["submit"]}))


def on_a_loop_of_its_own(opened):
    async def child():
        told(await tried(opened.uses()))
        told(await tried({"leave": opened.close, "submit afterwards": opened.of_session()["submit"]}))

    asyncio.run(child())


async def parent(gateway, place):
    opened = await Opened.at(gateway, place)
    in_a_child(lambda: where_the_parent_was(opened))
    in_a_child(lambda: on_a_loop_of_its_own(opened))
    outcomes = await opened.finish()
    say(outcomes=[outcome.ok for outcome in outcomes], done=opened.made.summary().done)
    await opened.close()


def opened_after_the_fork(gateway):
    """Make a session, fork, and open it in both children and in the parent, as a pre-forking web server does."""
    session = gateway.session("apimart")

    async def some():
        async with session:
            made = await session.gather([clip(), clip()])
            say(made=[outcome.task_id for outcome in made], keys=[outcome.key for outcome in made])

    for _ in range(2):
        in_a_child(lambda: asyncio.run(some()))
    asyncio.run(some())


if __name__ == "__main__":
    what, loop_name, url, directory = sys.argv[1:]
    if what == "parent":
        with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
            runner.run(parent(Gateway(None, url), Path(directory)))
    else:
        opened_after_the_fork(Gateway(None, url))
