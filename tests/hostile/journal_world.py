"""What the rows about the journal share: full disks, damaged files, children whose disk fails, and what they leave."""

import asyncio
import contextlib
import gc
import logging
import os
import sqlite3
import threading
import time
from pathlib import Path

from kling_async.batch import Reading


def steps_of(path, key):
    """Return what happened to a job, in its order."""
    with Reading(path) as journal:
        return [step for step, _, _ in journal.steps(journal.find(key).id)]


def fill_disk(journal):
    """Leave no room for another page, and none in the pages there are."""
    limit = "PRAGMA max_page_count = 1"  # SQLite takes the present size instead
    journal._writer.run(lambda connection: connection.execute(limit).fetchone())
    with contextlib.closing(sqlite3.connect(journal.path, isolation_level=None)) as connection:
        connection.execute(limit)
        for size in (3000, 300, 30, 1):
            with contextlib.suppress(sqlite3.OperationalError):
                while True:
                    connection.execute(
                        "INSERT INTO event (job, step, at, attempt, detail) VALUES (0, 'planned', 0, 1, ?)",
                        ("x" * size,),
                    )


def empty_disk(journal):
    journal._writer.run(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())


def filling_at(step, batches):
    """Return an observer that fills the disk once a job has come to a step."""

    def observe(done, old, new):
        if done is step:
            fill_disk(batches[0]._journal)

    return observe


@contextlib.asynccontextmanager
async def counting_server():
    """A server that reads and never answers; yields its URL and the pieces that it read."""
    read = []

    async def serve(reader, writer):
        while piece := await reader.read(4096):
            read.append(piece)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", read


def _open_files():
    """Return what this process has open, where the system tells."""
    found = set()
    for each in Path("/proc/self/fd").glob("*"):
        with contextlib.suppress(FileNotFoundError):  # the directory itself, which is closed by now
            found.add(os.readlink(each))
    return found


class _Complaints(logging.Handler):
    """Keeps what asyncio logs of errors that nobody took, and of tasks that nobody ended."""

    def __init__(self):
        super().__init__(logging.ERROR)
        self.found = []

    def emit(self, record):
        self.found.append(record.getMessage())


@contextlib.contextmanager
def nothing_left_behind(figures):
    """See that a block leaves no thread, no open file and no error that nobody took; `figures` counts what it does."""
    if not gc.get_freeze_count():
        gc.collect()
        gc.freeze()  # what is here by now, pytest and aiohttp, need not be looked through after each test
    threads, files = set(threading.enumerate()), _open_files()
    complaints, log = _Complaints(), logging.getLogger("asyncio")
    log.addHandler(complaints)
    try:
        yield
        gc.collect()
        end = time.monotonic() + 2
        while (left := _left(threads, files)) and time.monotonic() < end:  # a thread may be on its way out
            time.sleep(0.01)
    finally:
        log.removeHandler(complaints)
    left += complaints.found
    figures.leaks += len(left)
    assert left == [], left


def _left(threads, files):
    others = [thread.name for thread in threading.enumerate() if thread not in threads]
    # libuv makes one pipe for the whole life of a process.
    lost = [name for name in _open_files() - files if not name.startswith(("/proc", "pipe:"))]
    return [f"thread {name}" for name in others if name.startswith("kling")] + [f"file {name}" for name in lost]
