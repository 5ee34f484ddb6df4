"""What another run makes of an earlier one: deliberate retries, and doubt that is cleared up."""

import asyncio
import json

import pytest
from batch_virtual import Keyed, check, clip, clips, made, night, standing, states

from kling_async import (
    ConfigurationError,
    GenerationFailedError,
    InvalidRequestError,
    SubmissionInDoubtError,
    TextToVideo,
    Timeouts,
)
from kling_async.batch import Reading, Step
from kling_async.sandbox import (
    Sandbox,
    accepted_then,
    answer,
    drop_after_accept,
    drop_before_accept,
    fail,
    half_body,
    hang_after_accept,
    http,
)

pytestmark = pytest.mark.anyio

LOST = [drop_after_accept(), half_body(), hang_after_accept(), accepted_then(500), accepted_then(503)]


def identities(sandbox, prompt):
    return [submit.idempotency_key for submit in sandbox.ledger.submits if submit.prompt == prompt]


# Deliberate retries.


async def test_a_retry_is_a_new_attempt_with_an_identity_of_its_own_at_the_gateway(path):
    sandbox = Sandbox()
    sandbox.script(fail(), on="submit", prompt="clip 0", times=1)
    sandbox.script(http(400), on="submit", prompt="clip 1", times=1)
    async with night(sandbox, "keyed") as session, session.batch(path) as batch:
        batch.add(clips(3))
        await made(batch)
        assert await made(batch) == []
        assert batch.retry() == 2
        assert {outcome.key for outcome in await made(batch) if outcome.ok} == {"k0", "k1"}
        assert batch.retry() == 0
    for prompt in ("clip 0", "clip 1"):
        assert len(set(identities(sandbox, prompt))) == 2
    assert {key: entry.attempt for key, entry in standing(path).items()} == {"k0": 2, "k1": 2, "k2": 1}
    check(path, sandbox, twice=["clip 0"])


async def test_what_is_sent_again_in_one_attempt_keeps_its_identity(path):
    sandbox = Sandbox()
    sandbox.script(http(429), on="submit", times=2)
    sandbox.script(drop_after_accept(), on="submit", nth=3)
    async with night(sandbox, "apimart", concurrency=1) as session, session.batch(path) as batch:
        batch.add(clips(1))
        assert (await made(batch))[0].ok
    assert len(identities(sandbox, "clip 0")) == 4
    assert len(set(identities(sandbox, "clip 0"))) == 1
    check(path, sandbox)


@pytest.mark.parametrize(
    ("kinds", "retried"),
    [
        ((), {"bad", "worse", "broken"}),
        (["InvalidRequestError"], {"bad", "worse"}),
        ("invalidrequest", {"bad", "worse"}),
        (["INVALID_PROMPT"], {"bad"}),
        (["rejected"], {"bad", "worse"}),
        (["failed", "invalid_prompt"], {"bad", "broken"}),
        (["GenerationFailedError"], {"broken"}),
        (["in_doubt", "SubmissionInDoubtError", "succeeded", "nothing"], set()),
    ],
)
async def test_only_what_is_named_is_retried(path, kinds, retried):
    async with night() as session, session.batch(path) as batch:
        batch.add(("bad", TextToVideo("[sandbox: reject INVALID_PROMPT] a")))
        batch.add(("worse", TextToVideo("[sandbox: reject INVALID_DURATION] a")))
        batch.add(("broken", TextToVideo("[sandbox: fail] a")))
        batch.add(("lost", TextToVideo("[sandbox: drop_after_accept] a")))
        batch.add(("good", clip(1)))
        await made(batch)
        assert batch.retry(kinds) == len(retried)
        assert {key for key, state in states(path).items() if state == "planned"} == retried


@pytest.mark.parametrize("lost", LOST)
async def test_what_is_in_doubt_is_sent_again_by_the_users_word_only_and_holds_the_money_of_both(path, lost):
    sandbox = Sandbox()
    sandbox.script(lost, on="submit", nth=1)
    async with night(sandbox) as session, session.batch(path, budget=500) as batch:
        batch.add(clips(1))
        for _ in range(3):
            await made(batch)
            assert batch.retry() == 0
        assert (batch.summary().in_doubt, sandbox.ledger.accepted) == (1, 1)
        assert batch.retry(in_doubt=True) == 1
        assert (batch.summary().reserved, batch.summary().planned) == (200, 1)
        (outcome,) = await made(batch)
        assert outcome.ok
        assert (batch.summary().spent, batch.summary().reserved) == (200, 200)
        batch.add(clips(1, first=1))
        (short,) = await made(batch)
        assert short.error.code == "budget"
    check(path, sandbox, twice=["clip 0"])


