"""A run is killed at each failpoint, and another one ends its batch: nothing is lost, nothing is paid twice."""

import time

import pytest
from durable import KILLED, Gateway, Place, check_end, check_histories, check_money, ended, unknown_to
from strikes import CASES, KILLS, strike

from kling_async import failpoints
from kling_async.batch import State

pytestmark = pytest.mark.timeout(400)  # the first test waits for all kills

PADDING = 6_000_000
PIECE = 65_536


alone = pytest.mark.parametrize(("dialect", "kill"), CASES, ids=lambda part: getattr(part, "point", part))


def test_there_is_a_kill_for_every_failpoint():
    assert [kill.point for kill in KILLS] == list(failpoints.POINTS)


@alone
def test_a_job_killed_alone_is_found_where_it_stood_and_goes_on_from_there(struck, kill, dialect):
    found = struck[dialect, kill.point].result()
    assert found.first.code == KILLED, found.first
    job = next(iter(found.then.values()), None)
    assert (job and job.state) == kill.state
    assert [call["accepted"] for call in found.calls_then] == ([True] if kill.accepted else [])
    check_histories(found.then)
    jobs = check_end(found.place, found.last)
    (job,) = jobs.values()
    calls = found.place.gateway.submits(found.place.prefix)
    if kill.doubtful and dialect == "kling3api":
        assert job.state is State.IN_DOUBT
        assert len(calls) == kill.accepted  # it was not sent again
        assert found.last.outcomes[job.entry.key]["error"] == "SubmissionInDoubtError"
        assert found.last.reported("in_doubt") == {job.entry.key}
        return
    assert job.state is State.DOWNLOADED
    assert sum(call["accepted"] for call in calls) == 1
    assert len(found.downloads_then.get(job.entry.task_id, [])) == kill.downloads[0]
    assert len(found.place.gateway.downloads(job.entry.task_id)) == kill.downloads[1]


@pytest.mark.parametrize("kill", [kill for kill in KILLS if kill.company], ids=lambda kill: kill.point)
def test_among_many_jobs_only_those_under_way_are_in_doubt(struck, kill):
    found = struck[kill.point, "many"].result()
    assert found.first.code == KILLED, found.first
    flying = {key for key, job in found.then.items() if job.state is State.SUBMITTING}
    assert len(flying) <= found.place.concurrency
    check_histories(found.then)
    check_money(found.place, found.then, found.calls_then)
    assert len(unknown_to(found.then, found.calls_then)) <= len(flying)
    jobs = check_end(found.place, found.last)
    doubtful = {key for key, job in jobs.items() if job.state is State.IN_DOUBT}
    assert doubtful == flying
    assert found.last.reported("in_doubt") == doubtful
    over = {key for key, job in found.then.items() if job.state is State.DOWNLOADED}
    assert found.last.reported("succeeded") == set(jobs) - doubtful - over


@pytest.fixture(scope="module")
def large():
    """A gateway whose videos are large, and come in pieces."""
    with Gateway.start(padding=PADDING, piece=PIECE) as running:
        yield running


def padding():
    return (PADDING + 8).to_bytes(4, "big") + b"free" + bytes(PADDING)


def test_a_download_killed_half_way_is_taken_up_where_it_stopped(tmp_path, large):
    found = strike(Place(tmp_path / "half", large), "download.half:45")
    assert found.first.code == KILLED
    (job,) = check_end(found.place, found.last, padding()).values()
    first, second = large.downloads(job.entry.task_id)
    assert first["range"] is None
    start = int(second["range"].removeprefix("bytes=").removesuffix("-"))
    assert start > 1_000_000
    assert start + second["bytes"] == job.entry.size
    assert first["bytes"] + second["bytes"] <= 1.5 * job.entry.size


def test_a_large_download_killed_again_and_again_is_asked_for_piece_by_piece(tmp_path, large):
    place = Place(tmp_path / "again", large)
    part = place.videos / "again-000.mp4.part"
    there = []
    for enough in (1_000_000, 2_500_000, 4_000_000):
        process = place.start()
        while process.poll() is None and not (part.exists() and part.stat().st_size > enough):
            time.sleep(0.001)
        process.kill()
        assert ended(process).code == KILLED
        there.append(part.stat().st_size)
    (job,) = check_end(place, place.run(), padding()).values()
    asked = [each["range"] for each in large.downloads(job.entry.task_id)]
    assert asked == [None, *(f"bytes={size}-" for size in there)]


@pytest.fixture(scope="module")
def bare():
    """A gateway that tells neither the length of a video nor a name of its version."""
    with Gateway.start(padding=PADDING, piece=PIECE, bare=1) as running:
        yield running


@pytest.mark.parametrize("server", ["large", "bare"])
@pytest.mark.parametrize("point", ["download.checked", "download.renamed"])
def test_a_whole_download_is_checked_and_not_asked_for_again(request, tmp_path, point, server):
    gateway = request.getfixturevalue(server)
    place = Place(tmp_path / point.replace(".", "-"), gateway)
    found = strike(place, point)
    assert found.first.code == KILLED
    (job,) = check_end(place, found.last, padding()).values()
    assert len(gateway.downloads(job.entry.task_id)) == 1


def test_a_part_that_was_changed_after_its_check_is_fetched_anew(tmp_path, large):
    place = Place(tmp_path / "changed", large)
    assert place.run(failpoint="download.checked").code == KILLED
    with (place.videos / "changed-000.mp4.part").open("r+b") as part:
        part.seek(100_000)
        part.write(b"x")
    (job,) = check_end(place, place.run(), padding()).values()
    assert len(large.downloads(job.entry.task_id)) == 2
