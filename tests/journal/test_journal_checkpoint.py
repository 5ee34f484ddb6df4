"""A program that is killed while SQLite copies its log into the journal."""

import os

import pytest
from journal_disk import left_in

pytestmark = pytest.mark.timeout(480)

EVERY = bool(os.environ.get("KLING_EVERY_FAULT"))
JOBS = 4000
"""So many that the log is copied once on the way, and once at the end."""


def check(left, acknowledged):
    """What was acknowledged is there, and what is there was added as a whole."""
    assert left.sound == "ok"
    assert acknowledged <= len(left.jobs) <= acknowledged + 100
    assert len(left.jobs) % 100 == 0
    assert {state for state, _ in left.jobs.values()} <= {"planned"}


def said(path):
    return int(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize("kind", ["write", "sync"])
def test_a_kill_in_a_checkpoint_loses_nothing(children, tmp_path, kind):  # H18
    path, told = tmp_path / "night.db", tmp_path / "acknowledged"
    job = {"do": "plan", "journal": path, "url": "http://127.0.0.1:9", "jobs": JOBS, "acknowledged": told}
    killed, number = [], 5 if kind == "write" else 1
    while True:
        for file in (*tmp_path.glob("night.db*"), told):
            file.unlink(missing_ok=True)
        disk = {"kind": kind, "first": number, "once": True, "error": "kill", "endings": ".db"}
        ended = children.run(**job, disk=disk)
        assert ended.end in ("signal 9", "done")
        check(left_in(path, tmp_path / "copy"), said(told))
        if ended.end == "done":
            break
        killed.append(said(told))
        assert children.run(**job).end == "done"
        assert len(left_in(path, tmp_path / "copy").jobs) == JOBS
        number += 1 if kind == "sync" else 7 if EVERY else 200
    assert killed
    if kind == "write":
        assert min(killed) < JOBS  # on the way
        assert max(killed) == JOBS  # at the end


def test_a_kill_before_the_last_checkpoint_loses_nothing(plain_children, tmp_path):  # H18
    path, told = tmp_path / "night.db", tmp_path / "acknowledged"
    job = {"do": "plan", "journal": path, "url": "http://127.0.0.1:9", "jobs": 300, "acknowledged": told}
    ended = plain_children.run(**job, failpoint="checkpoint.before")
    assert ended.end == "signal 9"
    assert path.with_name("night.db-wal").stat().st_size
    check(left_in(path, tmp_path / "copy"), 300)
    assert plain_children.run(**job).end == "done"
    assert len(left_in(path, tmp_path / "copy").jobs) == 300
