"""Processes that are stopped (SIGSTOP) in the middle of something and go on later: nobody takes their place."""

import os
import signal
import time

from durable import KILLED, Gateway, Place, check_end, ended

from kling_async.batch import State


def wait_until_stopped(process):
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


def go_on(process):
    os.kill(process.pid, signal.SIGCONT)


def test_a_process_stopped_behind_its_intent_keeps_its_jobs_and_records_the_intent_anew(tmp_path, gateway):
    place = Place(tmp_path / "stopped", gateway, jobs=3, concurrency=1)
    process = place.start("--freeze=recorded", "--fresh=0.5")
    wait_until_stopped(process)
    time.sleep(0.7)
    second = place.run()
    assert second.lines[-1]["refused"] == "locked"
    assert str(process.pid) in second.lines[-1]["message"]
    assert place.states() == {"submitting": 1, "planned": 2}
    assert gateway.submits(place.prefix) == []
    thawed = time.time()
    go_on(process)
    jobs = check_end(place, ended(process))
    first = jobs["stopped-000"]
    assert [step for step, _, _ in first.steps][:4] == ["planned", "submitting", "submitting", "accepted"]
    assert first.entry.intent_at >= thawed


def test_a_process_stopped_between_intent_and_post_sends_once_when_it_goes_on(tmp_path, gateway):
    place = Place(tmp_path / "between", gateway, jobs=10, concurrency=5)
    process = place.start("--freeze=intent.committed")
    wait_until_stopped(process)
    time.sleep(0.7)
    assert place.run().lines[-1]["refused"] == "locked"
    go_on(process)
    jobs = check_end(place, ended(process))
    assert {job.state for job in jobs.values()} == {State.DOWNLOADED}


def test_a_process_stopped_in_a_commit_for_longer_than_the_posts_deadline_goes_on(tmp_path, gateway):
    place = Place(tmp_path / "commit", gateway, jobs=3, concurrency=1)
    process = place.start("--freeze-in-intent", "--submit-timeout=1")
    wait_until_stopped(process)
    assert place.states() == {"planned": 3}
    time.sleep(1.5)
    go_on(process)
    jobs = check_end(place, ended(process))
    assert {job.state for job in jobs.values()} == {State.DOWNLOADED}


def test_a_process_stopped_at_any_moment_for_longer_than_the_posts_deadline_pays_nothing_twice(tmp_path, gateway):
    place = Place(tmp_path / "any", gateway, jobs=80, concurrency=10)
    process = place.start("--submit-timeout=0.5")
    assert '"opened"' in process.stdout.readline()
    for _ in range(4):
        time.sleep(0.1)
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.8)
        go_on(process)
    last = ended(process)
    jobs = check_end(place, last)
    assert last.reported("in_doubt") == {key for key, job in jobs.items() if job.state is State.IN_DOUBT}


def test_a_job_in_doubt_is_not_sent_again_when_its_key_grew_old_before_its_first_byte(tmp_path):
    with Gateway.start() as gateway:
        place = Place(tmp_path / "old", gateway, dialect="apimart")
        assert place.run(failpoint="submit.answered").code == KILLED
        gateway.asked("/forget")
        process = place.start("--freeze=handed", "--remembered=4")
        wait_until_stopped(process)
        assert place.states() == {"in_doubt": 1}
        time.sleep(4.0)
        go_on(process)
        last = ended(process)
        check_end(place, last)
        assert last.reported("in_doubt") == {"old-000"}
        assert len(gateway.submits(place.prefix)) == 1
