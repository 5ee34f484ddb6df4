"""A disk that fails at the Nth write, sync or read of the journal, once or from then on, or takes the process with it.

`KLING_EVERY_FAULT=1` tries every N; without it a spread of them is tried.
"""

import os
import shutil
from itertools import count

import pytest
from journal_disk import left_in

PROMPTS = [f"a red fox, take {number}" for number in range(6)]
EVERY = bool(os.environ.get("KLING_EVERY_FAULT"))
STEPS = {"write": 67, "sync": 11, "read": 19}
CASES = [
    ("write", "EIO", "once"),
    ("write", "EIO", "for ever"),
    ("write", "ENOSPC", "once"),
    ("write", "ENOSPC", "for ever"),
    ("write", "kill", "once"),
    ("sync", "EIO", "once"),
    ("sync", "EIO", "for ever"),
    ("sync", "ENOSPC", "once"),
    ("sync", "ENOSPC", "for ever"),
    ("sync", "kill", "once"),
    ("read", "EIO", "once"),
    ("read", "EIO", "for ever"),
]
"""Which calls fail, with what, and how often."""


def moments(kind, error, often):
    """The numbers of the calls that fail; without `EVERY` each case begins at another one."""
    phase = CASES.index((kind, error, often)) * 3 % STEPS[kind]
    return count(1) if EVERY else count(1 + phase, STEPS[kind])


def check_end(ended, killed):
    if killed:
        assert ended.end in ("done", "signal 9")
    else:
        assert ended.end in ("done", "JournalError"), ended.stderr
        assert "Traceback" not in ended.stderr
    assert ended.seconds < 15


def check_money(ended, left, ledger):
    """Nothing is sent without a durable intent, and every id that was given is somewhere."""
    assert left.sound == "ok"
    assert not ledger.duplicates
    for submit in ledger.submits:
        assert left.state(submit.prompt) not in (None, "planned")
        if submit.accepted and submit.task_id not in left.ids:
            assert left.state(submit.prompt) in ("submitting", "in_doubt") or submit.task_id in ended.told
            if ended.end == "JournalError":
                assert submit.task_id in ended.report["message"]
                assert submit.task_id in ended.stderr


def check_stop(ended, left):
    """What was not on its way when the journal broke is not sent."""
    broken = ended.report.get("broken_at")
    assert broken is None or not [at for _, step, at, _ in left.events if step == "submitting" and at > broken + 0.5]


@pytest.mark.timeout(480)
@pytest.mark.parametrize(("kind", "error", "often"), CASES, ids=[" ".join(case) for case in CASES])
def test_a_failing_disk_costs_nothing_twice_and_loses_no_id(children, gateway, tmp_path, kind, error, often):
    path, videos = tmp_path / "night.db", tmp_path / "videos"
    job = {"journal": path, "url": gateway.url, "prompts": PROMPTS, "directory": videos}
    failed = passed = 0
    for number in moments(kind, error, often):
        gateway.sandbox.reset()
        for file in tmp_path.glob("night.db*"):
            file.unlink()
        shutil.rmtree(videos, ignore_errors=True)

        disk = {"kind": kind, "first": number, "once": often == "once", "error": error}
        ended = children.run(**job, disk=disk)
        left = left_in(path, tmp_path / "copy")
        check_end(ended, error == "kill")
        check_money(ended, left, gateway.ledger)
        check_stop(ended, left)

        again = children.run(**job)
        left = left_in(path, tmp_path / "copy")
        assert again.end == "done", again.stderr
        assert left.sound == "ok"
        assert not gateway.ledger.duplicates
        assert {state for state, _ in left.jobs.values()} <= {"downloaded", "in_doubt"}
        assert len(left.jobs) == len(PROMPTS)

        struck = ended.end != "done"
        failed += struck
        passed = passed + 1 if not struck and ended.report["counts"][kind] < number else 0
        if passed == (3 if EVERY else 1):
            break
    assert failed


@pytest.mark.parametrize(("number", "end"), [(1, "JournalError"), (2, "JournalError"), (3, "done"), (4, "done")])
def test_a_lock_that_cannot_be_written_is_refused_or_does_no_harm(children, gateway, tmp_path, number, end):
    job = {"journal": tmp_path / "night.db", "url": gateway.url, "prompts": PROMPTS}
    disk = {"kind": "write", "first": number, "once": True, "error": "EIO", "endings": ".db.lock"}
    ended = children.run(**job, disk=disk)
    assert ended.end == end, ended.stderr
    assert gateway.ledger.accepted == (len(PROMPTS) if end == "done" else 0)
    again = children.run(**job)
    assert again.end == "done"
    assert gateway.ledger.accepted == len(PROMPTS)
