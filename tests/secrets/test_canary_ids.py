"""A key that could be a task's id is none: it is in no error, no journal, no URL and no log, wherever it is named."""

import logging
import pickle
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import pytest
from canary import leaks

from kling_async import KlingSession, PollPlan, RetryPolicy, SubmissionInDoubtError, TextToVideo
from kling_async.sandbox import answer
from kling_async.testing import KlingSandbox

pytestmark = pytest.mark.anyio

KEY = "sk-kAnari3-9f8e7d6c5b4a-ZZtop"
NAMED: dict[str, tuple[int, Any]] = {
    "a refusal": (400, {"code": "INVALID_PROMPT", "task_id": KEY}),
    "a refusal of the account": (401, {"code": 401, "data": {"task_id": KEY}}),
    "a list": (429, [{"task_id": KEY}]),
    "further down": (429, {"error": "busy", "task": {"id": KEY, "status": "IN_PROGRESS"}}),
    "an error in a 200": (200, {"code": 400, "data": {"task_id": KEY}}),
    "an error beside it": (200, {"code": 200, "error": "boom", "data": {"task_id": KEY}}),
    "trouble": (503, {"data": {"task_id": KEY}}),
    "within more": (500, {"data": {"task_id": f"n75-{KEY}-kling3"}}),
    "an acceptance": (200, {"code": 200, "data": {"task_id": KEY, "status": "IN_PROGRESS"}}),
    "in hexadecimal digits": (200, {"code": 200, "data": {"task_id": KEY.encode().hex(), "status": "IN_PROGRESS"}}),
    "in Base64": (
        200,
        {"code": 200, "data": {"task_id": urlsafe_b64encode(KEY.encode()).decode().rstrip("="), "status": "PENDING"}},
    ),
}
POLL = PollPlan(0.02, 0.02, 0.1)


def session_at(sandbox: KlingSandbox) -> KlingSession:
    sandbox.sandbox.api_keys = (KEY,)
    retry = RetryPolicy(attempts=2, initial=0.01, maximum=0.02)
    return KlingSession("kling3api", base_url=sandbox.url, api_key=KEY, poll=POLL, rate=None, retry=retry)


@pytest.mark.parametrize("name", NAMED)
async def test_a_key_that_is_named_as_a_task_is_nowhere(
    kling_sandbox: KlingSandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    status, body = NAMED[name]
    caplog.set_level(logging.DEBUG)
    kling_sandbox.script(answer(body, status=status, accept=True), on="submit")
    async with session_at(kling_sandbox) as session:
        future = session.submit(TextToVideo("a boat"))
        outcome = await future.outcome()
        async with session.batch(tmp_path / "night.db") as batch:
            batch.add([("boat", TextToVideo("another boat"))])
            (recorded,) = [each async for each in batch.run()]
            kept = repr(list(batch.outcomes()))
    for each in (outcome, recorded):
        assert isinstance(each.error, SubmissionInDoubtError)
        assert (each.charged, each.task_id, each.error.task_id) == ("unknown", None, None)
    shown = [repr(outcome), repr(future), str(outcome.error), repr(recorded), kept, *outcome.error.to_dict().values()]
    files = [path.read_bytes() for path in tmp_path.iterdir()]
    lines = [record.getMessage() for record in caplog.records]
    assert [leaks(str(each), KEY) for each in (*shown, *lines)] == [[]] * len([*shown, *lines])
    assert [leaks(each, KEY) for each in (*files, pickle.dumps(outcome))] == [[]] * (len(files) + 1)
    assert kling_sandbox.submissions == 2  # one each, and none of them again


async def test_a_key_in_the_words_of_a_running_job_is_in_no_snapshot(kling_sandbox: KlingSandbox) -> None:
    def spoil(true: dict[str, Any]) -> dict[str, Any]:
        true["data"] |= {"status": f"IN {KEY}", "request": {"prompt": f"Bearer {KEY}"}}
        return true

    kling_sandbox.script(answer(spoil, accept=True), on="poll", times=2)
    async with session_at(kling_sandbox) as session:
        future = session.submit(TextToVideo("a boat"))
        seen = [snapshot async for snapshot in future.updates()]
        assert (await future).url
    assert any("***" in snapshot.raw_status for snapshot in seen)
    for snapshot in seen:
        assert leaks(repr(snapshot), KEY) == leaks(pickle.dumps(snapshot), KEY) == []


async def test_nothing_that_a_task_leads_to_holds_the_key_as_an_attribute(kling_sandbox: KlingSandbox) -> None:
    """A debugger that shows attributes shows properties, too."""
    import inspect

    async with session_at(kling_sandbox) as session:
        future = session.submit(TextToVideo("a boat"))
        for holder in (session._engine, session._engine.talk, future._care, session):  # type: ignore[union-attr]
            assert leaks(repr(inspect.getmembers(holder)), KEY) == []
        await future.outcome()
