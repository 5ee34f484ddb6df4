"""A program that makes one batch and may be killed at any moment; it prints each outcome as a line of JSON."""

import argparse
import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

from kling_async import KlingError, KlingSession, PollPlan, RetryPolicy, Success, TextToVideo, Timeouts, failpoints
from kling_async.batch import Step, journal, record
from kling_async.gateways.apimart import ApiMart

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
    made.add_argument("--freeze", help="stop (SIGSTOP) once, at a failpoint, or at 'handed' or 'recorded'")
    made.add_argument("--fresh", type=float, help="the age at which an intent is recorded anew")
    made.add_argument("--freeze-in-intent", action="store_true", help="stop (SIGSTOP) inside the first intent's commit")
    made.add_argument("--die-in-commit", type=int, help="be killed in the middle of the commit of this number")
    made.add_argument("--die-in", help="be killed in the middle of the commit that holds this step first")
    made.add_argument("--die-after", type=float, help="seconds after the beginning of that commit; left out: before it")
    made.add_argument("--bulk", type=int, default=0, help="bytes that every request is made larger by")
    made.add_argument("--checkpoints", action="store_true", help="copy the log into the journal after each commit")
    made.add_argument("--children", action="store_true", help="start a program and a fork that end, while it is open")
    made.add_argument("--orphan", action="store_true", help="fork a child that goes on for a minute, and say its pid")
    made.add_argument("--misuse", action="store_true", help="fork a child that uses the batch, and say what it met")
    made.add_argument("--window", action="store_true", help="say how long each answer waits until its id is durable")
    made.add_argument("--budget", type=float)
    made.add_argument("--api-key", default="sk-test")
    made.add_argument("--keyless", action="store_true", help="pull requests without keys, of three kinds, as they go")
    made.add_argument("--retry", action="store_true", help="send jobs in doubt again, as a user may who was asked")
    made.add_argument("--remembered", type=float, help="seconds for which apimart is taken to recognise a key")
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


class Session(KlingSession):
    """A session with one more failpoint: a job was handed in, and waits for its turn."""

    def submit_recorded(self, *about, **more):
        job = super().submit_recorded(*about, **more)
        failpoints.reach("handed")
        return job


def measure_windows():
    """Take the time from an answer to its id on disk, which is right only for one job at a time."""
    reach, answered = failpoints.reach, []

    def reach_and_measure(name):
        if name == "submit.answered":
            answered.append(time.perf_counter())
        elif name == "accepted.committed":
            say(window=time.perf_counter() - answered.pop())
        reach(name)

    failpoints.reach = reach_and_measure


class Interrupted(sqlite3.Connection):
    """A connection that sends its program a signal between the last statement of a transaction and its end."""

    dies_in = None
    dies_with = None
    dies_after = None
    stops_with = None
    commits = 0
    written = set()
    """Steps that were recorded, in commits up to this one."""

    def execute(self, sql, values=()):
        known = Interrupted
        if sql == "COMMIT":
            known.commits += 1
            if known.commits == known.dies_in or known.dies_with in known.written:
                known.dies_with = None
                known.die()
            if known.stops_with in known.written:
                known.stops_with = None
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # this thread goes no further than here
        if sql.startswith("INSERT INTO event"):
            known.written.add(values[1])
        return super().execute(sql, values)

    @classmethod
    def die(cls):
        """Be killed now, or a moment later, when SQLite is about to write or to sync."""
        end = partial(os.kill, os.getpid(), signal.SIGKILL)
        if cls.dies_after is None:
            end()
        threading.Timer(cls.dies_after, end).start()


def prepare(given):
    if given.fresh is not None:
        record.FRESH = given.fresh
    if given.remembered is not None:
        ApiMart.dedupes_for = given.remembered
    if given.freeze is not None:
        freeze_at(given.freeze)
    if given.window:
        measure_windows()
    if given.die_in_commit is not None or given.die_in is not None or given.freeze_in_intent:
        Interrupted.dies_in = given.die_in_commit
        Interrupted.dies_with, Interrupted.dies_after = given.die_in, given.die_after
        Interrupted.stops_with = str(Step.SUBMITTING) if given.freeze_in_intent else None
        connect_plainly = sqlite3.connect
        sqlite3.connect = lambda *about, **more: connect_plainly(*about, factory=Interrupted, **more)
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
    """One more failpoint: an intent is on disk, and its age is looked at next."""
    if step is Step.SUBMITTING:
        failpoints.reach("recorded")


def fork(work):
    """Do something in a forked child and return its pid."""
    if pid := os.fork():
        return pid
    work()
    os._exit(0)


def have_children():
    """Start another program and a fork, which both come and go while the batch is open."""
    subprocess.run([sys.executable, "-c", "pass"], check=True, close_fds=False)
    os.waitpid(fork(lambda: None), 0)


def misuse(session, batch, run, made):
    """Use what belongs to the parent in a forked child, in every way that could send, hang or write."""
    boat = TextToVideo("a child's boat", duration=3)
    uses = {
        "add": lambda: batch.add(boat),
        "summary": batch.summary,
        "retry": batch.retry,
        "run": batch.run,
        "plan": lambda: batch.plan().send(None),
        "reconcile": lambda: batch.reconcile().send(None),
        "anext": lambda: run.__anext__().send(None),
        "submit": lambda: session.submit(boat),
        "attach": lambda: session.attach(made.task_id),
        "stats": lambda: session.stats,
        "generate": lambda: session.generate(boat).send(None),
        "gather": lambda: session.gather([boat]).send(None),
        "stream": lambda: session.stream([boat]),
        "balance": lambda: session.balance().send(None),
        "download": lambda: session.download(made, "child.mp4").send(None),
    }
    for name, use in uses.items():
        try:
            use()
        except BaseException as error:
            say(misused=name, error=type(error).__name__)
        else:
            say(misused=name, error=None)


async def run(given):
    session = Session(
        given.gateway,
        api_key=given.api_key,
        base_url=given.url,
        concurrency=given.concurrency,
        rate=None,
        poll=POLL,
        retry=RETRY,
        timeouts=Timeouts(submit=given.submit_timeout),
    )
    keys = [f"{given.prefix}-{number:03}" for number in range(given.jobs)]
    made = session.batch(given.journal, download_to=given.videos, observer=watch, budget=given.budget)
    async with session, made as batch:
        say(opened=os.getpid())
        if given.children:
            have_children()
        if given.orphan:
            say(orphan=fork(lambda: time.sleep(60)))
        if given.keyless:
            batch.add(TextToVideo(f"{given.prefix}-{number % 3}", duration=3) for number in range(given.jobs))
        else:
            more = {"note": "x" * given.bulk} if given.bulk else {}
            batch.add([(key, TextToVideo(f"{key} sails{given.suffix}", duration=3, extra=more)) for key in keys])
        say(planned=given.jobs)
        if given.retry:
            say(retried=batch.retry(in_doubt=True))
        running = batch.run()
        async for outcome in running:
            say(**told(outcome))
            if given.misuse:
                given.misuse = os.waitpid(fork(partial(misuse, session, batch, running, outcome)), 0)[1]
        say(summary=batch.summary().to_dict(), peak=peak())


def peak():
    """Return the most memory, in MiB, that this process has taken."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024


def main(words=None):
    given = parser().parse_args(words)
    prepare(given)
    try:
        asyncio.run(run(given))
    except KlingError as error:
        say(refused=error.code, message=error.message)
        sys.exit(3)


if __name__ == "__main__":
    main()
