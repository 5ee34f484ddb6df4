"""The hostile gateway on a port, in a process of its own.

`python -m benchmarks.soak.server --gateway kling3api --jobs 20000` prints its URL, serves until its standard input
ends, and then prints its record.
"""

import argparse
import json
import sys

from benchmarks.soak.gateway import PRICES, Hostile
from kling_async.sandbox import ThreadedServer

MEDIAN = 0.3
"""Seconds of the median job."""
PATIENCE = 2.0
"""Seconds after which the client gives an answer up."""
REFILLED_AFTER = 0.5


def gateway_of(dialect: str, jobs: int, seed: int, slots: int) -> Hostile:
    """A gateway that runs fewer jobs at once than the client would like, and whose account is filled twice."""
    return Hostile(
        jobs=jobs,
        seed=seed,
        median=MEDIAN,
        patience=PATIENCE,
        purse=PRICES[dialect] * jobs / 3,
        refilled_after=REFILLED_AFTER,
        unknown_for=2 * MEDIAN,
        max_running=slots * 24 // 25,
    )


def main() -> None:
    """Serve until the parent lets go."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak.server", description=__doc__)
    parser.add_argument("--gateway", choices=PRICES, required=True)
    parser.add_argument("--jobs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slots", type=int, required=True)
    given = parser.parse_args()
    gateway = gateway_of(given.gateway, given.jobs, given.seed, given.slots)
    with ThreadedServer(gateway) as server:
        print(server.url, flush=True)
        sys.stdin.read()
    print(json.dumps({"record": gateway.record.to_dict(), "refills": gateway.refills}))


if __name__ == "__main__":
    main()
