"""A program in the middle of everything, to be interrupted: it says when it is, and at its end what became of its jobs.

With one more argument it interrupts itself there: in a done-callback, in the observer of the batch, in the input of the
stream, in the code of a task, in the block.
"""

import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

from lifetime_place import Gateway, clip, clips
from lifetime_watch import LOOPS


def interrupt(*_):
    raise KeyboardInterrupt


def say(**known):
    print(json.dumps(known), flush=True)


def observer(where):
    """Return what watches the batch; the third step is one of the middle."""
    steps = []

    def observe(step, old, new):
        steps.append(step)
        if where == f"observer of {step.name}" and steps.count(step) == 3:
            interrupt()

    return observe


async def requests(where):
    for number in range(30):
        if where == "input" and number == 5:
            interrupt()
        await asyncio.sleep(0.002)
        yield clip("slow 0.02")


async def read(outcomes):
    async for _ in outcomes:
        await asyncio.sleep(0)


def begun(work):
    """Return a task that says nothing by itself, however it ends."""
    task = asyncio.get_running_loop().create_task(work)
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    return task


async def code(where):
    await asyncio.sleep(0.1)
    if where == "task":
        interrupt()


async def everything(session, place, where):
    futures = [session.submit(request) for request in clips(5, "slow 0.1")]
    if where == "callback":
        futures[0].add_done_callback(interrupt)
    made = session.batch(place / "night.db", download_to=place / "videos", observer=observer(where))
    async with made as batch:
        batch.add(clips(20, "slow 0.05"))
        say(ready=True)
        others = [begun(work) for work in (read(session.stream(requests(where))), read(batch.run()), code(where))]
        await futures[2]
        if where == "block":
            interrupt()
        await asyncio.wait(others)


async def main(url, place, where):
    session = Gateway(None, url).session(concurrency=10)
    try:
        async with session:
            await everything(session, place, where)
    finally:
        say(jobs=[[job.request.prompt, job.task_id, str(job.status)] for job in session.jobs if job.done()])
        say(unfinished=[repr(job) for job in session.jobs if not job.done()])


def tell_lost_steps(*_):
    """Say which asyncio tasks will never go on: what they waited for is there, and their next step is gone.

    A second Ctrl-C is raised wherever the event loop happens to be. Where it has just taken a step off its queue, that
    is lost, and `asyncio.run` itself waits for the task for ever.
    """
    tasks = [each for each in gc.get_objects() if isinstance(each, asyncio.Task) and not each.done()]
    say(lost_steps=[task.get_name() for task in tasks if task._fut_waiter is not None and task._fut_waiter.done()])


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, tell_lost_steps)
    loop_name, url, directory, *where = sys.argv[1:]
    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        runner.run(main(url, Path(directory), where[0] if where else ""))
