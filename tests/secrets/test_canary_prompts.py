"""Prompts are confidential: not a word of one is in the log of a job, whatever its name was made of."""

import logging

import pytest

from kling_async import KlingSession, PollPlan, TextToVideo
from kling_async.sandbox import Sandbox, serve

pytestmark = pytest.mark.anyio


async def test_no_word_of_a_prompt_is_in_a_log_line_though_names_are_made_of_prompts(caplog, tmp_path):
    caplog.set_level(logging.INFO)
    prompt = "Zanzibar quokka parade"
    async with serve(Sandbox(speed=1000)) as server:
        settings = {"api_key": "k", "base_url": server.url, "rate": None, "poll": PollPlan(0.02, 0.02, 0.2)}
        async with KlingSession("kling3api", **settings) as session, session.batch(tmp_path / "a.db") as batch:
            batch.add([TextToVideo(prompt), TextToVideo(prompt)])
            keys = [outcome.key async for outcome in batch.run()]
    assert all(key.startswith("zanzibar-quokka-parade-") for key in keys)
    lines = [record.getMessage() for record in caplog.records if record.name == "kling_async"]
    assert not any(word in line.lower() for word in prompt.lower().split() for line in lines)
    for key in keys:
        assert any(key.removeprefix("zanzibar-quokka-parade-") in line for line in lines)
