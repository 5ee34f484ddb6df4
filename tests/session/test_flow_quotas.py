"""What is left of a day, by the user's rate or the gateway's own word, is spent so that paid jobs are looked at."""

import asyncio

import pytest
from virtual import START, VirtualSession, now

from kling_async import QuotaExhaustedError, RetryPolicy, Success, TextToVideo, Timeouts
from kling_async.sandbox import Sandbox, answer

pytestmark = pytest.mark.anyio

DAY = 86_400
ENDLESS = Timeouts(generation=None)


def clips(number):
    return [TextToVideo(f"clip {n}") for n in range(number)]


def says(*, remaining=None, reset=None, **others):
    """Return a true answer with headers that say what is left."""
    told = {"X-RateLimit-Remaining": remaining, "X-RateLimit-Reset": reset, **others}
    headers = tuple((name, str(value)) for name, value in told.items() if value is not None)
    return answer(lambda true: true, accept=True, headers=headers)


async def test_a_used_up_day_fails_what_is_left_without_more_requests():
    sandbox = Sandbox(daily_quota=20)
    async with VirtualSession(sandbox, "klinggenerator") as session:
        outcomes = await session.gather(clips(60))

    won = [outcome for outcome in outcomes if outcome.ok]
    assert len(won) == 20
    assert {type(outcome.error) for outcome in outcomes if not outcome.ok} == {QuotaExhaustedError}
    assert {outcome.charged for outcome in outcomes if not outcome.ok} == {"no"}
    assert len(session.wire.times("POST")) <= 20 + 2
    assert sandbox.ledger.duplicates == []


async def test_a_used_up_day_is_waited_for_where_the_user_says_so():
    sandbox = Sandbox(daily_quota=20)
    settings = {"retry": RetryPolicy(on_quota="wait"), "timeouts": ENDLESS}
    async with VirtualSession(sandbox, "klinggenerator", **settings) as session:
        outcomes = await session.gather(clips(60))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert sandbox.ledger.duplicates == []
    assert DAY < now() - START <= 3 * DAY
    # Nobody knows when the day ends: one submit an hour asks.
    assert len(session.wire.times("POST")) <= 60 + 3 * 24
    assert max(outcome.timing.ran for outcome in outcomes) <= 600


async def test_of_a_users_day_no_more_is_spent_on_submits_than_leaves_a_look_for_each():
    async with VirtualSession(rate="10/day", timeouts=ENDLESS) as session:
        outcomes = await session.gather(clips(10))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert session.sandbox.ledger.duplicates == []
    times = [at for at, *_ in session.wire.log]
    assert all(later - earlier >= DAY - 1e-6 for earlier, later in zip(times, times[10:], strict=False))
    assert 1 <= sum(at < START + DAY for at in session.wire.times("POST")) <= 5
    assert now() - START <= 5 * DAY


async def test_of_a_users_day_the_looks_that_are_kept_bring_the_videos_within_the_hour():
    async with VirtualSession(rate="10/day") as session:
        futures = [session.submit(each) for each in clips(10)]
        await asyncio.sleep(3600)
        begun = [future for future in futures if future.task_id is not None]
        assert {type(await future.outcome()) for future in begun} == {Success}


async def test_a_day_of_one_request_hangs_nothing():
    async with VirtualSession(rate="1/day", timeouts=ENDLESS) as session:
        outcomes = await session.gather(clips(2))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert now() - START <= 5 * DAY


async def test_nothing_leaves_before_the_reset_that_the_gateway_names():
    sandbox = Sandbox()
    async with VirtualSession(sandbox, rate=None, concurrency=None) as session:
        first = [session.submit(each) for each in clips(20)]
        await asyncio.sleep(15)
        sandbox.next(says(remaining=0, reset=3))
        late = session.submit(TextToVideo("late"))
        await late.accepted()
        told = now()
        more = [session.submit(TextToVideo(f"more {n}")) for n in range(50)]
        outcomes = [await future.outcome() for future in [*first, late, *more]]

    assert {type(outcome) for outcome in outcomes} == {Success}
    after = [at for at, *_ in session.wire.log if at > told]
    assert told + 3 <= min(after) + 1e-6 <= told + 3.5


async def test_a_window_that_the_gateway_tells_of_all_along_is_never_overdrawn():
    sandbox = Sandbox()
    window = {"began": START, "used": 0}

    honest = sandbox.handle

    def handle(call, moment):
        if moment - window["began"] >= 10:
            window.update(began=moment, used=0)
        window["used"] += 1
        reply = honest(call, moment)
        reply.headers["X-RateLimit-Remaining"] = str(max(0, 20 - window["used"]))
        reply.headers["X-RateLimit-Reset"] = str(window["began"] + 10 - moment)
        window["most"] = max(window.get("most", 0), window["used"])
        return reply

    async with VirtualSession(sandbox, concurrency=5, rate=None) as session:
        session.wire.sandbox = type("Told", (), {"handle": staticmethod(handle)})
        outcomes = await session.gather(clips(40))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert window["most"] <= 20


ABSURD = [
    {"remaining": "-5"},
    {"remaining": "nan", "reset": 60},
    {"remaining": "inf", "reset": "nan"},
    {"remaining": "1e400", "reset": "1e400"},
    {"remaining": "many", "reset": "soon"},
    {"remaining": "", "reset": ""},
    {"remaining": "0"},
    {"remaining": "0", "reset": "-1"},
    {"remaining": "0", "reset": "0"},
    {"remaining": "0", "reset": "soon"},
    {"remaining": "0", "reset": "1"},
    {"remaining": "0", "reset": "86400000"},
    {"remaining": "0", "reset": "9" * 300},
    {"RateLimit": "limit=, remaining=, reset=;;;"},
    {"RateLimit": '"default";r=' + "9" * 400},
]


@pytest.mark.parametrize("headers", ABSURD, ids=str)
async def test_absurd_headers_harm_nothing(headers):
    sandbox = Sandbox()
    sandbox.script(says(**headers), share=0.3, on="poll")
    sandbox.script(says(**headers), every=4, on="submit")
    async with VirtualSession(sandbox) as session:
        outcomes = await session.gather(clips(12))

    assert {type(outcome) for outcome in outcomes} == {Success}
    assert sandbox.ledger.duplicates == []
    assert now() - START <= 3600
