"""Kills inside a commit, a request, a migration: each is done wholly or not at all, and what is unclear is not sent."""

import os
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from durable import ENVIRONMENT, KILLED, Place, check_end, check_histories, check_money, ended, unknown_to

from kling_async.batch import State
from kling_async.batch.schema import MIGRATIONS

COMMITS = range(3, 13)

MIGRATE = """
import sqlite3, sys
from pathlib import Path
from kling_async.batch.schema import MIGRATIONS, migrate

def second(connection):
    connection.execute("ALTER TABLE job ADD COLUMN colour TEXT")
    connection.execute("UPDATE job SET colour = 'red'")

path = Path(sys.argv[1])
connection = sqlite3.connect(path, isolation_level=None)
migrate(connection, path, (*MIGRATIONS, second))
connection.close()
"""


def die_in_commit(place, number):
    """Kill a run in the middle of a commit, and judge what is left before and after the next run."""
    first = place.run(f"--die-in-commit={number}")
    if first.code != KILLED:
        check_end(place, first)
        return None
    jobs = place.read()
    calls = place.gateway.submits(place.prefix)
    flying = {key for key, job in jobs.items() if job.state is State.SUBMITTING}
    check_histories(jobs)
    check_money(place, jobs, calls)
    assert len(unknown_to(jobs, calls)) <= len(flying)
    sent = {call["prompt"].partition(" ")[0] for call in calls}
    assert sent <= {key for key, job in jobs.items() if job.state is not State.PLANNED}
    after = check_end(place, place.run())
    assert {key for key, job in after.items() if job.state is State.IN_DOUBT} == flying
    return {str(job.state) for job in jobs.values()}


def test_a_kill_in_the_middle_of_any_commit_leaves_what_was_there_before(tmp_path, quick_gateway):
    places = [Place(tmp_path / f"commit{number}", quick_gateway) for number in COMMITS]
    with ThreadPoolExecutor(3) as pool:
        left = list(pool.map(die_in_commit, places, COMMITS))
    met = set().union(*(states for states in left if states is not None))
    assert {"planned", "submitting", "accepted", "succeeded"} <= met


def test_a_kill_while_the_request_is_being_read_leaves_the_job_in_doubt(tmp_path, gateway):
    place = Place(tmp_path / "half", gateway)
    with socket.create_server(("127.0.0.1", 0)) as server:
        process = place.start(url=f"http://127.0.0.1:{server.getsockname()[1]}")
        connection, _ = server.accept()
        with connection:
            assert connection.recv(20).startswith(b"POST /api/generate")
            os.kill(process.pid, signal.SIGKILL)
    assert ended(process).code == KILLED
    assert place.states() == {"submitting": 1}
    last = place.run()
    (job,) = check_end(place, last).values()
    assert job.state is State.IN_DOUBT
    assert last.reported("in_doubt") == {job.entry.key}
    assert gateway.submits(place.prefix) == []


def test_an_answer_waits_a_few_hundredths_of_a_second_at_most_until_its_id_is_durable(tmp_path, quick_gateway):
    place = Place(tmp_path / "window", quick_gateway, jobs=15, concurrency=1)
    last = place.run("--window")
    check_end(place, last)
    windows = sorted(line["window"] for line in last.lines if "window" in line)
    print(f"median {1000 * statistics.median(windows):.1f} ms, longest {1000 * windows[-1]:.1f} ms")
    assert len(windows) == 15
    assert statistics.median(windows) < 0.02


TODAY = len(MIGRATIONS)


def versions(path):
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        columns = [name for _, name, *_ in connection.execute("PRAGMA table_info(job)")]
        rows = connection.execute("SELECT count(*) FROM job").fetchone()[0]
        return connection.execute("PRAGMA user_version").fetchone()[0], "colour" in columns, rows
    finally:
        connection.close()


@pytest.mark.parametrize("killed_first", [False, True])
def test_a_journal_is_of_the_old_version_or_of_the_new_one_never_between(tmp_path, gateway, killed_first):
    place = Place(tmp_path / f"migrated-{killed_first}", gateway, jobs=5)
    assert place.run(failpoint="accepted.committed:3" if killed_first else None).code == (KILLED if killed_first else 0)
    program = [sys.executable, "-c", MIGRATE, place.journal]
    killed = subprocess.run(program, env=ENVIRONMENT | {"KLING_FAILPOINT": "migrate.middle"}, check=False)
    assert killed.returncode == KILLED
    assert versions(place.journal) == (TODAY, False, 5)
    backup = place.journal.with_name(f"{place.journal.name}.v{TODAY}")
    assert versions(backup) == (TODAY, False, 5)
    assert backup.stat().st_mode & 0o777 == 0o600
    check_end(place, place.run())
    subprocess.run(program, env=ENVIRONMENT, check=True)
    assert versions(place.journal) == (TODAY + 1, True, 5)
    assert versions(backup) == (TODAY, False, 5)
    assert place.run().lines[-1]["refused"] == "too_new"
