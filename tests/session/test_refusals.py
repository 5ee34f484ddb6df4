"""What refusals, lost answers and failed looks do to a job and to its neighbours."""

import asyncio
from decimal import Decimal

import pytest
from virtual import START, VirtualSession, now

from kling_async import (
    AuthenticationError,
    ConnectionFailedError,
    GatewayUnavailableError,
    GenerationTimeoutError,
    InsufficientCreditsError,
    NotFoundError,
    PermissionDeniedError,
    PollPlan,
    ProtocolError,
    QuotaExhaustedError,
    ResponseLostError,
    RetryPolicy,
    SessionClosedError,
    Status,
    SubmissionInDoubtError,
    Success,
    TextToVideo,
    Timeouts,
)
from kling_async.sandbox import (
    Sandbox,
    accepted_then,
    answer,
    drop_after_accept,
    drop_before_accept,
    empty,
    garbage,
    hang_after_accept,
    http,
    lie_about,
    no_url,
    slow,
    stuck,
)

pytestmark = pytest.mark.anyio

LOST = [
    (drop_after_accept(), ResponseLostError),
    (drop_before_accept(), ResponseLostError),
    (hang_after_accept(), ResponseLostError),
    (accepted_then(500), GatewayUnavailableError),
    (http(503), GatewayUnavailableError),
    (http(408), GatewayUnavailableError),
    (http(302), GatewayUnavailableError),
    (garbage(), ProtocolError),
    (empty(), ProtocolError),
    (answer({"code": 200, "message": "success", "data": {}}, accept=True), ProtocolError),
    (answer({"code": 200, "data": {"task_id": "../../balance"}}, accept=True), ProtocolError),
    (answer({"code": 400, "message": "no", "data": {"task_id": "n75x"}}, status=400, accept=True), ProtocolError),
]


@pytest.mark.parametrize(("fault", "cause"), LOST)
async def test_a_submit_whose_fate_is_unknown_is_in_doubt_and_never_sent_again(fault, cause):
    sandbox = Sandbox()
    sandbox.next(fault)
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("a"), key="order-1")
        outcome = await future.outcome()
        await asyncio.sleep(1000)

    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert isinstance(outcome.error.cause, cause)
    assert (outcome.charged, outcome.status, future.status) == ("unknown", Status.IN_DOUBT, Status.IN_DOUBT)
    assert outcome.error.key == "order-1"
    assert len(session.wire.times("POST")) == 1
    assert session.submit is not None


async def test_a_contradiction_keeps_the_task_id_it_named():
    sandbox = Sandbox()
    sandbox.next(answer({"code": 400, "message": "no", "data": {"task_id": "n75x"}}, status=400, accept=True))
    async with VirtualSession(sandbox) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    assert outcome.task_id == "n75x"


async def test_the_post_has_a_hard_deadline():
    sandbox = Sandbox()
    sandbox.next(hang_after_accept())
    async with VirtualSession(sandbox, timeouts=Timeouts(submit=20)) as session:
        await session.submit(TextToVideo("a")).outcome()
        assert now() - START == pytest.approx(20, abs=1)


@pytest.mark.parametrize("fault", [drop_after_accept(), accepted_then(500), garbage(), hang_after_accept()])
async def test_a_gateway_that_dedupes_by_key_is_asked_again_and_makes_one_job(fault):
    sandbox = Sandbox()
    sandbox.next(fault)
    async with VirtualSession(sandbox, gateway="apimart") as session:
        outcome = await session.submit(TextToVideo("a")).outcome()

    assert isinstance(outcome, Success)
    assert sandbox.ledger.accepted == 1
    assert [submit.replayed for submit in sandbox.ledger.submits] == [False, True]
    assert len({submit.idempotency_key for submit in sandbox.ledger.submits}) == 1


async def test_even_a_gateway_that_dedupes_is_in_doubt_when_the_answers_keep_getting_lost():
    sandbox = Sandbox()
    sandbox.script(drop_after_accept(), on="submit")
    async with VirtualSession(sandbox, gateway="apimart", retry=RetryPolicy(attempts=3)) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()

    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert len(session.wire.times("POST")) == 3
    assert sandbox.ledger.accepted == 1


async def test_no_connection_is_tried_again_and_costs_nothing():
    async with VirtualSession() as session:
        session.wire.down = True
        future = session.submit(TextToVideo("a"))
        await asyncio.sleep(0.4)
        session.wire.down = False
        assert (await future).url
        assert future.attempts > 1
    assert session.sandbox.ledger.accepted == 1


async def test_a_dead_host_ends_every_job_after_the_retry_budget():
    async with VirtualSession(retry=RetryPolicy(attempts=3, budget=6)) as session:
        session.wire.down = True
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(100))

    assert {type(outcome.error) for outcome in outcomes} == {ConnectionFailedError}
    assert {outcome.charged for outcome in outcomes} == {"no"}
    assert now() - START < 200


