"""What the rows about processes share: runs that are killed at a moment, and what is true of their jobs then.

`KLING_KILLS` says how many runs each row makes (default 1; 50 is the full measure); rows at random moments make four
times as many, and twelve at least.
"""

import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from attrs import field, frozen

sys.path += [str(Path(__file__).parents[1] / room) for room in ("durability", "journal", "cli")]

from durable import KILLED, Ended, Job, Place, check_end, check_histories, check_money, unknown_to

from kling_async.batch import State

RUNS = int(os.environ.get("KLING_KILLS", "1"))
SEEDS = max(12, 4 * RUNS)
AT_ONCE = 3


@frozen
class Kill:
    """Where a job is killed, and what is true of it then.

    Args:
        point: the failpoint, or "in" and the step in the middle of whose commit that is.
        state: where the job stands in the journal, None for a job that is not there.
        accepted: whether the gateway has it.
        doubtful: whether nobody can know that.
        downloads: requests for its video, before the kill and in all.
        company: which of many jobs at once is killed there; empty where that tells nothing more.
        suffix: what its prompt ends with.
    """

    point: str
    state: State | None
    accepted: bool
    doubtful: bool = False
    downloads: tuple[int, int] = (0, 1)
    company: str = field(kw_only=True, default=":5")
    suffix: str = field(kw_only=True, default="")

    def strikes(self, place, company=""):
        """Kill a run there."""
        if self.point.startswith("in "):
            return place.run(f"--die-in={self.point.removeprefix('in ')}")
        return place.run(failpoint=self.point + company)


KILLS = {
    "H02": Kill("plan.before-insert", None, accepted=False, company=""),
    "H03": Kill("plan.committed", State.PLANNED, accepted=False, company=""),
    "H04": Kill("intent.before-commit", State.PLANNED, accepted=False),
    "H05": Kill("in submitting", State.PLANNED, accepted=False),
    "H06": Kill("intent.committed", State.SUBMITTING, accepted=False, doubtful=True),
    "H08": Kill("submit.waiting", State.SUBMITTING, accepted=True, doubtful=True, suffix=" [sandbox: slow 0.5]"),
    "H09": Kill("submit.answered", State.SUBMITTING, accepted=True, doubtful=True),
    "H09 in the commit": Kill("in accepted", State.SUBMITTING, accepted=True, doubtful=True),
    "H10": Kill("accepted.committed", State.ACCEPTED, accepted=True),
    "H11": Kill("look.answered", State.ACCEPTED, accepted=True, suffix=" [sandbox: ends_after 0.5]"),
    "H12": Kill("in succeeded", State.ACCEPTED, accepted=True),
    "H13": Kill("succeeded.committed", State.SUCCEEDED, accepted=True),
    "H13 named": Kill("download.named", State.SUCCEEDED, accepted=True),
    "H14": Kill("download.half", State.SUCCEEDED, accepted=True, downloads=(1, 2)),
    "H15": Kill("download.checked", State.SUCCEEDED, accepted=True, downloads=(1, 1)),
    "H16": Kill("download.renamed", State.SUCCEEDED, accepted=True, downloads=(1, 1)),
    "H16 in the commit": Kill("in downloaded", State.SUCCEEDED, accepted=True, downloads=(1, 1)),
    "H16 committed": Kill("downloaded.committed", State.DOWNLOADED, accepted=True, downloads=(1, 1)),
    "H17": Kill("migrate.middle", None, accepted=False, company=""),
    "H18": Kill("checkpoint.before", State.DOWNLOADED, accepted=True, downloads=(1, 1), company=""),
}
"""One row may have more than one moment; the failpoints stand in the order of a job's life."""


@frozen
class Struck:
    """A batch whose first run was killed, and whose second one came to its end."""

    place: Place
    first: Ended
    then: dict[str, Job]
    calls_then: list
    downloads_then: dict
    last: Ended


def strike(place, kill, company=""):
    """Kill a run, look, and let a second one come to the end."""
    first = kill.strikes(place, company)
    then = place.read() if first.code == KILLED and kill.point != "migrate.middle" else {}
    calls = place.gateway.submits(place.prefix)
    tasks = [job.entry.task_id for job in then.values() if job.entry.task_id]
    downloads = {task: place.gateway.downloads(task) for task in tasks}
    return Struck(place, first, then, calls, downloads, place.run())


