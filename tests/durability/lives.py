"""Batches that are killed at random moments, and judged at each of them."""

import os
import time
from collections import Counter
from random import Random

from durable import KILLED, Place, check_end, check_histories, check_money, ended, unknown_to

from kling_async.batch import State

BATCHES = int(os.environ.get("KLING_KILLS", "12"))
TROUBLES = [
    ("kling3api", ""),
    ("kling3api", ""),
    ("apimart", ""),
    ("kling3api", " [sandbox: 429]"),
    ("apimart", " [sandbox: drop_after_accept]"),
]
"""Gateways, and what befalls the first request of every job: nothing, a refusal, the loss of the answer."""
LONGEST = 0.9
"""Seconds within which a kill falls, from the moment the batch is open; a run lasts about as long."""


def killed_after(place, seconds, *more):
    """Run a batch and kill it so long after it was opened; returns how that ended."""
    process = place.start(*more)
    assert '"opened"' in process.stdout.readline()
    time.sleep(seconds)
    process.kill()
    return ended(process)


def check_told(run, jobs):
    """Whatever a run has told of a job was durable before."""
    for key, told in run.outcomes.items():
        expected = State.IN_DOUBT if told["status"] == "in_doubt" else State.DOWNLOADED
        assert (jobs[key].state, jobs[key].entry.task_id) == (expected, told["task_id"])


def live_through(seed, root, gateway):
    """Kill a batch one or several times, look each time, let it end, judge it; returns the figures."""
    random = Random(seed)
    dialect, suffix = TROUBLES[seed % len(TROUBLES)]
    place = Place(root / f"seed{seed}", gateway, random.randint(40, 100), random.randint(5, 40), dialect)
    place.suffix = suffix
    more = ["--checkpoints"] if seed % 3 == 0 else []
    kills, doubtful = 0, set()
    for _ in range(random.choice((1, 1, 3, 6))):
        run = killed_after(place, LONGEST * random.random(), *more)
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
    )