async def test_a_429_pauses_submits_and_looks_of_the_whole_account_for_its_retry_after():
    sandbox = Sandbox()
    async with VirtualSession(sandbox, rate=None) as session:
        first = session.submit(TextToVideo("first"))
        await first.accepted()
        await asyncio.sleep(5)
        sandbox.next(http(429, retry_after=45))
        futures = [session.submit(TextToVideo(f"clip {n}")) for n in range(8)]
        await asyncio.sleep(0.2)
        refused_at = now() - 0.12
        sent = len(session.wire.log)
        await asyncio.sleep(44)
        assert len(session.wire.log) == sent
        await asyncio.gather(first, *futures)
        assert min(at for at, *_ in session.wire.log if at > refused_at + 1) >= refused_at + 45 - 0.1
    assert sandbox.ledger.accepted == 9


async def test_retry_after_is_bounded():
    sandbox = Sandbox()
    sandbox.next(http(429, retry_after=10**9))
    async with VirtualSession(sandbox, retry=RetryPolicy(retry_after_cap=60)) as session:
        await session.submit(TextToVideo("a")).accepted()
        assert now() - START == pytest.approx(60, abs=1)


@pytest.mark.parametrize("junk", [-5, "soon", "nan", "inf", "Thu, 01 Jan 1970 00:00:00 GMT", ""])
async def test_junk_in_retry_after_means_our_own_backoff_and_no_busy_loop(junk):
    sandbox = Sandbox()
    sandbox.script(http(429, retry_after=junk), on="submit", times=3)
    async with VirtualSession(sandbox) as session:
        await session.submit(TextToVideo("a")).accepted()
        assert 0.15 <= now() - START <= 10
    assert len(session.wire.times("POST")) == 4


async def test_a_full_gateway_is_not_knocked_at_while_jobs_run():
    sandbox = Sandbox(max_running=2)
    async with VirtualSession(sandbox, concurrency=20, rate=None) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(20))

    assert all(isinstance(outcome, Success) for outcome in outcomes)
    refused = sum(submit.status == 429 for submit in sandbox.ledger.submits)
    assert refused <= 4 * 20
    assert sandbox.ledger.duplicates == []


async def test_401_stops_the_account_before_anything_else_is_sent():
    sandbox = Sandbox(api_keys=["another"])
    async with VirtualSession(sandbox, concurrency=2, rate=None) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(100))
        late = await session.submit(TextToVideo("late")).outcome()

    assert {type(outcome.error) for outcome in [*outcomes, late]} == {AuthenticationError}
    assert len({outcome.key for outcome in outcomes}) == len({outcome.error.key for outcome in outcomes}) == 100
    assert len(session.wire.times("POST")) <= 2


async def test_a_refused_look_ends_the_following_of_all_jobs_with_their_ids_and_no_storm():
    sandbox = Sandbox()
    async with VirtualSession(sandbox, rate=None) as session:
        futures = [session.submit(TextToVideo(f"clip {n}")) for n in range(20)]
        ids = [await future.accepted() for future in futures]
        sandbox.script(http(401), on="poll")
        outcomes = [await future.outcome() for future in futures]

    assert {type(outcome.error) for outcome in outcomes} == {AuthenticationError}
    assert [outcome.task_id for outcome in outcomes] == ids
    assert {future.status for future in futures} == {Status.IN_PROGRESS}
    assert {outcome.charged for outcome in outcomes} == {"yes"}
    assert len(session.wire.times("GET")) <= 20


async def test_403_on_a_submit_is_permission_denied():
    sandbox = Sandbox()
    sandbox.next(http(403))
    async with VirtualSession(sandbox) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    assert isinstance(outcome.error, PermissionDeniedError)


async def test_after_a_402_cheaper_jobs_may_try_and_dearer_ones_fail_without_a_request():
    sandbox = Sandbox(balance=300)
    async with VirtualSession(sandbox, rate=None) as session:
        dear = session.submit(TextToVideo("dear", duration=15))
        await dear.outcome()
        also, cheap = (
            session.submit(TextToVideo("dearer still", duration=15, quality="pro")),
            session.submit(TextToVideo("cheap")),
        )
        assert also.done()
        assert isinstance(await cheap.outcome(), Success)

    assert isinstance(also.exception(), InsufficientCreditsError)
    assert [submit.prompt for submit in sandbox.ledger.submits] == ["dear", "cheap"]


async def test_a_balance_that_is_there_lets_jobs_be_tried_again():
    sandbox = Sandbox(balance=1)
    async with VirtualSession(sandbox, gateway="apimart") as session:
        assert isinstance(await session.submit(TextToVideo("a")).outcome(), object)
        sandbox.top_up(1000)
        assert (await session.balance()).amount == Decimal(1001)
        assert isinstance(await session.submit(TextToVideo("b")).outcome(), Success)


