"""Many jobs over many hours of virtual time."""

import asyncio
import itertools
import random

import pytest
from virtual import START, VirtualSession, now

from kling_async import (
    Failure,
    InsufficientCreditsError,
    PollPlan,
    RetryPolicy,
    Success,
    TextToVideo,
    UnsupportedError,
    VideoEdit,
)
from kling_async.sandbox import Sandbox, http

pytestmark = pytest.mark.anyio


async def test_a_thousand_jobs_that_span_hours_end_with_a_thousand_outcomes_each_paid_once():
    async with VirtualSession(concurrency=10) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(1000))

    assert len(outcomes) == 1000
    assert all(isinstance(outcome, Success) for outcome in outcomes)
    assert [outcome.request.prompt for outcome in outcomes] == [f"clip {n}" for n in range(1000)]
    assert now() - START > 2 * 3600
    ledger = session.sandbox.ledger
    assert ledger.duplicates == []
    assert ledger.accepted == 1000
    assert ledger.max_running <= 10


async def test_a_third_refused_with_429_and_402_after_a_limit_leaves_every_outcome_structured_and_paid_once():
    sandbox = Sandbox(balance=200 * 3000, speed=20)
    sandbox.script(http(429, retry_after=0.2), on="submit", share=1 / 3)
    async with VirtualSession(sandbox, concurrency=200, rate=None) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(5000))

    won = [outcome for outcome in outcomes if isinstance(outcome, Success)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, Failure)]
    assert len(outcomes) == 5000
    assert len(won) == 3000
    assert {type(outcome.error) for outcome in lost} == {InsufficientCreditsError}
    assert {outcome.charged for outcome in lost} == {"no"}
    assert sandbox.ledger.duplicates == []
    assert sandbox.ledger.accepted == 3000
    broke = [submit.at for submit in sandbox.ledger.submits if submit.status == 402]
    after = [submit for submit in sandbox.ledger.submits if submit.at > min(broke) + session.wire.rtt]
    assert after == []


async def test_the_number_of_outcomes_equals_the_number_of_requests_whatever_they_are():
    odd = [TextToVideo("a"), VideoEdit("b", video="https://example.com/v.mp4"), {"prompt": "c"}, None, 7]
    async with VirtualSession(gateway="klinggenerator") as session:
        outcomes = await session.gather(odd)

    assert [type(outcome) for outcome in outcomes] == [Success, Failure, Failure, Failure, Failure]
    assert isinstance(outcomes[1].error, UnsupportedError)
    assert [outcome.error.code for outcome in outcomes[2:]] == ["INVALID_TYPE"] * 3


async def test_slots_are_held_from_admission_to_the_end():
    sandbox = Sandbox(speed=10)
    async with VirtualSession(sandbox, concurrency=3, rate=None) as session:
        futures = [session.submit(TextToVideo(f"clip {n}")) for n in range(30)]
        await asyncio.sleep(1)
        assert session.stats.used == 3
        assert session.stats.waiting == 27
        await asyncio.gather(*futures)

    assert sandbox.ledger.max_running == 3


async def test_requests_never_exceed_the_rate_beyond_its_burst():
    async with VirtualSession(Sandbox(speed=30), concurrency=50, rate=["10/s", "200/min"]) as session:
        await session.gather(TextToVideo(f"clip {n}") for n in range(200))
    times = [at for at, *_ in session.wire.log]

    for window, most in ((1.0, 10 + 1), (60.0, 200 + 1)):
        first = 0
        for last, at in enumerate(times):
            while times[first] < at - window + 1e-6:
                first += 1
            assert last - first + 1 <= most


async def test_the_bucket_starts_with_one_token():
    async with VirtualSession(rate="10/s") as session:
        for n in range(5):
            session.submit(TextToVideo(f"clip {n}"))
        await asyncio.sleep(0.35)
        assert len(session.wire.times("POST")) == 4


async def test_a_stream_pulls_an_endless_input_only_as_slots_free_up():
    pulled = 0

    def endless():
        nonlocal pulled
        for n in itertools.count():
            pulled = n + 1
            yield TextToVideo(f"clip {n}")

    async with VirtualSession(Sandbox(speed=10), concurrency=5, rate=None) as session:
        seen = 0
        async for outcome in session.stream(endless()):
            assert isinstance(outcome, Success)
            seen += 1
            assert pulled - seen <= 5
            if seen == 50:
                break
        assert session.stats.waiting == 0


async def test_a_stream_takes_an_async_iterable_and_yields_every_outcome_once():
    async def requests():
        for n in range(40):
            await asyncio.sleep(random.Random(n).random())
            yield TextToVideo(f"clip {n}")

    async with VirtualSession(Sandbox(speed=10), concurrency=5, rate=None) as session:
        prompts = [outcome.request.prompt async for outcome in session.stream(requests())]

    assert sorted(prompts) == sorted(f"clip {n}" for n in range(40))


async def test_leaving_a_stream_early_withdraws_what_was_not_sent_and_follows_what_was():
    sandbox = Sandbox(speed=10)
    sandbox.script(http(429, retry_after=3), on="submit", nth=4)
    async with VirtualSession(sandbox, concurrency=10, rate="2/s") as session:
        async for _ in session.stream(TextToVideo(f"clip {n}") for n in range(1000)):
            break
        sent = sandbox.ledger.accepted
        left = session.unfinished
        assert {future.status for future in left} <= {"in_progress", "submitting"}
        await asyncio.gather(*left)
        assert sandbox.ledger.accepted <= sent + 1


async def test_an_error_of_the_input_reaches_the_reader_as_itself_after_what_came_before_it():
    def broken():
        yield TextToVideo("one")
        yield TextToVideo("two")
        raise ZeroDivisionError("in the user's own code")

    outcomes = []
    async with VirtualSession(Sandbox(speed=10)) as session:
        stream = session.stream(broken())
        outcomes += [await anext(stream), await anext(stream)]
        with pytest.raises(ZeroDivisionError, match="in the user's own code"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    assert [outcome.ok for outcome in outcomes] == [True, True]


async def test_looks_are_never_closer_than_the_minimum_nor_further_apart_than_the_maximum():
    plan = PollPlan(minimum=2, maximum=20)
    async with VirtualSession(poll=plan, rate=None) as session:
        await session.gather(TextToVideo(f"clip {n}") for n in range(50))

    looks = {}
    for at, method, _, query in session.wire.log:
        if method == "GET":
            looks.setdefault(query["task_id"], []).append(at)
    gaps = [after - before for times in looks.values() for before, after in itertools.pairwise(times)]
    assert min(gaps) >= 2
    assert max(gaps) <= 20 + 0.2


async def test_429_for_ever_ends_with_rate_limit_errors_after_a_bounded_number_of_requests():
    sandbox = Sandbox()
    sandbox.script(http(429), on="submit")
    async with VirtualSession(sandbox, retry=RetryPolicy(attempts=4, budget=12)) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(100))

    assert {type(outcome.error).__name__ for outcome in outcomes} == {"RateLimitError"}
    assert len(session.wire.times("POST")) <= 13
    assert now() - START < 600


async def test_requests_may_come_with_keys_of_the_users_own():
    pairs = [(f"row-{n}", TextToVideo(f"clip {n}")) for n in range(5)]
    async with VirtualSession() as session:
        outcomes = await session.gather([*pairs, TextToVideo("without")])
        again = {outcome.key async for outcome in session.stream(pairs)}
    assert [outcome.key for outcome in outcomes[:5]] == [key for key, _ in pairs]
    assert again == {key for key, _ in pairs}
    assert session.sandbox.ledger.accepted == 6
