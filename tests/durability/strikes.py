"""Runs that are killed at a failpoint, and what is true of their jobs then."""

from attrs import field, frozen
from durable import KILLED, Ended, Job, Place

from kling_async.batch import State

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


def begin(pool, root, gateway):
    """Strike one job alone at each point, and where it matters one among others; returns what comes of it, by name."""
    work = {}
    for dialect, kill in CASES:
        late = LATE if kill.point == "submit.waiting" else ""
        name = f"{dialect}-{kill.point.replace('.', '-')}"
        one = Place(root / f"alone-{name}", gateway, dialect=dialect, suffix=late)
        work[dialect, kill.point] = pool.submit(strike, one, kill.point)
        if dialect == "kling3api" and kill.company:
            many = Place(root / f"many-{name}", gateway, 12, 6, suffix=late)
            work[kill.point, "many"] = pool.submit(strike, many, kill.point + kill.company)
    return work