async def test_a_used_up_quota_fails_or_waits_as_the_user_chose():
    sandbox = Sandbox(daily_quota=3)
    async with VirtualSession(sandbox, gateway="klinggenerator", rate=None, concurrency=1) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(10))
    assert [type(outcome).__name__ for outcome in outcomes].count("Success") == 3
    assert {type(outcome.error) for outcome in outcomes if not outcome.ok} == {QuotaExhaustedError}
    assert len(session.wire.times("POST")) == 4

    waiting = Sandbox(daily_quota=3)
    policy = RetryPolicy(on_quota="wait")
    async with VirtualSession(
        waiting, gateway="klinggenerator", retry=policy, timeouts=Timeouts(generation=None)
    ) as session:
        outcomes = await session.gather(TextToVideo(f"clip {n}") for n in range(10))
    assert all(isinstance(outcome, Success) for outcome in outcomes)
    assert waiting.ledger.duplicates == []


@pytest.mark.parametrize(
    "fault", [http(500), http(429, retry_after=1), http(402), garbage(), empty(), drop_after_accept(), http(400)]
)
async def test_a_failed_look_is_a_missed_look(fault):
    sandbox = Sandbox()
    sandbox.script(fault, on="poll", times=3)
    async with VirtualSession(sandbox) as session:
        assert (await session.generate(TextToVideo("a"))).url


async def test_looks_that_fail_for_ever_end_with_a_timeout_that_keeps_the_id():
    sandbox = Sandbox()
    sandbox.script(http(500), on="poll")
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("a"), timeout=300)
        outcome = await future.outcome()
        assert now() - future.accepted_at == pytest.approx(300, abs=1)

    assert isinstance(outcome.error, GenerationTimeoutError)
    assert isinstance(outcome.error.cause, GatewayUnavailableError)
    assert (outcome.task_id, future.status) == (future.task_id, Status.IN_PROGRESS)
    assert outcome.task_id is not None
    assert len(session.wire.times("GET")) < 25


async def test_a_stuck_job_times_out_on_time_after_a_last_look_and_attach_picks_it_up():
    sandbox = Sandbox()
    sandbox.script(stuck())
    async with VirtualSession(sandbox) as session:
        future = session.submit(TextToVideo("a"), timeout=100)
        await future.outcome()
        assert now() - future.accepted_at == pytest.approx(100, abs=0.2)
        assert 97.5 <= session.wire.times("GET")[-1] - future.accepted_at <= 100
        again = session.attach(future.task_id, timeout=5)
        assert again is not future
        assert isinstance((await again.outcome()).error, GenerationTimeoutError)


async def test_a_slow_answer_at_the_deadline_still_brings_the_video():
    sandbox = Sandbox(sigma=0.0, median=99.2)
    sandbox.script(slow(0.6), on="poll")
    async with VirtualSession(sandbox, poll=PollPlan(first=30, minimum=1, maximum=30)) as session:
        outcome = await session.submit(TextToVideo("a"), timeout=101).outcome()
    assert isinstance(outcome, Success)


async def test_timeout_none_has_no_end():
    sandbox = Sandbox(median=100_000.0)
    async with VirtualSession(sandbox) as session:
        assert await session.generate(TextToVideo("a"), timeout=None)
        assert now() - START > 20_000


async def test_a_task_may_be_unknown_for_a_minute_and_not_longer():
    sandbox = Sandbox()
    sandbox.script(http(404), on="poll", times=2)
    async with VirtualSession(sandbox, poll=PollPlan(first=5)) as session:
        assert (await session.generate(TextToVideo("a"))).url

    for_ever = Sandbox()
    for_ever.script(http(404), on="poll")
    async with VirtualSession(for_ever) as session:
        future = session.submit(TextToVideo("a"))
        outcome = await future.outcome()
        assert 60 <= now() - future.accepted_at <= 120
    assert isinstance(outcome.error, NotFoundError)
    assert outcome.task_id == future.task_id is not None
    assert len(session.wire.times("POST")) == 1


async def test_a_success_without_a_url_is_looked_at_twice_more():
    late = Sandbox()
    late.script(no_url(2))
    async with VirtualSession(late) as session:
        assert (await session.generate(TextToVideo("a"))).url

    never = Sandbox()
    never.script(no_url())
    async with VirtualSession(never) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    assert isinstance(outcome.error, ProtocolError)
    assert (outcome.error.code, outcome.task_id, outcome.charged) == (
        "no_video",
        never.ledger.submits[0].task_id,
        "yes",
    )


