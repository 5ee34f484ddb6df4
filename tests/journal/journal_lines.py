"""A journal's writer over a small table of lines, for the laws of the writer alone."""

import contextlib
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor

from kling_async import JournalError
from kling_async.batch.writer import Writer


class Lines:
    """A writer of lines that counts its commits."""

    def __init__(self, path):
        self.path = path
        self.commits = 0
        self.writer = Writer(path, self._connect)

    def __enter__(self):
        self.writer.start()
        return self

    def __exit__(self, *_):
        self.writer.close()

    def _connect(self):
        connection = sqlite3.connect(self.path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE IF NOT EXISTS line (number INTEGER UNIQUE)")
        connection.set_trace_callback(self._trace)
        return connection

    def _trace(self, sql):
        self.commits += sql == "COMMIT"

    def numbers(self):
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            return [number for (number,) in connection.execute("SELECT number FROM line ORDER BY rowid")]


def line(number):
    """Return a change that adds a line, and returns its number."""

    def add(connection):
        connection.execute("INSERT INTO line VALUES (?)", (number,))
        return number

    return add


@contextlib.contextmanager
def held_up(writer):
    """Let everything that is given to a writer in this block wait until its end."""
    begun, let_go = threading.Event(), threading.Event()

    def hold(_):
        begun.set()
        let_go.wait(10)

    with ThreadPoolExecutor() as pool:
        holding = pool.submit(writer.run, hold)
        begun.wait(10)
        try:
            yield
        finally:
            let_go.set()
            with contextlib.suppress(JournalError):
                holding.result(10)
