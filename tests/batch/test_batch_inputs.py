"""What goes into a batch: lists at once, iterators as the run comes to them, each job under its own key."""

import asyncio
import itertools
from contextlib import suppress

import pytest
from batch_virtual import check, clip, clips, made, night, read, standing, states

from kling_async import ConfigurationError, InvalidRequestError, Success, TextToVideo
from kling_async.batch.choosing import LOOK_AHEAD
from kling_async.batch.inputs import AT_ONCE
from kling_async.sandbox import Sandbox, stuck

pytestmark = pytest.mark.anyio


# Lists.


async def test_every_job_of_a_list_is_made_once_however_often_it_is_added(path):
    async with night() as session, session.batch(path) as batch:
        assert (batch.add(clips(120)), batch.add(clips(120))) == (120, 0)
        outcomes = await made(batch)
        assert len(outcomes) == 120
        assert all(outcome.ok for outcome in outcomes)
        assert batch.add(clips(121)) == 1
        assert [outcome.key for outcome in await made(batch)] == ["k120"]
        assert await made(batch) == []
    assert session.sandbox.ledger.accepted == 121
    assert set(states(path).values()) == {"succeeded"}
    check(path, session.sandbox)


async def test_a_list_without_keys_is_the_same_jobs_in_another_session(path):
    items = [TextToVideo("same"), TextToVideo("same"), TextToVideo("other"), {"prompt": "row", "duration": 5}]
    for new, outcomes in ((4, 4), (0, 0)):
        async with night() as session, session.batch(path) as batch:
            assert batch.add(items) == new
            assert len(await made(batch)) == outcomes
        assert session.sandbox.ledger.accepted == outcomes
    assert len(standing(path)) == 4


@pytest.mark.parametrize("concurrency", ["auto", None, 300])
async def test_a_run_sends_on_while_nothing_has_ended_yet_where_the_gateway_takes_it(path, concurrency):
    async with night(concurrency=concurrency, rate=None) as session, session.batch(path) as batch:
        batch.add(clips(300))
        assert len(await made(batch)) == 300
        posts = session.wire.times("POST")
        assert posts[-1] - posts[0] < 15  # and each job takes minutes
    check(path, session.sandbox)


@pytest.mark.parametrize(
    "one", [clip(1), ("k", clip(1)), {"prompt": "clip", "id": "k"}, [clip(1)], (clip(1),), {("k", clip(1))}]
)
async def test_one_job_may_be_given_as_itself(path, one):
    async with night() as session, session.batch(path) as batch:
        assert (batch.add(one), batch.add(one)) == (1, 0)
        assert [outcome.ok for outcome in await made(batch)] == [True]


@pytest.mark.parametrize("items", ["clips.jsonl", b"clips", 7, None, object()])
async def test_what_is_no_list_of_jobs_is_refused(path, items):
    async with night() as session, session.batch(path) as batch:
        with pytest.raises(ConfigurationError, match="is no list of requests") as caught:
            batch.add(items)
        assert caught.value.field == "items"


async def test_a_list_with_one_bad_item_adds_nothing(path):
    async with night() as session, session.batch(path) as batch:
        with pytest.raises(InvalidRequestError):
            batch.add([*clips(5), {"prompt": "x", "duration": "long"}])
        assert batch.summary().total == 0


async def test_the_request_of_a_job_that_was_not_sent_may_be_changed(path):
    async with night() as session, session.batch(path) as batch:
        batch.add([("a", clip(1)), ("b", clip(2))])
        assert batch.add([("a", clip(1)), ("b", clip(3, duration=10))]) == 1
        outcomes = await made(batch)
    assert sorted(outcome.request.prompt for outcome in outcomes) == ["clip 1", "clip 3"]
    assert sorted(submit.prompt for submit in session.sandbox.ledger.submits) == ["clip 1", "clip 3"]
    assert standing(path, "b").estimate == 400_000_000
    check(path, session.sandbox)


