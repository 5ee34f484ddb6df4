"""Make a video of each line of a file, within a budget, however often the program is stopped or killed meanwhile.

    export KLING_GATEWAY=kling3api KLING_API_KEY=...
    python examples/overnight.py prompts.txt films/ --budget 5000

Start it again, after a crash, with more money or with more lines: it goes on where it stopped and makes nothing twice.
Ctrl-C sends nothing new and waits for what is being made. `kling watch films/night.db` looks on from another terminal.

Without an account and without money, against the sandbox:

    python -m kling_async.sandbox --port 8080 --speed 20 &
    export KLING_GATEWAY=kling3api KLING_API_KEY=any KLING_BASE_URL=http://127.0.0.1:8080
"""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from kling_async import Failure, KlingSession, PollPlan, Success, TextToVideo
from kling_async.batch import Batch, State


async def make(batch: Batch, prompts: list[str]) -> bool:
    """Make what is not made yet; returns whether all of it is done."""
    print(f"{batch.add([TextToVideo(prompt, duration=5) for prompt in prompts])} of {len(prompts)} lines are new")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, batch.stop)
    async for outcome in batch.run():
        match outcome:
            case Success(file=file):
                print(file)
            case Failure(key=key, status=status, error=error):
                print(f"{key} ({status}): {error.message}", file=sys.stderr)
    summary = batch.summary()
    print(f"{summary.downloaded} of {summary.total} done; {summary.spent} {summary.unit} spent")
    if summary.stopped is not None and summary.planned:
        print(f"{summary.planned} not sent: {summary.stopped.message}", file=sys.stderr)
    for entry in batch.entries(State.IN_DOUBT):  # sent, and nobody can say whether they were accepted
        print(f"look for it in your account: {entry.key}", file=sys.stderr)
    return summary.downloaded == summary.total


async def main() -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description="make a video of each line of a file, within a budget")
    parser.add_argument("prompts", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--budget", type=float, default=5000, help="the most that all may cost, over all runs (default 5000)"
    )
    parser.add_argument("--poll-max", type=float, default=30.0, help="seconds between looks at most (default 30)")
    given = parser.parse_args()
    prompts = [line for line in given.prompts.read_text("utf-8").splitlines() if line.strip()]
    given.folder.mkdir(parents=True, exist_ok=True)
    plan = PollPlan(minimum=min(1.0, given.poll_max), maximum=given.poll_max)
    async with KlingSession(poll=plan) as session:
        journal = given.folder / "night.db"
        async with session.batch(journal, budget=given.budget, download_to=given.folder, max_failures="10%") as batch:
            return 0 if await make(batch, prompts) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
