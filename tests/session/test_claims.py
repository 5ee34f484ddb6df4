"""What a gateway says of prices and does not fit is reported, once each."""

import logging
from decimal import Decimal

import pytest
from virtual import VirtualSession

from kling_async import Cost, Snapshot, Status, TextToVideo
from kling_async.claims import MOST_REPORTED, Claims
from kling_async.sandbox import Sandbox, answer, fail

pytestmark = pytest.mark.anyio


def warned(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_price_as_published_and_a_refund_are_no_news(caplog):
    sandbox = Sandbox()
    sandbox.script(fail(), on="submit", nth=2)
    async with VirtualSession(sandbox, rate=None) as session:
        await session.gather([TextToVideo("a"), TextToVideo("b"), TextToVideo("c")])
    assert warned(caplog) == []


async def test_a_price_that_changes_while_the_job_runs_is_reported(caplog):
    sandbox = Sandbox()
    dearer = lambda said: {**said, "data": {**said["data"], "consumed_credits": 900}}  # noqa: E731
    sandbox.script(answer(dearer, accept=True), on="poll")
    async with VirtualSession(sandbox) as session:
        outcome = await session.submit(TextToVideo("a"), key="order-7").outcome()
    assert outcome.credits == 900
    (said,) = warned(caplog)
    expected = f"job order-7 (task {outcome.task_id}) should cost 200 credits; the gateway says 900 credits"
    assert said == expected


@pytest.mark.parametrize("gateway", ["apimart", "klinggenerator"])
async def test_a_gateway_without_published_prices_is_held_to_amounts(gateway, caplog):
    def spoilt(said):
        odd = {"credits": -5, "credits_cost": "a lot"}
        return {**said, "data": {**said["data"], **odd}} if "data" in said else {**said, **odd}

    sandbox = Sandbox()
    sandbox.script(answer(spoilt, accept=True), on="poll")
    async with VirtualSession(sandbox, gateway=gateway) as session:
        outcome = await session.submit(TextToVideo("a")).outcome()
    assert outcome.credits is None
    (said,) = warned(caplog)
    assert said.endswith("which is no amount and is dropped")


async def test_a_gateway_that_names_a_new_price_for_each_job_fills_no_memory(caplog):
    claims = Claims()
    async with VirtualSession() as session:
        job = session.submit(TextToVideo("a"))
        for price in range(10 * MOST_REPORTED):
            claims.heard(job, Snapshot("n75a", Status.IN_PROGRESS, credits=Decimal(price)), lambda: Cost(Decimal(-1)))
        await job
    assert len(warned(caplog)) == MOST_REPORTED
    assert len(claims._reported) == MOST_REPORTED
