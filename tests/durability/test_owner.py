"""One process drives a journal; who comes second is refused and told who has it, and a dead one has nothing."""

import os
import signal

import pytest
from attrs import evolve
from durable import KILLED, Place, check_end, ended

from kling_async.batch import Reading, State
from kling_async.batch.owner import driven_by


@pytest.fixture
def place(tmp_path, gateway):
    return Place(tmp_path / tmp_path.name, gateway, jobs=4)


@pytest.fixture
def long(place):
    """A batch whose jobs last two seconds."""
    return evolve(place, suffix=" [sandbox: ends_after 2]")


def started(place, *more):
    """Start a run and return it once its jobs are planned, with what it has said until then."""
    process = place.start(*more)
    said = []
    while not said or '"planned"' not in said[-1]:
        said.append(process.stdout.readline())
    return process, "".join(said)


def test_a_second_process_is_refused_and_told_who_drives_while_others_may_read(long):
    process, _ = started(long)
    second = long.run()
    assert second.code == 3
    assert second.lines[-1]["refused"] == "locked"
    assert f"process {process.pid} " in second.lines[-1]["message"]
    assert driven_by(long.journal)["pid"] == process.pid
    with Reading(long.journal) as reading:
        assert sum(reading.counts().states.values()) == 4
        assert reading.facts().gateway == "kling3api"
    assert process.poll() is None
    check_end(long, ended(process))
    assert driven_by(long.journal) is None


def test_the_lock_is_free_at_once_when_its_owner_is_killed(place):
    process, _ = started(place)
    process.kill()
    assert ended(process).code == KILLED
    assert driven_by(place.journal) is None
    check_end(place, place.run())


def test_who_reads_a_journal_sees_on_through_a_kill_and_the_next_run(place):
    process, _ = started(place)
    with Reading(place.journal) as reading:
        before = reading.newest()
        process.kill()
        assert ended(process).code == KILLED
        check_end(place, place.run())
        assert reading.counts().states.keys() <= {State.DOWNLOADED, State.IN_DOUBT}
        assert reading.happened(before)


def test_children_that_come_and_go_do_not_take_the_lock_along(long):
    process, _ = started(long, "--children")
    assert long.run().lines[-1]["refused"] == "locked"
    check_end(long, ended(process))


def test_a_forked_child_that_outlives_its_killed_parent_does_not_hold_the_lock(place):
    process, said = started(place, "--orphan")
    orphan = int(said.partition('"orphan": ')[2].partition("}")[0])
    try:
        process.kill()
        process.wait()
        os.kill(orphan, 0)
        check_end(place, place.run())
    finally:
        os.kill(orphan, signal.SIGKILL)
        ended(process)


def test_two_processes_that_start_at_once_make_one_batch(long):
    runs = [long.start() for _ in range(3)]
    lasts = [ended(run) for run in runs]
    assert sorted(last.code for last in lasts) == [0, 3, 3]
    jobs = check_end(long, next(last for last in lasts if last.code == 0))
    assert {job.state for job in jobs.values()} == {State.DOWNLOADED}


def test_a_journal_that_was_opened_with_jobs_and_is_then_empty_is_refused(place):
    check_end(place, place.run())
    lock = place.journal.with_name(f"{place.journal.name}.lock")
    lock.unlink()
    assert place.run().code == 0
    place.journal.write_bytes(b"")
    last = place.run()
    assert last.lines[-1]["refused"] == "corrupt"
