"""A gateway that tells of many tasks at once is asked about many at once: fewer requests, and no job later for it."""

import asyncio
import json
import random
from itertools import pairwise

import pytest
from virtual import now

from kling_async import Failure, KlingSession, NotFoundError, PollPlan, Snapshot, Status, Success, TextToVideo
from kling_async.gateways import Accepted, Gateway, HttpRequest, HttpResponse

pytestmark = pytest.mark.anyio


class Sweeps(Gateway):
    """A gateway whose poll takes a list of ids."""

    name = "sweeps"
    base_url = "https://example.com"

    def __init__(self, poll_batch):
        self.poll_batch = poll_batch

    def submit(self, request, key):
        response = yield HttpRequest("POST", "/jobs", json={"prompt": request.prompt})
        return Accepted(response.json()["id"])

    def poll(self, task_ids):
        response = yield HttpRequest("GET", "/jobs", query={"ids": ",".join(task_ids)})
        return {
            name: Snapshot(name, Status.SUCCEEDED, urls=(f"https://example.com/{name}.mp4",))
            if done
            else Snapshot(name, Status.IN_PROGRESS)
            for name, done in response.json().items()
        }

    def authorize(self, request, now):
        return request


class Shop:
    """What is behind it: jobs that last a log-normal time, and answers in which some jobs are missing."""

    def __init__(self, missing=0.0):
        self.random = random.Random(7)
        self.missing = missing
        self.begun, self.ends, self.looks = {}, {}, {}
        self.asked = []

    async def send(self, request, *, timeout, fence, fresh):
        if fence is not None:
            await fence.pass_through()
        await asyncio.sleep(0.04)
        answer = self.take() if request.method == "POST" else self.tell(request.query["ids"].split(","))
        await asyncio.sleep(0.04)
        return HttpResponse(200, {}, json.dumps(answer).encode())

    def take(self):
        name = f"job-{len(self.begun)}"
        self.begun[name] = now()
        self.ends[name] = now() + 90 * self.random.lognormvariate(0, 0.4)
        self.looks[name] = []
        return {"id": name}

    def tell(self, names):
        self.asked.append(len(names))
        for name in names:
            self.looks[name].append(now())
        return {name: now() >= self.ends[name] for name in names if self.random.random() >= self.missing}

    async def close(self):
        pass


class SweepSession(KlingSession):
    def __init__(self, poll_batch, shop, **settings):
        super().__init__(Sweeps(poll_batch), concurrency=None, rate=None, **settings)
        self.shop = shop

    def _transport(self):
        return self.shop


async def made(poll_batch, jobs=500, missing=0.0, **settings):
    """Make jobs; return the shop, the outcomes and the mean seconds by which an end was seen late."""
    shop = Shop(missing)
    async with SweepSession(poll_batch, shop, **settings) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(jobs))
    return shop, outcomes, seen_late(shop, outcomes)


def seen_late(shop, outcomes):
    """Return the mean seconds by which an end was seen late."""
    late = [each.timing.ran - (shop.ends[each.task_id] - shop.begun[each.task_id]) for each in outcomes]
    return sum(late) / len(late)


async def test_five_hundred_jobs_cost_far_fewer_requests_than_one_by_one_and_are_seen_no_later():
    single, outcomes, delay_of_single = await made(1)
    swept, outcomes_swept, delay_of_swept = await made(100)

    assert {type(outcome) for outcome in outcomes + outcomes_swept} == {Success}
    assert max(swept.asked) <= 100
    assert len(swept.asked) <= len(single.asked) / 8
    assert len(swept.asked) <= 0.7 * 500
    assert delay_of_swept <= delay_of_single
    assert delay_of_swept <= 5


async def test_jobs_that_come_one_after_another_are_swept_too():
    shop = Shop()
    async with SweepSession(100, shop) as session:
        futures = []
        for n in range(500):
            futures.append(session.submit(TextToVideo(f"clip {n}")))
            await asyncio.sleep(0.5)
        outcomes = [await future.outcome() for future in futures]

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert len(shop.asked) <= 2 * 500
    assert seen_late(shop, outcomes) <= 2


@pytest.mark.parametrize("minimum", [1.0, 5.0])
async def test_the_minimum_between_two_looks_at_one_job_holds_in_sweeps(minimum):
    shop, outcomes, _ = await made(100, jobs=200, poll=PollPlan(minimum=minimum))

    assert {type(outcome) for outcome in outcomes} == {Success}
    gaps = [later - earlier for times in shop.looks.values() for earlier, later in pairwise(times)]
    assert min(gaps) >= minimum - 1e-6


async def test_jobs_that_are_missing_from_an_answer_are_missed_looks_and_nothing_else():
    shop, outcomes, delay = await made(100, jobs=300, missing=0.2)

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert len(shop.begun) == 300
    assert delay <= 5


async def test_jobs_that_are_missing_for_good_are_given_up_after_a_minute_with_their_ids_and_the_others_succeed():
    shop = Shop()
    async with SweepSession(100, shop) as session:
        futures = [session.submit(TextToVideo(f"clip {n}")) for n in range(100)]
        await asyncio.sleep(5)
        lost = {f"job-{n}" for n in range(0, 100, 10)}
        honest = shop.tell
        shop.tell = lambda names: {name: done for name, done in honest(names).items() if name not in lost}
        outcomes = [await future.outcome() for future in futures]

    failures = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert {outcome.task_id for outcome in failures} == lost
    assert {type(outcome.error) for outcome in failures} == {NotFoundError}
    assert all(outcome.timing.ran >= 60 for outcome in failures)


async def test_an_answer_that_is_lost_costs_a_sweep_and_no_job():
    shop = Shop()
    honest = shop.send
    fails = random.Random(3)

    async def send(request, **settings):
        response = await honest(request, **settings)
        return HttpResponse(500) if request.method == "GET" and fails.random() < 0.3 else response

    shop.send = send
    async with SweepSession(100, shop) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(200))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert len(shop.asked) < 400
