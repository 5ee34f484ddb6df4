"""What a batch may spend: the budget over all runs, prices, failures, time, and an account that cannot pay."""

import asyncio
import random

import pytest
from batch_virtual import check, clip, clips, made, night, states

from kling_async import (
    BudgetExceededError,
    ConfigurationError,
    Failure,
    InsufficientCreditsError,
    Status,
    Success,
)
from kling_async.sandbox import (
    Sandbox,
    accepted_then,
    answer,
    drop_after_accept,
    ends_after,
    fail,
    hang_after_accept,
    http,
)

pytestmark = pytest.mark.anyio


class Watched(Sandbox):
    """A gateway that objects as soon as it was asked for more than a budget."""

    most = None

    def handle(self, call, now):
        reply = super().handle(call, now)
        assert self.most is None or self.ledger.net <= self.most
        return reply


def watched(most, **how):
    sandbox = Watched(**how)
    sandbox.most = most
    return sandbox


def sorted_out(outcomes):
    """Return the videos, and the failures."""
    videos = [outcome for outcome in outcomes if isinstance(outcome, Success)]
    return videos, [outcome for outcome in outcomes if isinstance(outcome, Failure)]


def short_of(failures, kind):
    """Hold that one failure stands for all jobs that were not sent, and return its error."""
    (failure,) = failures
    assert isinstance(failure.error, kind)
    assert (failure.status, failure.charged, failure.task_id) == (Status.QUEUED, "no", None)
    assert failure.error.key == failure.key
    return failure.error


# The budget.


async def test_a_budget_is_kept_over_all_runs(path):
    sandbox = watched(1000)
    async with night(sandbox) as session:
        async with session.batch(path, budget=1000) as batch:
            batch.add(clips(12))
            videos, failures = sorted_out(await made(batch))
            assert len(videos) == 5
            assert short_of(failures, BudgetExceededError).code == "budget"
            assert batch.summary().stopped.code == "budget"
            assert (batch.summary().planned, batch.summary().spent, batch.summary().budget) == (7, 1000, 1000)
            videos, failures = sorted_out(await made(batch))
            assert (videos, short_of(failures, BudgetExceededError).code) == ([], "budget")
        sandbox.most = 2000
        async with session.batch(path, budget=2000) as batch:
            assert len(sorted_out(await made(batch))[0]) == 5
    assert sandbox.ledger.accepted == 10
    check(path, sandbox)


@pytest.mark.parametrize("budget", [0, 199.999999, "0.1"])
async def test_a_budget_that_pays_for_nothing_sends_nothing(path, budget):
    async with night() as session, session.batch(path, budget=budget) as batch:
        batch.add(clips(3))
        assert short_of(await made(batch), BudgetExceededError).code == "budget"
    assert session.sandbox.ledger.submits == []


MIXED = [
    http(429),
    http(400, code="INVALID_PROMPT"),
    drop_after_accept(),
    hang_after_accept(),
    accepted_then(500),
    answer({}, accept=True),
    fail(),
]


@pytest.mark.parametrize("seed", range(8))
async def test_a_budget_is_never_overshot_whatever_the_gateway_does(path, seed):
    draw = random.Random(seed)
    budget = draw.choice([1000, 3000, 5300])
    sandbox = watched(budget, seed=seed, max_running=draw.choice([None, 7]))
    for action in MIXED:
        sandbox.script(action, on="submit", share=0.12)
    items = [(f"k{number}", clip(number, duration=draw.choice([3, 5, 10]))) for number in range(60)]
    async with night(sandbox) as session, session.batch(path, budget=budget) as batch:
        batch.add(items)
        await made(batch)
        summary = batch.summary()
        assert summary.in_doubt > 0
        assert sandbox.ledger.net <= summary.spent + summary.reserved <= budget
    check(path, sandbox)


async def test_sixty_four_jobs_at_once_do_not_overshoot(path):
    sandbox = watched(10_000, median=30)
    async with night(sandbox, concurrency=64) as session, session.batch(path, budget=10_000) as batch:
        batch.add(clips(100))
        assert len(sorted_out(await made(batch))[0]) == 50
    assert sandbox.ledger.max_running == 50
    check(path, sandbox)


async def test_a_refund_lets_another_job_go(path):
    sandbox = watched(1000)
    sandbox.script(fail(), on="submit", nth=[2, 4])
    async with night(sandbox) as session, session.batch(path, budget=1000) as batch:
        batch.add(clips(12))
        videos, failures = sorted_out(await made(batch))
    assert (len(videos), sandbox.ledger.accepted, sandbox.ledger.net) == (5, 7, 1000)
    assert [failure.charged for failure in failures].count("no") == 3
    check(path, sandbox)


