"""What a durable batch costs: the journal's CPU and waits, a whole batch beside a stream, a million jobs on record."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import cpu
from benchmarks.figures import Spread, table
from benchmarks.processes import measured

IN_FLIGHT = (1, 64, 200)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--jobs", type=int, help="jobs a run (default 5000; quick: 200)")
    parser.add_argument("--rows", type=int, help="jobs of the journal that is opened (default 1000000; quick: 2000)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Measure; returns the tables and the figures."""
    jobs = arguments.jobs or (200 if arguments.quick else 5000)
    rows = arguments.rows or (2000 if arguments.quick else 1_000_000)
    alone = {number: steps(jobs if number > 1 else max(jobs // 5, 50), number, arguments.pairs) for number in IN_FLIGHT}
    whole = beside_stream(jobs // 2, arguments.pairs)
    opened = opening(rows, arguments.pairs)
    figures = {"jobs": jobs, "steps": alone, "batch_over_stream": whole, "rows": rows, "open": opened}
    return told(figures, arguments.pairs), figures


def steps(jobs: int, in_flight: int, pairs: int) -> dict[str, Any]:
    """Measure three durable steps a job, with so many jobs waiting at once."""
    runs = [measured("benchmarks.journal_run", way="steps", jobs=jobs, in_flight=in_flight) for _ in range(pairs)]
    return {
        "cpu_us_per_job": Spread.of(1e6 * run["cpu"] / jobs for run in runs).to_dict(),
        "wall_us_per_job": Spread.of(1e6 * run["wall"] / jobs for run in runs).to_dict(),
        "intent_p50_ms": Spread.of(1e3 * run["p50"] for run in runs).to_dict(),
        "intent_p99_ms": Spread.of(1e3 * run["p99"] for run in runs).to_dict(),
    }


def beside_stream(jobs: int, pairs: int) -> dict[str, Any]:
    """Measure a whole batch and a stream of the same requests, in pairs."""
    runs = [{way: cpu.one(way, jobs, 64, 0.05)["cpu"] / jobs for way in ("stream", "batch")} for _ in range(pairs)]
    return {
        "extra_us_per_job": Spread.of(1e6 * (run["batch"] - run["stream"]) for run in runs).to_dict(),
        "ratio": Spread.of_ratios([run["batch"] for run in runs], [run["stream"] for run in runs]).to_dict(),
    }


def opening(rows: int, pairs: int) -> dict[str, Any]:
    """Measure how long a large journal takes to open and to resume, and the memory of that."""
    with TemporaryDirectory(dir=".") as directory:
        path = Path(directory) / "batch.db"
        measured("benchmarks.journal_run", way="make", jobs=rows, path=path)
        size = path.stat().st_size
        runs = [measured("benchmarks.journal_run", way="open", jobs=rows, path=path) for _ in range(pairs)]
    names = ("opened", "counted", "resumed", "peak_mib")
    return {"bytes_per_job": size / rows, **{name: Spread.of(run[name] for run in runs).to_dict() for name in names}}


def told(figures: dict[str, Any], pairs: int) -> str:
    """Return the figures as tables."""
    rows = [["in flight", "CPU us per job", "wall us per job", "wait for the intent, p50 ms", "p99 ms"]]
    for number, found in figures["steps"].items():
        names = ("cpu_us_per_job", "wall_us_per_job")
        cells = [Spread(**found[name]).told(0) for name in names]
        waits = [Spread(**found[name]).told() for name in ("intent_p50_ms", "intent_p99_ms")]
        rows.append([str(number), *cells, *waits])
    whole, opened = figures["batch_over_stream"], figures["open"]
    extra, ratio = Spread(**whole["extra_us_per_job"]).told(0), Spread(**whole["ratio"]).told()
    seconds = [f"{name} {Spread(**opened[name]).told()} s" for name in ("opened", "counted", "resumed")]
    size = f"{figures['rows']:,} jobs on record, {opened['bytes_per_job']:.0f} bytes each"
    return "\n".join(
        [
            f"journal: three durable steps a job, {figures['jobs']} jobs, {pairs} runs; median (min to max)",
            "",
            table(rows),
            "",
            f"a whole batch beside a stream, 64 in flight: {extra} us of CPU more per job, {ratio} times",
            f"{size}: {', '.join(seconds)}; peak {Spread(**opened['peak_mib']).told(0)} MiB",
        ]
    )