async def test_the_request_of_a_rejected_job_may_be_changed_and_is_sent(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(("a", TextToVideo("[sandbox: reject INVALID_PROMPT] bad")))
        (outcome,) = await made(batch)
        assert isinstance(outcome.error, InvalidRequestError)
        assert batch.add(("a", TextToVideo("[sandbox: reject INVALID_PROMPT] bad"))) == 0
        assert await made(batch) == []
        assert batch.add(("a", clip(1))) == 1
        (outcome,) = await made(batch)
        assert isinstance(outcome, Success)
    assert (standing(path, "a").attempt, session.sandbox.ledger.accepted) == (2, 1)
    check(path, session.sandbox)


@pytest.mark.parametrize("prompt", ["clip", "[sandbox: fail] clip", "[sandbox: drop_after_accept] clip"])
async def test_the_request_of_a_job_that_was_sent_is_never_changed(path, prompt):
    async with night() as session, session.batch(path) as batch:
        batch.add(("a", TextToVideo(prompt)))
        await made(batch)
        before = standing(path)
        with pytest.raises(InvalidRequestError, match="sent already") as caught:
            batch.add([("new", clip(1)), ("a", clip(2)), ("newer", clip(3))])
        assert [fault.field for fault in caught.value.faults] == ["key"]
        assert standing(path) == before
        assert await made(batch) == []
    assert session.sandbox.ledger.accepted == 1


@pytest.mark.parametrize("key", ["k4", "k9"])
@pytest.mark.parametrize("slots", [5, 64])
async def test_a_request_that_is_changed_during_a_run_is_not_the_one_that_was_sent(path, key, slots):
    async with night(rate="1/s", concurrency=slots) as session, session.batch(path) as batch:
        batch.add(clips(10))
        async with batch.run() as run:
            reader = asyncio.ensure_future(anext(run))
            await asyncio.sleep(2.5)
            with suppress(InvalidRequestError):
                batch.add((key, clip("changed")))
            assert (await reader).ok
            assert len([outcome async for outcome in run]) == 9
    asked = {entry.task_id: entry.asked().prompt for entry in standing(path).values()}
    sent = {submit.task_id: submit.prompt for submit in session.sandbox.ledger.submits}
    assert asked == sent
    check(path, session.sandbox)


async def test_two_keys_for_one_list_that_clash_are_both_named(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(3))
        await made(batch)
        with pytest.raises(InvalidRequestError, match=r"k0.*k2"):
            batch.add([("k0", clip(7)), ("k1", clip(1)), ("k2", clip(8))])


# Iterators.


class Counted:
    """An endless generator that knows how much was taken from it, and when it was closed."""

    def __init__(self, **fields):
        self.pulled = 0
        self.closed = False
        self.fields = fields

    def __iter__(self):
        return self.items()

    def items(self):
        for number in itertools.count():
            self.pulled = number + 1
            yield f"k{number}", clip(number, **self.fields)

    async def slowly(self, seconds, stop=None):
        try:
            for number in range(stop) if stop is not None else itertools.count():
                await asyncio.sleep(seconds)
                self.pulled = number + 1
                yield f"k{number}", clip(number)
        finally:
            self.closed = True


async def test_an_endless_generator_is_pulled_only_as_slots_free_up(path):
    source = Counted()
    async with night(concurrency=5) as session, session.batch(path) as batch:
        assert batch.add(source.items()) is None
        assert source.pulled == 0
        seen = 0
        async for outcome in batch.run():
            assert outcome.ok
            assert source.pulled <= session.sandbox.ledger.accepted + AT_ONCE
            seen += 1
            if seen == 150:
                break
    assert session.sandbox.ledger.max_running <= 5
    assert len(standing(path)) == source.pulled
    check(path, session.sandbox)


async def test_an_endless_async_generator_is_pulled_one_by_one_and_closed_at_the_end(path):
    source = Counted()
    async with night(concurrency=3) as session, session.batch(path) as batch:
        batch.add(source.slowly(0.01))
        seen = 0
        async for _ in batch.run():
            assert source.pulled <= session.sandbox.ledger.accepted + 1
            seen += 1
            if seen == 20:
                break
        assert not source.closed
    assert source.closed
    check(path, session.sandbox)


async def test_a_slow_source_does_not_keep_outcomes_back(path):
    source = Counted()
    ends = []
    async with night() as session, session.batch(path) as batch:
        batch.add(source.slowly(900, stop=3))
        async for outcome in batch.run():
            ends.append(asyncio.get_running_loop().time())
            assert source.pulled == len(ends)
            assert outcome.ok
    assert len(ends) == 3
    check(path, session.sandbox)


async def test_the_run_ends_when_its_sources_have(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(2))
        batch.add(iter(clips(3, first=2)))
        batch.add(Counted().slowly(1, stop=2))
        outcomes = await made(batch)
        assert {outcome.key for outcome in outcomes} == {f"k{number}" for number in range(5)}
        assert (len(outcomes), await made(batch)) == (5, [])


class UsersError(Exception):
    pass


def breaking(count, error):
    yield from clips(count)
    raise error


async def breaking_slowly(count, error):
    for item in clips(count):
        await asyncio.sleep(1)
        yield item
    raise error


@pytest.mark.parametrize("source", [breaking, breaking_slowly])
@pytest.mark.parametrize("rate", [None, "1/s"])
async def test_an_error_of_the_input_comes_after_the_outcomes_of_what_came_before_it(path, source, rate):
    outcomes = []
    async with night(rate=rate) as session, session.batch(path) as batch:
        batch.add(source(7, UsersError("broken")))
        with pytest.raises(UsersError, match="broken"):
            await read(batch.run(), outcomes)
        assert sorted(outcome.key for outcome in outcomes) == [key for key, _ in clips(7)]
        assert all(outcome.ok for outcome in outcomes)
        assert await made(batch) == []
    check(path, session.sandbox)


@pytest.mark.parametrize("bad", [None, {"prompt": "x", "duration": "long"}, ("k0", TextToVideo("another"))])
async def test_a_bad_item_of_an_iterator_comes_after_the_outcomes_of_what_came_before_it(path, bad):
    outcomes = []
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(1))
        await made(batch)
        batch.add(iter([*clips(6), bad, *clips(3, first=10)]))
        with pytest.raises(InvalidRequestError):
            await read(batch.run(), outcomes)
        assert sorted(outcome.key for outcome in outcomes) == [key for key, _ in clips(5, first=1)]
    check(path, session.sandbox)