async def test_what_is_in_doubt_stays_reserved_in_every_later_run(path):
    sandbox = watched(1000)
    sandbox.script(drop_after_accept(), on="submit", nth=[1, 2])
    async with night(sandbox) as session:
        for videos in (3, 0):
            async with session.batch(path, budget=1000) as batch:
                batch.add(clips(12))
                assert len(sorted_out(await made(batch))[0]) == videos
                assert (batch.summary().in_doubt, batch.summary().reserved) == (2, 400)
    assert sandbox.ledger.accepted == 5
    check(path, sandbox)


async def test_cheaper_jobs_go_where_dearer_ones_do_not_fit(path):
    sandbox = watched(1000)
    async with night(sandbox) as session, session.batch(path, budget=1000) as batch:
        batch.add([(f"dear{n}", clip(n, duration=15)) for n in range(3)])
        batch.add([(f"cheap{n}", clip(100 + n, duration=3)) for n in range(5)])
        videos, failures = sorted_out(await made(batch))
        assert sorted(video.key for video in videos) == ["cheap0", "cheap1", "cheap2", "dear0"]
        assert short_of(failures, BudgetExceededError).key == "cheap3"
    assert sandbox.ledger.net == 600 + 3 * 120
    check(path, sandbox)


async def test_a_dear_job_left_aside_goes_when_a_refund_pays_for_it(path):
    sandbox = watched(1000)
    sandbox.script(fail(after=500), prompt="clip 0")
    async with night(sandbox) as session, session.batch(path, budget=1000) as batch:
        batch.add([("first", clip(0, duration=15)), ("dear", clip(1, duration=15)), ("cheap", clip(2, duration=10))])
        videos, failures = sorted_out(await made(batch))
        assert {video.key for video in videos} == {"cheap", "dear"}
        assert [failure.key for failure in failures] == ["first"]
        assert batch.summary().stopped is None
    check(path, sandbox)


async def test_a_price_that_nobody_knows_stops_a_run_with_a_budget_before_anything_is_sent(path):
    async with night(gateway="apimart") as session, session.batch(path, budget=1000) as batch:
        batch.add(clips(3))
        with pytest.raises(ConfigurationError, match="k0, k1, k2") as caught:
            batch.run()
        assert (caught.value.code, caught.value.field) == ("unknown_price", "budget")
        batch.stop()
        assert batch.summary().stopped is None
    assert session.sandbox.ledger.submits == []


async def test_a_price_that_nobody_knows_is_found_in_an_iterator_too(path):
    async with night(gateway="apimart") as session, session.batch(path, budget=1000) as batch:
        batch.add(iter(clips(3)))
        assert short_of(await made(batch), BudgetExceededError).code == "unknown_price"
    assert session.sandbox.ledger.submits == []


async def test_a_job_may_cost_so_much_and_no_more(path):
    async with night() as session, session.batch(path, max_cost_per_job=200) as batch:
        batch.add([("dear", clip(0, duration=6)), ("right", clip(1)), ("cheap", clip(2, duration=3))])
        videos, failures = sorted_out(await made(batch))
        assert {video.key for video in videos} == {"right", "cheap"}
        error = short_of(failures, BudgetExceededError)
        assert (error.key, error.code, batch.summary().stopped.code) == ("dear", *["max_cost_per_job"] * 2)
    async with night(session.sandbox) as session, session.batch(path) as batch:
        assert [outcome.key for outcome in await made(batch)] == ["dear"]
    check(path, session.sandbox)


async def test_a_gateway_that_claims_more_than_the_price_is_believed(path):
    sandbox = Sandbox()
    said = lambda true: {**true, "data": {**true["data"], "consumed_credits": 700}}  # noqa: E731
    sandbox.script(answer(said, accept=True), on="submit")
    async with night(sandbox, concurrency=1) as session, session.batch(path, budget=1000) as batch:
        batch.add(clips(10))
        await made(batch)
    assert sandbox.ledger.accepted == 5  # the last word is 200 again: what was claimed was only held meanwhile
    check(path, sandbox)


# Failures and time.


async def test_a_number_of_failures_ends_the_run(path):
    sandbox = Sandbox()
    sandbox.script(fail(), on="submit", every=2)
    async with night(sandbox, concurrency=4) as session, session.batch(path, max_failures="5") as batch:
        batch.add(clips(100))
        _, failures = sorted_out(await made(batch))
        assert batch.summary().stopped.code == "max_failures"
        assert 5 <= len(failures) <= 5 + 4
        assert batch.summary().accepted == batch.summary().submitting == 0
        assert batch.summary().planned > 80
    check(path, sandbox)


