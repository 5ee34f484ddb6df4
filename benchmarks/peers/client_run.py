"""One run of one client, in a process of its own: `python -m benchmarks.peers.client_run --client fal-client ...`."""

import argparse
import asyncio
import json
import time
from importlib import import_module
from typing import Any

from attrs import asdict

from benchmarks.cpu_run import cpu_seconds
from benchmarks.peers import loopback
from benchmarks.peers.clients import ALL, Opened
from benchmarks.peers.terms import WARM_UP, Work

MODULES = {client.name: client.module for client in ALL}


def prompts_of(jobs: int) -> list[str]:
    """Return the prompts of a run; no two are alike."""
    return [f"a paper boat in the rain, take {number}" for number in range(jobs)]


async def run(client: str, work: Work, jobs: int, warm_up: int) -> dict[str, Any]:
    """Warm up with a few jobs, then measure."""
    opened: Opened = import_module(f"benchmarks.peers.clients.{MODULES[client]}").opened
    async with opened(work) as gather:
        await gather([f"{WARM_UP} {number}" for number in range(warm_up)])
        cpu, started = cpu_seconds(), time.monotonic()
        endings = await gather(prompts_of(jobs))
        cpu = cpu_seconds() - cpu
    return {"cpu": cpu, "started": started, "endings": [asdict(ending) for ending in endings]}


def main() -> None:
    """Run the client and print what it says as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.client_run", description=__doc__)
    parser.add_argument("--client", choices=MODULES, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="the documented limit in submits per second; 0: none")
    parser.add_argument("--warm-up", type=int, default=20, help="jobs before the measured ones")
    given = parser.parse_args()
    loopback.stay()
    work = Work(given.url, given.concurrency, given.rate or None)
    found = asyncio.run(run(given.client, work, given.jobs, given.warm_up))
    print(json.dumps({**found, "reached": loopback.reached}))


if __name__ == "__main__":
    main()
