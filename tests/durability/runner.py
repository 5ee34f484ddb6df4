"""A program that makes one batch and may be killed at any moment; it prints each outcome as a line of JSON."""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys

from kling_async import KlingError, KlingSession, PollPlan, RetryPolicy, Success, TextToVideo, Timeouts, failpoints
from kling_async.batch import Step, journal, record

POLL = PollPlan(first=0.02, minimum=0.02, maximum=0.1)
RETRY = RetryPolicy(initial=0.02, maximum=0.2)


def parser():
    made = argparse.ArgumentParser()
    made.add_argument("url")
    made.add_argument("journal")
    made.add_argument("--videos", help="a directory; left out: nothing is downloaded")
    made.add_argument("--gateway", default="kling3api")
    made.add_argument("--prefix", default="job", help="what every key and prompt begins with")
    made.add_argument("--suffix", default="", help="what every prompt ends with")
    made.add_argument("--jobs", type=int, default=1)
    made.add_argument("--concurrency", type=int, default=20)
    made.add_argument("--submit-timeout", type=float, default=20.0)
    made.add_argument("--freeze", help="stop (SIGSTOP) at this failpoint, once; 'recorded': right behind the intent")
    made.add_argument("--fresh", type=float, help="the age at which an intent is recorded anew")
    made.add_argument("--die-in-commit", type=int, help="be killed when so many commits are written and not committed")
    made.add_argument("--checkpoints", action="store_true", help="copy the log into the journal after each commit")
    made.add_argument("--child", action="store_true", help="run another program, and fork, while the batch is open")
    return made


def freeze_at(point):
    """Stop at a failpoint, once, until somebody sends SIGCONT."""
    reach, left = failpoints.reach, [point]

    def reach_or_freeze(name):
        if name in left:
            left.remove(name)
            os.kill(os.getpid(), signal.SIGSTOP)
        reach(name)

    failpoints.reach = reach_or_freeze


class Doomed(sqlite3.Connection):
    """A connection whose owner is killed between the last statement of a transaction and its end."""

    left = 0

    def execute(self, sql, *values):
        if sql == "COMMIT":
            Doomed.left -= 1
            if Doomed.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(sql, *values)


def prepare(given):
    if given.fresh is not None:
        record.FRESH = given.fresh
    if given.freeze is not None:
        freeze_at(given.freeze)
    if given.die_in_commit is not None:
        Doomed.left = given.die_in_commit
        connect_plainly = sqlite3.connect
        sqlite3.connect = lambda *about, **more: connect_plainly(*about, factory=Doomed, **more)
    if given.checkpoints:
        connect = journal._connected

        def connect_and_checkpoint(path):
            connection = connect(path)
            connection.execute("PRAGMA wal_autocheckpoint = 1")
            return connection

        journal._connected = connect_and_checkpoint


def say(**known):
    print(json.dumps(known), flush=True)


def told(outcome):
    made = isinstance(outcome, Success)
    return {
        "key": outcome.key,
        "status": "succeeded" if made else str(outcome.status),
        "task_id": outcome.task_id,
        "file": str(outcome.file) if made and outcome.file else None,
        "charged": None if made else outcome.charged,
        "error": None if made else type(outcome.error).__name__,
        "code": None if made else outcome.error.code,
    }


def watch(step, old, new):
    if step is Step.SUBMITTING:
        failpoints.reach("recorded")


def have_children():
    """Start another program and a fork, which both come and go while the batch is open."""
    subprocess.run([sys.executable, "-c", "pass"], check=True, close_fds=False)
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)


async def run(given):
    session = KlingSession(
        given.gateway,
        api_key="sk-test",
        base_url=given.url,
        concurrency=given.concurrency,
        rate=None,
        poll=POLL,
        retry=RETRY,
        timeouts=Timeouts(submit=given.submit_timeout),
    )
    keys = [f"{given.prefix}-{number:03}" for number in range(given.jobs)]
    async with session, session.batch(given.journal, download_to=given.videos, observer=watch) as batch:
        say(opened=os.getpid())
        if given.child:
            have_children()
        batch.add([(key, TextToVideo(f"{key} sails{given.suffix}", duration=3)) for key in keys])
        say(planned=given.jobs)
        async for outcome in batch.run():
            say(**told(outcome))
        say(summary=batch.summary().to_dict())


def main():
    given = parser().parse_args()
    prepare(given)
    try:
        asyncio.run(run(given))
    except KlingError as error:
        say(refused=error.code, message=error.message)
        sys.exit(3)


if __name__ == "__main__":
    main()