async def test_a_share_of_failures_ends_the_run_once_enough_have_ended(path):
    sandbox = Sandbox(median=30, sigma=0)
    sandbox.script(http(400, code="INVALID_PROMPT"), on="submit", every=5)
    async with night(sandbox, concurrency=2) as session, session.batch(path, max_failures="10%") as batch:
        batch.add(clips(100))
        videos, failures = sorted_out(await made(batch))
        assert batch.summary().stopped.code == "max_failures"
        assert 20 <= len(videos) + len(failures) <= 20 + 3
    check(path, sandbox)


async def test_jobs_that_could_not_be_sent_are_no_failures(path):
    sandbox = Sandbox(balance=600)
    async with night(sandbox) as session, session.batch(path, max_failures=1) as batch:
        batch.add(clips(50))
        await made(batch)
        assert isinstance(batch.summary().stopped, InsufficientCreditsError)
        assert batch.summary().succeeded == 3


async def test_after_its_deadline_a_run_sends_nothing_new(path):
    sandbox = Sandbox(median=60, sigma=0)
    async with night(sandbox, concurrency=2) as session, session.batch(path, deadline=150) as batch:
        batch.add(clips(50))
        begun = asyncio.get_running_loop().time()
        outcomes = await made(batch)
        assert all(outcome.ok for outcome in outcomes)
        assert batch.summary().stopped.code == "deadline"
        assert {submit.at - begun < 150 for submit in sandbox.ledger.submits} == {True}
        assert 4 <= len(outcomes) <= 6
        assert batch.summary().planned == 50 - len(outcomes)
    check(path, sandbox)


async def test_a_deadline_ends_a_run_whose_source_gives_nothing(path):
    async def silent():
        await asyncio.sleep(10**7)
        yield clip(1)

    async with night() as session, session.batch(path, deadline=150) as batch:
        batch.add(silent())
        begun = asyncio.get_running_loop().time()
        assert await made(batch) == []
        assert asyncio.get_running_loop().time() - begun == pytest.approx(150, abs=1)
        assert batch.summary().stopped.code == "deadline"


# An account that cannot pay.


async def test_an_account_that_cannot_pay_leaves_the_rest_planned_for_a_run_after_a_top_up(path):
    sandbox = Sandbox(balance=1000)
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(30))
        videos, failures = sorted_out(await made(batch))
        assert len(videos) == 5
        assert short_of(failures, InsufficientCreditsError).http_status == 402
        assert isinstance(batch.summary().stopped, InsufficientCreditsError)
        assert batch.summary().planned == 25
        assert set(states(path).values()) == {"planned", "succeeded"}
    sandbox.top_up(5000)
    async with night(sandbox) as session, session.batch(path) as batch:
        videos, failures = sorted_out(await made(batch))
        assert (len(videos), failures, batch.summary().stopped) == (25, [], None)
    check(path, sandbox)


async def test_after_a_402_only_what_is_cheaper_is_tried(path):
    sandbox = Sandbox(balance=1000)
    async with night(sandbox, concurrency=1) as session, session.batch(path) as batch:
        batch.add([(f"dear{n}", clip(n, duration=10)) for n in range(10)])
        batch.add([(f"cheap{n}", clip(100 + n, duration=3)) for n in range(4)])
        videos, failures = sorted_out(await made(batch))
        assert sorted(video.key for video in videos) == ["cheap0", "dear0", "dear1"]
        assert short_of(failures, InsufficientCreditsError)
    broke = [submit.prompt for submit in sandbox.ledger.submits if submit.status == 402]
    assert broke == ["clip 2", "clip 101"]
    check(path, sandbox)


async def test_jobs_in_flight_at_a_402_come_to_their_end(path):
    sandbox = Sandbox(balance=600, median=60)
    async with night(sandbox, concurrency=64) as session, session.batch(path) as batch:
        batch.add(clips(64))
        videos, failures = sorted_out(await made(batch))
    assert len(videos) == 3
    assert short_of(failures, InsufficientCreditsError)
    check(path, sandbox)


async def test_a_refund_after_a_402_pays_for_another_job(path):
    sandbox = Sandbox(balance=400)
    sandbox.script(fail(after=100), prompt="clip 0")
    sandbox.script(ends_after(400), prompt="clip 1")
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(5))
        videos, _ = sorted_out(await made(batch))
        assert len(videos) == 2
        assert isinstance(batch.summary().stopped, InsufficientCreditsError)
    assert sandbox.ledger.net == 400
    check(path, sandbox)


async def test_the_same_session_goes_on_once_the_balance_says_that_there_is_money(path):
    sandbox = Sandbox(balance=7)
    async with night(sandbox, "apimart") as session, session.batch(path) as batch:
        batch.add(clips(5))
        videos, failures = sorted_out(await made(batch))
        assert (len(videos), short_of(failures, InsufficientCreditsError).http_status) == (2, 402)
        sandbox.top_up(10_000)
        await session.balance()
        videos, failures = sorted_out(await made(batch))
        assert (len(videos), failures) == (3, [])
    check(path, sandbox)