async def test_an_input_can_be_taken_in_before_anything_is_sent(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(iter(clips(150)))
        batch.add(Counted().slowly(1, stop=3))
        assert (await batch.plan(), await batch.plan()) == (150, 0)
        assert batch.summary().planned == 150
        assert session.sandbox.ledger.submits == []
        assert len(await made(batch)) == 150


async def test_an_input_may_be_taken_in_while_a_run_takes_it_in(path):
    source = Counted()
    async with night() as session, session.batch(path) as batch:
        batch.add(source.slowly(5, stop=6))
        outcomes = []
        _, new = await asyncio.gather(read(batch.run(), outcomes), batch.plan())
        assert sorted(outcome.key for outcome in outcomes) == [key for key, _ in clips(6)]
        assert new >= 3
    check(path, session.sandbox)


async def test_an_input_that_breaks_while_it_is_taken_in_keeps_what_came_before(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(breaking(7, UsersError("broken")))
        with pytest.raises(UsersError):
            await batch.plan()
        assert batch.summary().planned == 7


async def test_an_endless_input_ends_the_run_where_nothing_more_can_be_paid_for(path):
    source = Counted()
    async with night() as session, session.batch(path, budget=1000) as batch:
        batch.add(source.items())
        outcomes = await made(batch)
        assert batch.summary().stopped.code == "budget"
        assert [outcome.ok for outcome in outcomes].count(True) == 5
        assert source.pulled <= 5 + 2 * AT_ONCE
    check(path, session.sandbox)


async def test_an_endless_input_ends_the_run_where_the_account_cannot_pay(path):
    source = Counted()
    async with night(Sandbox(balance=1000)) as session, session.batch(path) as batch:
        batch.add(source.slowly(1))
        outcomes = await made(batch)
        assert batch.summary().stopped.http_status == 402
        assert [outcome.ok for outcome in outcomes].count(True) == 5
        assert source.pulled <= 6 + LOOK_AHEAD + AT_ONCE
    check(path, session.sandbox)


async def test_leaving_a_run_pulls_no_more(path):
    source = Counted()
    sandbox = Sandbox()
    sandbox.script(stuck(), on="submit")
    async with night(sandbox, concurrency=5) as session, session.batch(path) as batch:
        batch.add(source.items())
        async with batch.run() as run:
            reader = asyncio.ensure_future(anext(run))
            await asyncio.sleep(10)
            reader.cancel()
        pulled, sent = source.pulled, len(sandbox.ledger.submits)
        await asyncio.sleep(1000)
        assert (source.pulled, len(sandbox.ledger.submits)) == (pulled, sent) == (AT_ONCE, 5)
    check(path, sandbox)


async def test_jobs_may_be_added_while_a_run_is_under_way(path):
    async with night() as session, session.batch(path) as batch:
        batch.add(clips(2))
        keys = []
        async for outcome in batch.run():
            keys.append(outcome.key)
            if len(keys) == 1:
                assert batch.add(clips(4)) == 2
                batch.add(iter(clips(6)))
        assert sorted(keys) == [key for key, _ in clips(6)]