async def test_a_retry_of_a_job_that_was_charged_keeps_what_it_cost(path):
    sandbox = Sandbox()
    told = lambda true: {**true, "data": {**true["data"], "status": "FAILED", "response": None}}  # noqa: E731
    sandbox.script(answer(told, accept=True), on="poll", times=1)
    async with night(sandbox, timeouts=Timeouts(generation=200)) as session, session.batch(path, budget=300) as batch:
        batch.add(clips(1))
        (outcome,) = await made(batch)
        assert isinstance(outcome.error, GenerationFailedError)
        assert (outcome.charged, batch.summary().spent) == ("yes", 200)
        assert batch.retry() == 1
        (short,) = await made(batch)
        assert (short.error.code, batch.summary().spent) == ("budget", 200)


async def test_the_history_keeps_what_an_attempt_left_behind(path):
    sandbox = Sandbox()
    sandbox.script(fail("too dark"), on="submit", times=1)
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(1))
        (outcome,) = await made(batch)
        batch.retry()
        await made(batch)
    with Reading(path) as journal:
        (left,) = [json.loads(detail) for step, _, detail in journal.steps(1) if step is Step.RETRIED]
    assert (left["task_id"], left["state"], left["error"]["message"]) == (outcome.task_id, "failed", "too dark")


# Doubt, where the gateway can tell.


@pytest.mark.parametrize("lost", LOST)
async def test_a_lost_answer_is_found_within_the_run_where_the_gateway_can_look_up(path, lost):
    sandbox = Sandbox()
    sandbox.script(lost, on="submit", nth=[2, 4])
    async with night(sandbox, "keyed", timeouts=Timeouts(submit=40)) as session, session.batch(path) as batch:
        batch.add(clips(6))
        assert [outcome.ok for outcome in await made(batch)] == [True] * 6
        posted, found = session.wire.times("POST"), session.wire.times("FIND")
        assert len(found) == 2
        assert min(found) >= min(posted) + 40
    check(path, sandbox)


async def doubts(path, sandbox, gateway, count, **settings):
    """Leave some jobs in doubt, all of which the gateway has."""
    rule = sandbox.script(drop_after_accept(), on="submit")
    if gateway == "apimart":
        sandbox.script(http(400), on="submit", nth=range(count + 1, 10**4))
    async with night(sandbox, gateway, timeouts=Timeouts(submit=20), **settings) as session:
        session.wire.blind = True
        async with session.batch(path) as batch:
            batch.add(clips(count))
            outcomes = await made(batch)
            assert [type(outcome.error) for outcome in outcomes] == [SubmissionInDoubtError] * count
    sandbox.forget()
    assert rule.fired >= count
    assert sandbox.ledger.accepted == count


@pytest.mark.parametrize("gateway", ["keyed", "apimart"])
async def test_reconciling_finds_what_the_gateway_has_and_makes_nothing_anew(path, gateway):
    sandbox = Sandbox()
    await doubts(path, sandbox, gateway, 5)
    async with night(sandbox, gateway) as session, session.batch(path) as batch:
        found = await batch.reconcile()
        assert (set(found.found), found.left) == ({key for key, _ in clips(5)}, ())
        assert set(states(path).values()) == {"accepted"}
        again = await batch.reconcile()
        assert (again.found, again.left) == ((), ())
        assert [outcome.ok for outcome in await made(batch)] == [True] * 5
    assert sandbox.ledger.accepted == 5
    check(path, sandbox)


@pytest.mark.parametrize("gateway", ["keyed", "apimart"])
async def test_a_run_clears_up_what_an_earlier_one_left_in_doubt(path, gateway):
    sandbox = Sandbox()
    await doubts(path, sandbox, gateway, 5)
    async with night(sandbox, gateway) as session, session.batch(path) as batch:
        assert [outcome.ok for outcome in await made(batch)] == [True] * 5
    assert sandbox.ledger.accepted == 5
    check(path, sandbox)


async def test_what_the_gateway_does_not_know_stays_in_doubt(path):
    sandbox = Sandbox()
    await doubts(path, sandbox, "keyed", 3)
    async with night(sandbox, "keyed") as session, session.batch(path) as batch:
        session.wire.blind = True
        found = await batch.reconcile()
        assert (found.found, len(found.left)) == ((), 3)
        assert await made(batch) == []  # an earlier run has told of them
        assert session.wire.times("POST") == []
    assert set(states(path).values()) == {"in_doubt"}


