"""What the tests of durability share: a gateway and a batch, each a process of its own, and the judge of both."""

import hashlib
import json
import os
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from decimal import Decimal
from pathlib import Path

from attrs import define, field, frozen
from nursery import Nursery

from kling_async.batch import Reading, State
from kling_async.batch.states import replay
from kling_async.sandbox.mp4 import video

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "always::ResourceWarning"}
NURSERY = Nursery(ENVIRONMENT)
KILLED = -9
PATIENCE = 60
STARTED = []
"""Runs that the test under way has started."""


@define(eq=False)
class Gateway:
    """A running `slow_gateway`."""

    process: subprocess.Popen
    url: str

    @classmethod
    def start(cls, **settings):
        given = [f"--{name}={value}" for name, value in settings.items()]
        process = subprocess.Popen(
            [sys.executable, HERE / "slow_gateway.py", *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        return cls(process, process.stdout.readline().split()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=PATIENCE)

    def asked(self, path):
        with urllib.request.urlopen(f"{self.url}{path}") as answer:
            return json.load(answer)

    def submits(self, prefix):
        """Return the calls that tried to begin a job of one batch, as the ledger has them."""
        return [call for call in self.asked("/_sandbox/ledger")["submits"] if call["prompt"].startswith(f"{prefix}-")]

    def downloads(self, task_id):
        """Return the requests for one video."""
        return self.asked("/downloads").get(task_id, [])


def end_all():
    """End every run that a test has left behind."""
    while STARTED:
        with STARTED.pop() as process:
            process.kill()


@frozen
class Ended:
    """How a run ended, and what it said."""

    code: int
    lines: list
    complaints: str

    @property
    def outcomes(self):
        return {line["key"]: line for line in self.lines if "key" in line}

    @property
    def summary(self):
        return next(line["summary"] for line in self.lines if "summary" in line)

    @property
    def peak(self):
        """The most memory that it took, in MiB."""
        return next(line["peak"] for line in self.lines if "summary" in line)

    @property
    def pid(self):
        return next(line["opened"] for line in self.lines if "opened" in line)

    def reported(self, status):
        return {key for key, line in self.outcomes.items() if line["status"] == status}


@define(eq=False)
class Job:
    """A job as the journal has it, with its history."""

    entry: object
    steps: list

    @property
    def state(self):
        return self.entry.state


@define(eq=False)
class Place:
    """A batch: its journal, its videos, its gateway. Runs of it are processes of their own."""

    root: Path
    gateway: Gateway
    jobs: int = 1
    concurrency: int = 20
    dialect: str = "kling3api"
    downloads: bool = True
    suffix: str = ""
    prefix: str = field(init=False)

    def __attrs_post_init__(self):
        self.prefix = self.root.name
        self.root.mkdir(exist_ok=True)

    @property
    def journal(self):
        return self.root / "batch.kling"

    @property
    def videos(self):
        return self.root / "videos"

    def _arguments(self, more, url):
        given = {"prefix": self.prefix, "suffix": self.suffix, "gateway": self.dialect}
        given |= {"jobs": self.jobs, "concurrency": self.concurrency}
        if self.downloads:
            given["videos"] = self.videos
        named = [f"--{name}={value}" for name, value in given.items()]
        return [url or self.gateway.url, self.journal, *named, *more]

    def start(self, *more, failpoint=None, url=None):
        """Start a run."""
        process = subprocess.Popen(
            [sys.executable, HERE / "runner.py", *self._arguments(more, url)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT | ({"KLING_FAILPOINT": failpoint} if failpoint else {}),
        )
        if threading.current_thread() is threading.main_thread():
            STARTED.append(process)
        return process

    def run(self, *more, failpoint=None, url=None, killed_after=None):
        """Run the batch until the program ends, by itself or not; it may be killed so long after it was opened."""
        code, out, complaints = NURSERY.run(self._arguments(more, url), failpoint, killed_after)
        return Ended(code, said_in(out), complaints)

    def read(self):
        """Return the jobs of the journal by key, after a look whether it is sound."""
        if not self.journal.exists():
            return {}
        with Reading(self.journal) as reading:
            assert reading._rows("PRAGMA integrity_check") == [("ok",)]
            return {entry.key: Job(entry, reading.steps(entry.id)) for entry in reading.each(State)}

    def states(self):
        """Return how many jobs stand where."""
        return Counter(str(job.state) for job in self.read().values())

    def files(self):
        """Return the size and hash of everything in the directory for videos."""
        if not self.videos.exists():
            return {}
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in self.videos.iterdir()}


def ended(process, patience=PATIENCE):
    """Wait for a run to end and return what it said."""
    try:
        out, complaints = process.communicate(timeout=patience)
    finally:
        process.kill()
    return Ended(process.returncode, said_in(out), complaints)


def said_in(out):
    """Return the whole lines of a run's output."""
    return [json.loads(line) for line in out.splitlines() if line.endswith("}")]


def check_histories(jobs):
    """Every job stands where its events lead, and says the same of its task as they do."""
    for job in jobs.values():
        assert replay(step for step, _, _ in job.steps) == (job.state, job.entry.attempt), job
        ids = [detail for step, _, detail in job.steps if step == "accepted"]
        assert ids in ([], [job.entry.task_id]), job


def check_money(place, jobs, calls):
    """Nothing is paid twice, and whatever is paid is known to the journal or in doubt."""
    accepted = Counter(call["prompt"] for call in calls if call["accepted"])
    assert [prompt for prompt, times in accepted.items() if times > 1] == []
    for call in calls:
        job = jobs[call["prompt"].split(" ")[0]]
        if call["accepted"] and job.state not in (State.SUBMITTING, State.IN_DOUBT):
            assert job.entry.task_id == call["task_id"], job


def unknown_to(jobs, calls):
    """Return the accepted tasks that no job of a journal has."""
    known = {job.entry.task_id for job in jobs.values()}
    return [call["task_id"] for call in calls if call["accepted"] and call["task_id"] not in known]


def check_files(place, jobs, padding=b""):
    """Every job that is not in doubt has its own video on disk, whole and once, and nothing else lies about."""
    expected = {}
    for job in jobs.values():
        if job.state is State.IN_DOUBT:
            continue
        assert job.state is (State.DOWNLOADED if place.downloads else State.SUCCEEDED), job
        if place.downloads:
            content = video(job.entry.task_id, "16:9", 3) + padding
            expected[f"{job.entry.key}.mp4"] = hashlib.sha256(content).hexdigest()
            assert (job.entry.file, job.entry.size) == (f"{job.entry.key}.mp4", len(content)), job
            assert job.entry.sha256 == expected[job.entry.file]
            assert (place.videos / job.entry.file).stat().st_nlink == 1
    assert place.files() == expected


def check_sums(run, jobs, calls):
    """The summary of the last run says what the gateway took: spent where that is known, reserved where in doubt."""
    known = {job.entry.task_id: job for job in jobs.values()}
    spent = sum(Decimal(str(call["charged"])) for call in calls if call["accepted"] and call["task_id"] in known)
    doubtful = [job for job in jobs.values() if job.state is State.IN_DOUBT]
    assert Decimal(run.summary["spent"]) == spent
    assert Decimal(run.summary["reserved"]) * 1_000_000 == sum(job.entry.estimate or 0 for job in doubtful)
    if all(job.entry.estimate is not None for job in doubtful):
        charged = sum(Decimal(str(call["charged"])) for call in calls)
        assert charged <= spent + Decimal(run.summary["reserved"])


def check_end(place, last, padding=b""):
    """Judge a batch that has come to its end, by its journal, its files and the gateway's ledger; returns its jobs."""
    assert (last.code, last.complaints) == (0, "")
    told = [line["key"] for line in last.lines if "key" in line]
    assert len(told) == len(set(told))
    jobs, calls = place.read(), place.gateway.submits(place.prefix)
    assert len(jobs) == place.jobs
    check_histories(jobs)
    check_money(place, jobs, calls)
    check_files(place, jobs, padding)
    check_sums(last, jobs, calls)
    if place.dialect != "apimart":  # nothing is sent again that was not surely refused
        sent = Counter(call["prompt"] for call in calls if call["status"] != 429)
        assert max(sent.values(), default=0) <= 1
    doubtful = {key for key, job in jobs.items() if job.state is State.IN_DOUBT}
    assert len(unknown_to(jobs, calls)) <= len(doubtful)
    assert last.summary["in_doubt"] == len(doubtful)
    return jobs


def is_free(journal):
    """Tell whether SQLite could lock the journal for itself, as nobody uses it."""
    connection = sqlite3.connect(journal, isolation_level=None, timeout=0)
    try:
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True
