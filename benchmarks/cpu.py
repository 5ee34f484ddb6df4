"""CPU per job of the client, beside hand-written loops that make the same requests."""

import argparse
from typing import Any

from benchmarks.cpu_run import WAYS
from benchmarks.figures import Spread, table
from benchmarks.processes import gateway, ledger, measured

BASE = "lean"
LOOKS = 3
WARM_UP = 20
TITLES = {
    "lean": "hand-written, fresh connections, fence",
    "library": "kling_async, session.gather",
    "stream": "kling_async, session.stream",
    "batch": "kling_async, session.batch (journal on disk)",
    "keepalive": "hand-written, keep-alive, no fence",
}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--jobs", type=int, help="jobs a run (default 2000; quick: 200)")
    parser.add_argument("--concurrency", type=int, default=200, help="jobs in flight (default 200)")
    parser.add_argument("--gap", type=float, default=0.05, help="seconds before each of the 3 looks (default 0.05)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Measure; returns the table and the figures."""
    jobs = arguments.jobs or (200 if arguments.quick else 2000)
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(arguments.pairs + 1):
        for way in WAYS:
            found = one(way, jobs, arguments.concurrency, arguments.gap)
            if number:  # the first round warms up the machine
                runs[way].append(found)
    figures = {way: figures_of(found, runs[BASE], jobs) for way, found in runs.items()}
    return told(figures, jobs, arguments), {"jobs": jobs, "looks": LOOKS, "ways": figures}


def one(way: str, jobs: int, concurrency: int, gap: float) -> dict[str, float]:
    """Make one run against a gateway of its own, and check with its ledger what was asked."""
    with gateway(LOOKS) as url:
        found = measured("benchmarks.cpu_run", way=way, url=url, jobs=jobs, concurrency=concurrency, gap=gap)
        totals = ledger(url)["totals"]
    total = jobs + WARM_UP
    if found["made"] != jobs or totals["submits"] != total or totals["polls"] != LOOKS * total:
        raise RuntimeError(f"{way} did not make the same requests: {found['made']} videos of {jobs}, {totals}")
    return {**found, "submits": totals["submits"] / total, "polls": totals["polls"] / total}


def figures_of(runs: list[dict[str, float]], base: list[dict[str, float]], jobs: int) -> dict[str, Any]:
    """Return the spreads of one way's runs."""
    return {
        "cpu_ms_per_job": Spread.of(1000 * run["cpu"] / jobs for run in runs).to_dict(),
        "jobs_per_second": Spread.of(jobs / run["wall"] for run in runs).to_dict(),
        "cpu_ratio": Spread.of_ratios([run["cpu"] for run in runs], [run["cpu"] for run in base]).to_dict(),
        "submits_per_job": runs[0]["submits"],
        "polls_per_job": runs[0]["polls"],
    }


def told(figures: dict[str, Any], jobs: int, arguments: argparse.Namespace) -> str:
    """Return the figures as a table."""
    rows = [["", "CPU ms per job", "CPU / lean, by pair", "jobs/s", "submits", "polls"]]
    for way, found in figures.items():
        rows.append(
            [
                TITLES[way],
                Spread(**found["cpu_ms_per_job"]).told(),
                Spread(**found["cpu_ratio"]).told(),
                Spread(**found["jobs_per_second"]).told(0),
                f"{found['submits_per_job']:g}",
                f"{found['polls_per_job']:g}",
            ]
        )
    head = f"cpu: {jobs} jobs, {arguments.concurrency} in flight, {arguments.pairs} rounds; median (min to max)"
    return f"{head}\n\n{table(rows)}"