async def test_where_the_gateway_cannot_tell_reconciling_asks_nothing(path):
    sandbox = Sandbox()
    await doubts(path, sandbox, "kling3api", 3)
    async with night(sandbox) as session, session.batch(path) as batch:
        assert (await batch.reconcile()).left == ("k0", "k1", "k2")
        assert session.wire.log == []
    check(path, sandbox)


@pytest.mark.parametrize("hours", [1.1, -24, 24 * 365])
async def test_a_key_that_may_be_forgotten_is_not_used_again(path, wall, hours):
    sandbox = Sandbox()
    await doubts(path, sandbox, "apimart", 2)
    wall.offset = hours * 3600
    sandbox.replays.clear()
    async with night(sandbox, "apimart") as session, session.batch(path) as batch:
        assert len((await batch.reconcile()).left) == 2
        assert await made(batch) == []
        assert session.wire.times("POST") == []
    check(path, sandbox)


async def test_the_age_of_a_key_is_looked_at_right_before_it_is_used(path):
    sandbox = Sandbox()
    await doubts(path, sandbox, "apimart", 2)
    sandbox.replays.clear()
    async with night(sandbox, "apimart") as session, session.batch(path) as batch:
        session._engine.gate.account.quota_until = asyncio.get_running_loop().time() + 3700
        outcomes = await made(batch)
        assert {type(outcome.error) for outcome in outcomes} == {SubmissionInDoubtError}
    assert sandbox.ledger.duplicates == []
    check(path, sandbox)


async def test_a_job_that_was_told_of_as_failed_is_never_asked_for_under_its_old_key(path):
    sandbox = Sandbox()
    said = {"error": {"code": "idempotency_result_indeterminate", "message": "stop", "type": "server_error"}}
    sandbox.script(answer(said, status=500), on="submit")
    async with night(sandbox, "apimart") as session, session.batch(path) as batch:
        batch.add(clips(1))
        (outcome,) = await made(batch)
        assert isinstance(outcome.error, SubmissionInDoubtError)
        sent = len(sandbox.ledger.submits)
        assert (await batch.reconcile()).left == ("k0",)
        assert await made(batch) == []
    assert len(sandbox.ledger.submits) == sent


async def test_the_task_of_another_job_is_not_taken_for_ones_own(path):
    sandbox = Sandbox()
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(1))
        (first,) = await made(batch)
    same = lambda true: {**true, "data": {**true["data"], "task_id": first.task_id}}  # noqa: E731
    sandbox.script(answer(same, accept=True), on="submit")
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(2))
        (second,) = await made(batch)
        assert isinstance(second.error, SubmissionInDoubtError)
        assert (second.error.code, batch.summary().succeeded) == ("duplicate_task_id", 1)
    assert states(path) == {"k0": "succeeded", "k1": "in_doubt"}
    check(path, sandbox)


class Faulty(Keyed):
    def find(self, key):
        raise ZeroDivisionError

    def estimate(self, request):
        raise ZeroDivisionError


async def test_a_fault_in_an_adapters_lookup_or_price_ends_no_run(path):
    sandbox = Sandbox()
    sandbox.script(drop_after_accept(), on="submit", nth=1)
    for count in (2, 1):
        async with night(sandbox, Faulty("k")) as session, session.batch(path) as batch:
            batch.add(clips(3 - count))
            await made(batch)
            await batch.reconcile()
    assert states(path) == {"k0": "in_doubt", "k1": "succeeded"}
    check(path, sandbox)


async def test_a_connection_that_closes_before_the_job_was_taken_is_in_doubt_all_the_same(path):
    sandbox = Sandbox()
    sandbox.next(drop_before_accept())
    async with night(sandbox) as session, session.batch(path) as batch:
        batch.add(clips(1))
        (outcome,) = await made(batch)
        assert isinstance(outcome.error, SubmissionInDoubtError)
        assert await made(batch) == []
    assert sandbox.ledger.accepted == 0


async def test_what_is_wrong_with_a_setting_is_said_at_once(path):
    async with night() as session:
        wrong = {"budget": -1, "max_cost_per_job": "x", "max_failures": 0, "deadline": 0, "patience": float("nan")}
        for name, value in wrong.items():
            with pytest.raises(ConfigurationError) as caught:
                session.batch(path, **{name: value})
            assert caught.value.field == name
    assert not path.exists()
    assert not issubclass(ConfigurationError, InvalidRequestError)
