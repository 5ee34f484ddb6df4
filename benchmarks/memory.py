"""Memory per waiting job: accepted by the gateway, and looked after until it ends."""

import argparse
from typing import Any

from benchmarks.figures import Spread, table
from benchmarks.memory_run import WARM_UP, WAYS
from benchmarks.processes import gateway, ledger, measured

TITLES = {"lean": "hand-written, an asyncio task per job", "library": "kling_async, session.gather"}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--jobs", type=int, help="waiting jobs (default 20000; quick: 2000)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Measure; returns the table and the figures."""
    jobs = arguments.jobs or (2000 if arguments.quick else 20_000)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(arguments.pairs):
        for way, found in runs.items():
            found.append(one(way, jobs))
    base = [run["waiting"] for run in runs["lean"]]
    figures = {
        way: {
            "bytes_per_waiting_job": Spread.of(run["waiting"] / jobs for run in found).to_dict(),
            "bytes_per_request": Spread.of(run["requests"] / jobs for run in found).to_dict(),
            "bytes_in_all": Spread.of(run["whole"] for run in found).to_dict(),
            "ratio": Spread.of_ratios([run["waiting"] for run in found], base).to_dict(),
        }
        for way, found in runs.items()
    }
    return told(figures, jobs, arguments), {"jobs": jobs, "ways": figures}


def one(way: str, jobs: int) -> dict[str, float]:
    """Make one run against a gateway of its own, and check with its ledger that every job was accepted."""
    with gateway(0) as url:
        found = measured("benchmarks.memory_run", way=way, url=url, jobs=jobs)
        totals = ledger(url)["totals"]
    if totals["accepted"] != jobs + WARM_UP or totals["polls"]:
        raise RuntimeError(f"{way} did not make the same requests: {totals}")
    return found


def told(figures: dict[str, Any], jobs: int, arguments: argparse.Namespace) -> str:
    """Return the figures as a table."""
    rows = [["", "kB per waiting job", "of lean, by pair", "kB per request object", "MB of the process"]]
    for way, found in figures.items():
        kilobytes = [
            Spread.of(value / 1000 for value in found[name].values()).told()
            for name in ("bytes_per_waiting_job", "bytes_per_request")
        ]
        whole = Spread.of(value / 1e6 for value in found["bytes_in_all"].values()).told(0)
        rows.append([TITLES[way], kilobytes[0], Spread(**found["ratio"]).told(), kilobytes[1], whole])
    return f"memory: {jobs} waiting jobs, {arguments.pairs} pairs; median (min to max)\n\n{table(rows)}"
