"""S: what happens to a submit on its way and by its status."""

import pytest
from trials import assert_silent

from kling_async import Status, SubmissionInDoubtError

pytestmark = pytest.mark.anyio


async def test_s01_a_reset_after_the_send_leaves_the_job_in_doubt_and_is_not_sent_again(trial):
    async def reset_after_send(visit):
        visit.accept()
        visit.reset()

    async with trial(seconds=1) as t:
        t.gateway.on("submit", reset_after_send)
        future, outcome = await t.one()
        assert isinstance(outcome.error, SubmissionInDoubtError)
        assert (outcome.error.cause.code, outcome.charged, future.status) == ("reset", "unknown", Status.IN_DOUBT)
        assert_silent(outcome.error)
        assert (t.ledger.accepted, len(t.ledger.submits)) == (1, 1)
