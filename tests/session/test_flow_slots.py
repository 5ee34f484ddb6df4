"""While a gateway is full its jobs are looked after as ever, and streams pull no more than there is room for."""

import asyncio
import itertools

import pytest
from virtual import START, VirtualSession, now

from kling_async import CapacityError, RateLimitError, Success, TextToVideo
from kling_async.gateways.kling3api import Kling3Api
from kling_async.sandbox import Sandbox

pytestmark = pytest.mark.anyio

AHEAD, TRIES = 64, 16
"""Jobs that wait beside those in flight; submits in flight beyond the slots before those are known."""


class SaysFull(Kling3Api):
    """A gateway that says why it refuses: too many tasks are running."""

    def submit(self, request, key):
        try:
            return (yield from Kling3Api.submit(self, request, key))
        except RateLimitError as error:
            full = error
        raise full.become(CapacityError, code="too_many_tasks")


GATEWAYS = [pytest.param("kling3api", id="bare-429"), pytest.param(SaysFull("k-virtual-secret"), id="capacity")]


def clips(number):
    return [TextToVideo(f"clip {n}") for n in range(number)]


def delays(sandbox, outcomes):
    """Return by how many seconds each job's end was seen late."""
    tasks = [sandbox.tasks[outcome.task_id] for outcome in outcomes]
    return [
        outcome.timing.ran - (task.ends_at - task.accepted_at) for outcome, task in zip(outcomes, tasks, strict=True)
    ]


def quantile(values, share):
    return sorted(values)[int(share * (len(values) - 1))]


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_looks_go_on_while_submits_wait_for_a_slot(gateway):
    sandbox = Sandbox(max_running=6)
    async with VirtualSession(sandbox, gateway) as session:
        outcomes = await session.gather(clips(60))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert sandbox.ledger.duplicates == []
    looks = {}
    for at, method, _, query in session.wire.log:
        if method == "GET":
            looks.setdefault(query["task_id"], []).append(at)
    for name, task in sandbox.tasks.items():
        seen = [task.accepted_at, *looks[name]]
        assert max(later - earlier for earlier, later in itertools.pairwise(seen)) <= 31
    late = delays(sandbox, outcomes)
    assert sum(late) / len(late) <= 4
    assert quantile(late, 0.95) <= 10


async def test_a_gateway_that_says_it_is_full_is_believed_at_once():
    sandbox = Sandbox(max_running=3)
    async with VirtualSession(sandbox, SaysFull("k-virtual-secret")) as session:
        futures = [session.submit(each) for each in clips(60)]
        await asyncio.sleep(20)
        assert session.stats.slots == 3
        assert sum(submit.status == 429 for submit in sandbox.ledger.submits) <= 4
        outcomes = [await future.outcome() for future in futures]

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert sandbox.ledger.duplicates == []
    assert sum(submit.status == 429 for submit in sandbox.ledger.submits) <= 0.25 * 60
    durations = [task.ends_at - task.accepted_at for task in sandbox.tasks.values()]
    assert now() - START <= 1.15 * sum(durations) / 3 + max(durations)


async def test_a_slot_that_becomes_free_is_taken_as_soon_as_the_end_is_seen():
    sandbox = Sandbox(max_running=4)
    async with VirtualSession(sandbox, SaysFull("k-virtual-secret")) as session:
        futures = [session.submit(each) for each in clips(40)]
        ends = []
        for future in futures:
            future.add_done_callback(lambda _: ends.append(now()))
        await asyncio.gather(*futures)

    starts = sorted(submit.at for submit in sandbox.ledger.submits if submit.accepted)[4:]
    waits = [min(start - end for end in ends if end <= start) for start in starts]
    assert max(waits) <= 1


@pytest.mark.parametrize("gateway", GATEWAYS)
async def test_a_stream_pulls_an_endless_input_only_a_little_ahead_of_slots_that_nobody_has_set(gateway):
    pulled = 0

    def endless():
        nonlocal pulled
        for n in itertools.count():
            pulled = n + 1
            yield TextToVideo(f"clip {n}")

    sandbox = Sandbox(max_running=10)
    async with VirtualSession(sandbox, gateway) as session:
        seen = most = 0
        async for outcome in session.stream(endless()):
            assert isinstance(outcome, Success)
            seen += 1
            most = max(most, pulled - seen)
            if seen == 100:
                break
        assert most <= 10 + TRIES + AHEAD
        assert session.stats.waiting == 0
        sent = sandbox.ledger.accepted
        await asyncio.gather(*session.unfinished)
        assert sandbox.ledger.accepted <= sent + 1
    assert sandbox.ledger.duplicates == []


async def test_a_reader_who_pauses_stops_the_pulling():
    pulled = 0

    def endless():
        nonlocal pulled
        for n in itertools.count():
            pulled = n + 1
            yield TextToVideo(f"clip {n}")

    sandbox = Sandbox(max_running=10)
    async with VirtualSession(sandbox) as session:
        stream = session.stream(endless())
        await anext(stream)
        await asyncio.sleep(4000)
        rested = pulled
        assert rested <= 10 + TRIES + AHEAD
        await asyncio.sleep(4000)
        assert pulled == rested
        for _ in range(2 * rested):
            assert isinstance(await anext(stream), Success)
        await stream.aclose()


async def test_two_streams_share_slots_that_nobody_has_set_and_neither_starves():
    pulled = {"a": 0, "b": 0}

    def endless(name):
        for n in itertools.count():
            pulled[name] += 1
            yield TextToVideo(f"{name} {n}")

    sandbox = Sandbox(max_running=10)
    async with VirtualSession(sandbox) as session:
        most = 0
        seen = {"a": 0, "b": 0}

        async def read(name):
            nonlocal most
            async with session.stream(endless(name)) as stream:
                async for outcome in stream:
                    assert isinstance(outcome, Success)
                    seen[name] += 1
                    most = max(most, sum(pulled.values()) - sum(seen.values()))
                    if sum(seen.values()) >= 300:
                        return

        await asyncio.gather(read("a"), read("b"))

    assert min(seen.values()) >= 100
    assert most <= 2 * (10 + TRIES + AHEAD)
    assert sandbox.ledger.duplicates == []