async def test_an_answer_about_another_task_is_a_missed_look():
    sandbox = Sandbox()
    sandbox.script(lie_about(times=2, task_id="n75somebodyelse"))
    async with VirtualSession(sandbox) as session:
        video = await session.generate(TextToVideo("a"))
    assert video.task_id == sandbox.ledger.submits[0].task_id


async def test_two_jobs_never_share_a_task():
    sandbox = Sandbox()
    async with VirtualSession(sandbox, rate=None) as session:
        one = session.submit(TextToVideo("one"), key="one")
        task_id = await one.accepted()
        sandbox.next(answer({"code": 200, "data": {"task_id": task_id}}, accept=True))
        outcome = await session.submit(TextToVideo("two"), key="two").outcome()
        assert (await one).task_id == task_id

    assert isinstance(outcome.error, SubmissionInDoubtError)
    assert outcome.error.code == "duplicate_task_id"
    assert "job two" in outcome.error.message
    assert "job one" in outcome.error.message


async def test_a_job_that_failed_in_the_answer_to_its_submit_is_a_failed_job():
    sandbox = Sandbox()
    said = {"task_id": "n75abc", "status": "FAILED", "consumed_credits": 0, "error_message": "no"}
    sandbox.next(answer({"code": 200, "data": said}, accept=True))
    async with VirtualSession(sandbox) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    assert (type(outcome.error).__name__, outcome.charged, outcome.task_id) == ("GenerationFailedError", "no", "n75abc")


async def test_a_key_that_a_gateway_echoes_is_in_no_error():
    sandbox = Sandbox()
    said = {"error": {"message": "bad key k-virtual-secret", "code": "k-virtual-secret"}}
    sandbox.next(answer(said, status=400))
    async with VirtualSession(sandbox) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    shown = (
        repr(outcome) + str(outcome.error) + str(outcome.error.to_dict()) + repr(vars(outcome.error)) + repr(session)
    )
    assert "k-virtual-secret" not in shown
    assert "***" in outcome.error.message


async def test_one_late_404_ends_no_job():
    sandbox = Sandbox(median=200.0, sigma=0.0)
    sandbox.script(http(404), on="poll", nth=6)
    async with VirtualSession(sandbox) as session:
        assert (await session.generate(TextToVideo("a"))).url


async def test_a_result_that_does_not_name_its_task_is_believed_only_on_a_connection_of_its_own():
    def nameless(said):
        return {**said, "data": {name: value for name, value in said["data"].items() if name != "task_id"}}

    sandbox = Sandbox()
    sandbox.script(answer(nameless, accept=True), on="poll")
    fresh = []
    async with VirtualSession(sandbox) as session:
        send = session.wire.send

        async def watched(request, **how):
            fresh.append((request.method, how["fresh"]))
            return await send(request, **how)

        session.wire.send = watched
        assert (await session.generate(TextToVideo("a"))).url
    assert fresh[-1] == ("GET", True)
    assert fresh[-2] == ("GET", False)


async def test_a_key_that_a_gateway_echoes_is_in_no_snapshot_and_no_video():
    key = "k-virtual-secret"
    said = {"task_id": "n75a", "status": "FAILED", "error_message": f"bad {key}", "consumed_credits": 0}
    done = {"task_id": "n75b", "status": "SUCCESS", "response": ["https://example.com/v"], "note": [key]}
    sandbox = Sandbox()
    sandbox.next(answer({"code": 200, "data": said}, accept=True))
    sandbox.next(answer({"code": 200, "data": done}, accept=True))
    shown = []
    async with VirtualSession(sandbox, rate=None, concurrency=1) as session:
        for prompt in ("a", "b"):
            future = session.submit(TextToVideo(prompt))
            shown += [repr(update) + repr(update.raw) + str(update.to_dict()) async for update in future.updates()]
            outcome = await future.outcome()
            shown += [repr(outcome), str(outcome.to_dict()), repr(getattr(outcome, "video", outcome.to_dict()))]
            shown.append(repr(outcome.video.raw) if outcome.ok else str(outcome.error))
    assert key not in "".join(shown)
    assert "***" in "".join(shown)


async def test_a_balance_is_asked_before_the_jobs_that_wait_and_ends_with_the_session():
    sandbox = Sandbox()
    async with VirtualSession(sandbox, gateway="apimart", rate="1/s", concurrency=None) as session:
        for n in range(500):
            session.submit(TextToVideo(f"clip {n}"))
        await asyncio.sleep(3)
        begun = now()
        assert await session.balance()
        assert now() - begun < 3
    async with VirtualSession(sandbox, gateway="apimart", rate="1/day") as session:
        await session.submit(TextToVideo("a")).accepted()
        waiting = asyncio.ensure_future(session.balance())
        await asyncio.sleep(10)
    with pytest.raises(SessionClosedError):
        await waiting
