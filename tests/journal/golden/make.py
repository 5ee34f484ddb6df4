"""Writes `v<version>.db`: the journal of a tiny batch with a job in every state, on a clock of its own.

Run it from the root of the project, once for each version of the journal: `python tests/journal/golden/make.py`.
What it writes is never written anew: it stands for the journals that users have.
"""

import asyncio
import itertools
import random
import tempfile
import time
import uuid
from pathlib import Path

from kling_async import KlingSession, PollPlan, RetryPolicy, TextToVideo
from kling_async.batch import State, Step
from kling_async.batch import entry as steps
from kling_async.batch.schema import MIGRATIONS
from kling_async.sandbox import Sandbox, serve

PORT = 18765
JOBS = [
    ("downloaded", "a red fox in the snow"),
    ("failed", "an owl at night [sandbox: fail out of feathers]"),
    ("rejected", "a hen [sandbox: reject INVALID_PROMPT]"),
    ("in doubt", "a paper boat [sandbox: drop_after_accept]"),
    ("succeeded", "a lighthouse [sandbox: not_a_video]"),
    ("accepted", "a long train [sandbox: stuck]"),
]
LATER = [("submitting", "a kite"), ("planned", "a sleeping cat")]
"""Each job under the state in which it is left."""


def steady_clock():
    """Let time go on by a quarter of a second with each look at the clock."""
    moments = itertools.count()
    time.time = lambda: 1_790_000_000 + next(moments) / 4
    numbers = random.Random(1)
    uuid.uuid4 = lambda: uuid.UUID(int=numbers.getrandbits(128), version=4)


async def make(path, videos):
    pace = {"rate": None, "poll": PollPlan(0.02, 0.02, 0.2), "retry": RetryPolicy(attempts=1)}
    sandbox = Sandbox(median=0.01, epoch=1_790_000_000.0)
    async with (
        serve(sandbox, port=PORT) as server,
        KlingSession("kling3api", api_key="k", base_url=server.url, concurrency=1, **pace) as session,
        session.batch(path, download_to=videos, budget=5000) as batch,
    ):
        batch.add([(key, TextToVideo(prompt)) for key, prompt in JOBS])
        async with batch.run() as run:
            ended = 0
            async for _ in run:
                ended += 1
                if ended == len(JOBS) - 1:
                    while not batch._journal.find("accepted").task_id:
                        await asyncio.sleep(0.01)
                    break
        batch.add([(key, TextToVideo(prompt)) for key, prompt in LATER])
        left = batch._journal.find("submitting")
        begun = steps.intended(left, time.time(), left.estimate or 0)
        batch._journal.write_now(left, begun, Step.SUBMITTING, run.course.account)
        batch._journal.note(directory="/srv/videos")
        stands = {entry.key: str(entry.state) for entry in batch._journal.each(State)}
    assert all(state == key.replace(" ", "_") for key, state in stands.items()), stands


def main():
    steady_clock()
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        asyncio.run(make(place / "made.db", place / "videos"))
        content = (place / "made.db").read_bytes()
    target = Path(__file__).parent / f"v{len(MIGRATIONS)}.db"
    target.write_bytes(content)
    print(f"{target.name}: {len(content)} bytes")


if __name__ == "__main__":
    main()
