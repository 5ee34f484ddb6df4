"""A run is killed at each failpoint, and another one ends its batch: nothing is lost, nothing is paid twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from attrs import field, frozen
from durable import KILLED, Ended, Gateway, Job, Place, check_end, check_histories, check_money, unknown_to

from kling_async import failpoints
from kling_async.batch import State

pytestmark = pytest.mark.timeout(400)  # the first test waits for all kills

PADDING = 6_000_000
PIECE = 65_536
LATE = " [sandbox: slow 0.5]"


@frozen
class Kill:
    """Where one job is killed, and what is true of it then.

    Args:
        point: the failpoint.
        state: where the job stands in the journal, None for a job that is not there.
        accepted: whether the gateway has it.
        doubtful: whether nobody can know that.
        downloads: requests for its video, before the kill and in all.
        company: which of many jobs at once is killed there.
    """

    point: str
    state: State | None
    accepted: bool
    doubtful: bool = False
    downloads: tuple[int, int] = (0, 1)
    company: str = field(kw_only=True, default=":5")


KILLS = [
    Kill("plan.before-insert", None, accepted=False, company=""),
    Kill("plan.committed", State.PLANNED, accepted=False, company=""),
    Kill("intent.before-commit", State.PLANNED, accepted=False),
    Kill("intent.committed", State.SUBMITTING, accepted=False, doubtful=True),
    Kill("submit.waiting", State.SUBMITTING, accepted=True, doubtful=True),
    Kill("submit.answered", State.SUBMITTING, accepted=True, doubtful=True),
    Kill("accepted.committed", State.ACCEPTED, accepted=True),
    Kill("look.answered", State.ACCEPTED, accepted=True),
    Kill("succeeded.committed", State.SUCCEEDED, accepted=True),
    Kill("download.named", State.SUCCEEDED, accepted=True),
    Kill("download.half", State.SUCCEEDED, accepted=True, downloads=(1, 2)),
    Kill("download.checked", State.SUCCEEDED, accepted=True, downloads=(1, 1)),
    Kill("download.renamed", State.SUCCEEDED, accepted=True, downloads=(1, 1)),
    Kill("downloaded.committed", State.DOWNLOADED, accepted=True, downloads=(1, 1)),
    Kill("migrate.middle", None, accepted=False, company=""),
    Kill("checkpoint.before", State.DOWNLOADED, accepted=True, downloads=(1, 1), company=""),
]
UNDER_KEYS = [kill for kill in KILLS if kill.doubtful]
CASES = [("kling3api", kill) for kill in KILLS] + [("apimart", kill) for kill in UNDER_KEYS]
"""A gateway that knows a job by its key resolves what is in doubt; nothing else depends on the gateway."""

alone = pytest.mark.parametrize(("dialect", "kill"), CASES, ids=lambda part: getattr(part, "point", part))


@frozen
class Struck:
    """A batch whose first run was killed, and whose second one came to its end."""

    place: Place
    first: Ended
    then: dict[str, Job]
    calls_then: list
    downloads_then: dict
    last: Ended


def strike(place, failpoint):
    first = place.run(failpoint=failpoint)
    then = place.read() if first.code == KILLED and failpoint != "migrate.middle" else {}
    calls = place.gateway.submits(place.prefix)
    tasks = [job.entry.task_id for job in then.values() if job.entry.task_id]
    downloads = {task: place.gateway.downloads(task) for task in tasks}
    return Struck(place, first, then, calls, downloads, place.run())


@pytest.fixture(scope="module")
def struck(tmp_path_factory, quick_gateway):
    """Every kill, of one job alone and of one among others."""
    root = tmp_path_factory.mktemp("points")
    work = {}
    with ThreadPoolExecutor(4) as pool:
        for dialect, kill in CASES:
            late = LATE if kill.point == "submit.waiting" else ""
            name = f"{dialect}-{kill.point.replace('.', '-')}"
            one = Place(root / f"alone-{name}", quick_gateway, dialect=dialect, suffix=late)
            work[dialect, kill.point] = pool.submit(strike, one, kill.point)
            if dialect == "kling3api":
                many = Place(root / f"many-{name}", quick_gateway, 12, 6, suffix=late)
                work[kill.point, "many"] = pool.submit(strike, many, kill.point + kill.company)
    return {name: done.result() for name, done in work.items()}


def test_there_is_a_kill_for_every_failpoint():
    assert [kill.point for kill in KILLS] == list(failpoints.POINTS)


@alone
def test_a_job_killed_alone_is_found_where_it_stood_and_goes_on_from_there(struck, kill, dialect):
    found = struck[dialect, kill.point]
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


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.point)
def test_among_many_jobs_only_those_under_way_are_in_doubt(struck, kill):
    found = struck[kill.point, "many"]
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
    for _ in range(3):
        assert place.run(failpoint="download.half:28").code == KILLED
    (job,) = check_end(place, place.run(), padding()).values()
    asked = large.downloads(job.entry.task_id)
    starts = [int((each["range"] or "bytes=0-")[6:-1]) for each in asked]
    assert starts == sorted(set(starts))
    assert len(starts) == 4
    assert sum(each["bytes"] for each in asked) <= 1.5 * job.entry.size


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