def all_of(work, items):
    """Do something for each item, some at once; returns what comes of each."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, items))


def strike_all(row, root, gateway, figures):
    """Kill a job alone, and one among others, as often as `KLING_KILLS` says, and judge both.

    What is in doubt, a gateway that knows a job by its key resolves; nothing else depends on the gateway.
    """
    kill = KILLS[row]
    word = row.replace(" ", "-")

    def alone(number, dialect):
        place = Place(root / f"{word}-{dialect}-{number}", gateway, dialect=dialect, suffix=kill.suffix)
        found = strike(place, kill)
        judge_alone(found, kill)
        return duplicates(place)

    def many(number, _):
        place = Place(root / f"{word}-many-{number}", gateway, 12, 6, suffix=kill.suffix)
        judge_many(strike(place, kill, kill.company))
        return duplicates(place)

    dialects = ("kling3api", "apimart") if kill.doubtful else ("kling3api",)
    work = [(alone, number, dialect) for number in range(RUNS) for dialect in dialects]
    work += [(many, number, "") for number in range(RUNS) if kill.company]
    figures.duplicates += sum(all_of(lambda item: item[0](*item[1:]), work))


def duplicates(place):
    """Return how many submits of a batch were taken beyond the first of the same job."""
    accepted = Counter(call["prompt"] for call in place.gateway.submits(place.prefix) if call["accepted"])
    return sum(times - 1 for times in accepted.values())


def judge_alone(found, kill):
    """A job killed alone is found where it stood and goes on from there."""
    assert found.first.code == KILLED, found.first
    job = next(iter(found.then.values()), None)
    assert (job and job.state) == kill.state
    assert [call["accepted"] for call in found.calls_then] == ([True] if kill.accepted else [])
    check_histories(found.then)
    (job,) = check_end(found.place, found.last).values()
    calls = found.place.gateway.submits(found.place.prefix)
    if kill.doubtful and found.place.dialect == "kling3api":
        assert job.state is State.IN_DOUBT
        assert len(calls) == kill.accepted  # it was not sent again
        told = found.last.outcomes[job.entry.key]
        assert (told["error"], told["charged"], told["task_id"]) == ("SubmissionInDoubtError", "unknown", None)
        assert found.last.reported("in_doubt") == {job.entry.key}
        return
    assert job.state is State.DOWNLOADED
    assert sum(call["accepted"] for call in calls) == 1
    assert len(found.downloads_then.get(job.entry.task_id, [])) == kill.downloads[0]
    assert len(found.place.gateway.downloads(job.entry.task_id)) == kill.downloads[1]


def judge_many(found):
    """Among many jobs only those under way are in doubt."""
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


# Kills at random moments.

TROUBLES = [
    ("kling3api", ""),
    ("kling3api", ""),
    ("apimart", ""),
    ("kling3api", " [sandbox: 429]"),
    ("apimart", " [sandbox: drop_after_accept]"),
]
"""Gateways, and what befalls the first request of every job: nothing, a refusal, the loss of the answer."""
LONGEST = 1.2
"""Seconds within which a kill falls, from the moment the batch is open; a run lasts about as long."""
MOST_MEMORY = 100
"""MiB that a run of a hundred jobs takes at most."""


def check_told(run, jobs):
    """Whatever a run has told of a job was durable before."""
    for key, told in run.outcomes.items():
        expected = State.IN_DOUBT if told["status"] == "in_doubt" else State.DOWNLOADED
        assert (jobs[key].state, jobs[key].entry.task_id) == (expected, told["task_id"])


def live_through(seed, root, gateway):
    """Kill a batch of 100 once or several times, look each time, let it end, judge it; returns the figures."""
    random = Random(seed)
    dialect, suffix = TROUBLES[seed % len(TROUBLES)]
    place = Place(root / f"seed{seed}", gateway, 100, random.randint(5, 40), dialect)
    place.suffix = suffix
    more = ["--checkpoints"] if seed % 3 == 0 else []
    kills, doubtful = 0, set()
    for _ in range(random.choice((1, 1, 3, 6))):
        run = place.run(*more, killed_after=LONGEST * random.random())
        if run.code != KILLED:
            break
        kills += 1
        jobs, calls = place.read(), gateway.submits(place.prefix)
        flying = {key for key, job in jobs.items() if job.state is State.SUBMITTING}
        before = {key for key, job in jobs.items() if job.state is State.IN_DOUBT}
        assert len(flying) <= place.concurrency
        assert before <= doubtful
        assert len(unknown_to(jobs, calls)) <= len(flying | before)
        check_told(run, jobs)
        check_histories(jobs)
        check_money(place, jobs, calls)
        doubtful |= flying
    last = place.run()
    assert last.peak <= MOST_MEMORY
    jobs = check_end(place, last)
    left = {key for key, job in jobs.items() if job.state is State.IN_DOUBT}
    assert left == (doubtful if dialect == "kling3api" else set())
    accepted = sum(call["accepted"] for call in gateway.submits(place.prefix))
    return Counter(
        batches=1,
        kills=kills,
        jobs=place.jobs,
        accepted=accepted,
        interrupted=len(doubtful),
        in_doubt=len(left),
        accepted_and_in_doubt=accepted - (place.jobs - len(left)),
        duplicates=duplicates(place),
    )
