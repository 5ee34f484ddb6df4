"""Runs of a batch in virtual time."""

import pytest
from durable import check, clips, made, night, states

pytestmark = pytest.mark.anyio


async def test_every_job_of_a_list_is_made_once(path):
    async with night() as session, session.batch(path) as batch:
        assert batch.add(clips(300)) == 300
        outcomes = await made(batch)
        assert len(outcomes) == 300
        assert all(outcome.ok for outcome in outcomes)
        assert await made(batch) == []
    assert session.sandbox.ledger.accepted == 300
    assert set(states(path).values()) == {"succeeded"}
    check(path, session.sandbox)
