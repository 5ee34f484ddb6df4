"""Runs batches in children of its own, on disks that fail, fill up or end the process at a chosen moment.

It reads jobs as lines of JSON and forks for each, so that a child costs no imports. The child is told how its disk
behaves (`faults.c`, which must be preloaded), and writes down how it ended.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import time
import traceback

import kling_async.batch.record
import kling_async.transport
from kling_async import KlingSession, PollPlan, RetryPolicy, Success, TextToVideo, failpoints
from kling_async.batch import journal, schema
from kling_async.batch.batch import Batch  # noqa: F401 - before the fork
from kling_async.errors import JournalError
from kling_async.sandbox import fixtures  # noqa: F401 - before the fork

ENDINGS = ".db:.db-wal:.db-shm:.db-journal"
KINDS = {"write": 0, "sync": 1, "read": 2}
ERRORS = {"EIO": 5, "ENOSPC": 28, "kill": -1}


def spoil_disk(known):
    """Let the disk behave as told, from now on."""
    library = ctypes.CDLL(None)
    endings = known.get("endings", ENDINGS).encode()
    if "record" in known:
        library.faults_record(endings, known["record"].encode())
    if "room" in known:
        library.faults_disk(endings, ctypes.c_longlong(known["room"]))
    if "kind" in known:
        first = ctypes.c_long(known["first"])
        library.faults_arm(endings, KINDS[known["kind"]], first, int(known["once"]), ERRORS[known["error"]])


PACE = {"rate": None, "poll": PollPlan(0.01, 0.01, 0.1), "retry": RetryPolicy(initial=0.02, maximum=0.1)}


async def make(job, report):
    """Make a batch; the disk may begin to fail when it is opened, when it is planned, or at a step of a job."""
    disk = dict(job.get("disk", {}))

    def come_to(moment):
        if disk.get("at") == moment:
            del disk["at"]
            spoil_disk(disk)

    async with (
        KlingSession(
            "kling3api", api_key="sk-of-a-test", base_url=job["url"], concurrency=job.get("slots", 4), **PACE
        ) as session,
        session.batch(
            job["journal"], download_to=job.get("directory"), observer=lambda step, old, new: come_to(str(step))
        ) as batch,
    ):
        come_to("opened")
        batch.add([(prompt, TextToVideo(prompt)) for prompt in job["prompts"]])
        come_to("planned")
        async for outcome in batch.run():
            made = isinstance(outcome, Success)
            error = None if made else f"{type(outcome.error).__name__} {outcome.error}"
            report["outcomes"].append([outcome.key, outcome.task_id, made, error])


async def make_marked(job, report):
    """Make a batch, and mark in the record of the disk what others have seen of it."""
    library = ctypes.CDLL(None)

    def mark(*words):
        library.faults_mark(" ".join(words).encode())

    def observe(step, old, new):
        if step in ("accepted", "downloaded"):
            mark(step, new.key, new.task_id, new.file or "-")

    async with (
        KlingSession(
            "kling3api", api_key="sk-of-a-test", base_url=job["url"], concurrency=job.get("slots", 4), **PACE
        ) as session,
        session.batch(job["journal"], download_to=job["directory"], observer=observe) as batch,
    ):
        mark("opened")
        for prompt in job["prompts"]:
            batch.add([(prompt.replace(" ", "-"), TextToVideo(prompt))])
            mark("planned", prompt.replace(" ", "-"))
        report["outcomes"] = [[outcome.key, outcome.ok] async for outcome in batch.run()]


async def plan(job, report):
    """Add jobs by the hundred, and write down how many are acknowledged."""
    async with (
        KlingSession("kling3api", api_key="sk-of-a-test", base_url=job["url"]) as session,
        session.batch(job["journal"]) as batch,
    ):
        for start in range(0, job["jobs"], 100):
            batch.add([(f"job {number}", TextToVideo(f"clip {number}")) for number in range(start, start + 100)])
            with open(job["acknowledged"], "w", encoding="utf-8") as file:
                file.write(str(start + 100))


async def reopen(job, report):
    async with (
        KlingSession("kling3api", api_key="sk-of-a-test", base_url=job["url"]) as session,
        session.batch(job["journal"]),
    ):
        report["opened"] = True


def add_column(connection):
    connection.execute("ALTER TABLE job ADD COLUMN mood TEXT")
    connection.execute("UPDATE job SET mood = 'calm'")


def prepare(job):
    """Set what a child has of its own."""
    kling_async.batch.record.INSIST = job.get("insist", 0.3)
    if "failpoint" in job:
        failpoints._name, failpoints._left = job["failpoint"], job.get("times", 1)
    if job.get("migrate"):
        schema.MIGRATIONS = (*schema.MIGRATIONS, add_column)
    if "pragmas" in job:
        connect = journal._connected

        def connect_and_set(path):
            connection = connect(path)
            for pragma in job["pragmas"]:
                connection.execute(f"PRAGMA {pragma}")
            return connection

        journal._connected = connect_and_set


def live(job):
    """Be the child: run to the end, and write down which end it was."""
    signal.alarm(job.get("seconds", 20))
    error = os.open(job["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(error, 2)
    report = {"outcomes": [], "end": "done", "broken_at": None}

    def note(record):
        if record.levelno >= logging.ERROR and report["broken_at"] is None:
            report["broken_at"] = record.created
        return True

    logging.getLogger("kling_async").addFilter(note)
    library = None
    try:
        prepare(job)
        library = ctypes.CDLL(None) if "disk" in job else None
        if library is not None and "at" not in job["disk"]:
            spoil_disk(job["disk"])
        work = {"make": make, "make marked": make_marked, "plan": plan, "reopen": reopen}
        asyncio.run(work[job.get("do", "make")](job, report))
    except JournalError as failure:
        report |= {"end": "JournalError", "code": failure.code, "message": str(failure), "task_id": failure.task_id}
    except BaseException as failure:
        report["end"] = type(failure).__name__
        traceback.print_exc()
    if library is not None:
        report["counts"] = {name: library.faults_count(kind) for name, kind in KINDS.items()}
    with open(job["report"], "w", encoding="utf-8") as file:
        json.dump(report, file)
    sys.stderr.flush()


def main():
    for line in sys.stdin:
        job = json.loads(line)
        begun = time.monotonic()
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                live(job)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"status": status, "seconds": time.monotonic() - begun}), flush=True)


if __name__ == "__main__":
    main()
