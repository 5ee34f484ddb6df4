"""The disk that fails on purpose, the children that live on it, and what they leave behind."""

import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

from attrs import define, field

from kling_async import JournalError

HERE = Path(__file__).parent
SOURCE = HERE / "faults.c"
CHILD = HERE / "journal_child.py"


def build(directory):
    """Compile the library that is preloaded into children; returns it, or the reason why there is none."""
    if not sys.platform.startswith("linux"):
        return None, "a preloaded library is a thing of Linux"
    compiler = shutil.which("cc")
    if compiler is None:
        return None, "there is no C compiler `cc`"
    made = directory / "faults.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(made), str(SOURCE), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return (made, "") if done.returncode == 0 else (None, f"cc failed: {done.stderr[:200]}")


@define
class Ended:
    """How a child ended."""

    status: int
    seconds: float
    report: dict
    stderr: str

    @property
    def end(self):
        return self.report.get("end") if self.status == 0 else f"signal {os.WTERMSIG(self.status)}"

    @property
    def told(self):
        """Everything that it said to anybody."""
        return f"{self.report.get('message', '')}\n{self.stderr}"


@define
class Children:
    """Forks children that run batches."""

    directory: Path
    library: Path | None
    _process: subprocess.Popen | None = field(default=None, init=False)

    def __enter__(self):
        root = HERE.parent.parent
        environment = {name: value for name, value in os.environ.items() if not name.startswith("KLING_")}
        environment["PYTHONPATH"] = str(root)
        if self.library is not None:
            environment["LD_PRELOAD"] = str(self.library)
        self._process = subprocess.Popen(
            [sys.executable, str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        return self

    def __exit__(self, *_):
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    def run(self, **job):
        """Run one child to its end."""
        report, stderr = self.directory / "report.json", self.directory / "stderr.txt"
        report.unlink(missing_ok=True)
        job |= {"report": str(report), "stderr": str(stderr)}
        self._process.stdin.write(json.dumps(job, default=str) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the parent of the children ended by itself: {self._process.wait(10)}"
        known = json.loads(answer)
        told = json.loads(report.read_text("utf-8")) if report.exists() else {}
        return Ended(known["status"], known["seconds"], told, stderr.read_text("utf-8"))


async def read_all(run):
    """Return the outcomes of a run, and the error of the journal that ended it."""
    outcomes = []
    try:
        async for outcome in run:
            outcomes.append(outcome)  # noqa: PERF401 - those before the error count
    except JournalError as error:
        return outcomes, error
    return outcomes, None


@define
class Left:
    """What a journal holds on disk, read from a copy."""

    sound: str
    jobs: dict
    events: list
    version: int

    @property
    def ids(self):
        return {task_id for _, task_id in self.jobs.values() if task_id}

    def state(self, key):
        return self.jobs.get(key, (None, None))[0]


def left_in(path, scratch):
    """Return what is on disk under a journal's name, without touching it."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for ending in ("", "-wal", "-journal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copy(f"{path}{ending}", scratch / f"copy.db{ending}")
    copy = scratch / "copy.db"
    if not copy.exists():
        return Left("ok", {}, [], 0)
    with contextlib.closing(sqlite3.connect(copy)) as connection:
        sound = connection.execute("PRAGMA integrity_check").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if not version:
            return Left(sound, {}, [], 0)
        jobs = {
            key: (state, task_id) for key, state, task_id in connection.execute("SELECT key, state, task_id FROM job")
        }
        events = connection.execute("SELECT job, step, at, detail FROM event ORDER BY seq").fetchall()
    return Left(sound, jobs, events, version)
