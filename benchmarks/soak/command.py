"""Very many jobs at gateways where everything goes wrong now and then: books that balance, memory that stays flat."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.figures import table
from benchmarks.processes import served
from benchmarks.soak.gateway import PRICES
from benchmarks.soak.record import Record
from benchmarks.soak.verdict import Ended, Tally

FULL = {"virtual": 200_000, "batch": 20_000, "sockets": 20_000}
QUICK = {"virtual": 400, "batch": 300, "sockets": 300}
SLOTS = 100
"""Jobs in flight over sockets."""
FILMS = 500
FLAT, SMALL = 1.15, 8 * 1024 * 1024
"""Memory is flat if it grows less than this from the second tenth of the jobs to the last, in part or in bytes."""
BUSY = 25.0
"""Wake-ups of the event loop for each request, at most; a busy wait would make many more."""
SECONDS, SECONDS_A_JOB = 120.0, 0.03
"""A run that takes longer is given up."""
EXPECTED = {
    *(
        "Success",
        "SubmissionInDoubtError",
        "GenerationFailedError",
        "GenerationTimeoutError",
        "ProtocolError (no_video)",
    ),
    *("InvalidRequestError", "InsufficientCreditsError"),
    *("succeeded", "in_doubt", "failed", "rejected", "accepted"),
}
"""What a gateway like this one must lead to; any other end is a job that was given up without need."""
ENDLESS = ("submit: never ends", "submit: no URL at all")
GIVEN_UP, UNSEEN = 5000, 100
"""One job of so many may be given up, and one of so many may end unseen before its time is up."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    for name, words in (
        ("virtual", "a stream in virtual time"),
        ("batch", "a durable batch in virtual time"),
        ("sockets", "a stream and downloads over loopback"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=f"{words} (default: all three)")
    parser.add_argument("--jobs", type=int, help="jobs of each run (default 200000, 20000, 20000; quick: some hundred)")
    parser.add_argument("--gateway", choices=PRICES, help="the one dialect (default: both)")
    parser.add_argument("--seed", type=int, default=0, help="what faults, durations and jitter follow from (default 0)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Run every soak that is asked for once; returns the table and the figures. Raises where a claim does not hold."""
    chosen = [name for name in FULL if getattr(arguments, name)] or list(FULL)
    sizes = QUICK if arguments.quick else FULL
    found: dict[str, Any] = {}
    broken: list[str] = []
    for name in chosen:
        for dialect in [arguments.gateway] if arguments.gateway else PRICES:
            title = f"{name}, {dialect}"
            jobs = arguments.jobs or sizes[name]
            figures = RUNS[name](dialect, jobs, arguments.seed)
            broken += [f"{title}: {words}" for words in claims_broken(figures)]
            found[title] = figures
            print(f"{title}: {figures['outcomes']} outcomes in {figures['wall']:.0f} s", file=sys.stderr, flush=True)
    text = told(found)
    if broken:
        if arguments.json is not None:
            arguments.json.write_text(json.dumps({"soak": found}, indent=2) + "\n", encoding="utf-8")
        raise SystemExit("\n".join([text, "", "broken:", *broken]))
    return text, found


def in_process(module: str, jobs: int, *words: str) -> dict[str, Any]:
    """Run `python -m module word ...` and return the JSON that it prints."""
    command = [sys.executable, "-m", module, "--jobs", str(jobs), *words]
    limit = SECONDS + SECONDS_A_JOB * jobs
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=limit)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def virtual(dialect: str, jobs: int, seed: int) -> dict[str, Any]:
    """A stream in virtual time."""
    return in_process("benchmarks.soak.virtual", jobs, "--gateway", dialect, "--seed", str(seed))


def batch(dialect: str, jobs: int, seed: int) -> dict[str, Any]:
    """A durable batch in virtual time."""
    return in_process("benchmarks.soak.batch", jobs, "--gateway", dialect, "--seed", str(seed))


def sockets(dialect: str, jobs: int, seed: int) -> dict[str, Any]:
    """A stream over sockets, and the two records held against each other afterwards."""
    slots = max(40, min(SLOTS, jobs // 20))
    words = ("--gateway", dialect, "--slots", str(slots))
    films = min(FILMS, jobs // 10)
    with TemporaryDirectory() as directory:
        rows = Path(directory) / "rows"
        server = ("--jobs", str(jobs), "--seed", str(seed), *words)
        with served("benchmarks.soak.server", *server) as (url, farewell):
            found = in_process(
                "benchmarks.soak.sockets", jobs, "--url", url, "--films", str(films), "--rows", str(rows), *words
            )
        said = json.loads(farewell[0])
        record = Record.of(said["record"])
        tally = Tally(jobs, resolves=dialect == "apimart")
        with rows.open(encoding="utf-8") as lines:
            for line in lines:
                tally.take(Ended(*json.loads(line)), record)
    tally.finish(record)
    return {**tally.figures(record), **found, "gateway": said["record"]["totals"], "refills": said["refills"]}


RUNS: dict[str, Callable[[str, int, int], dict[str, Any]]] = {"virtual": virtual, "batch": batch, "sockets": sockets}


def claims_broken(figures: dict[str, Any]) -> list[str]:
    """Return which claims the figures of one run break."""
    films, jobs = figures.get("films", {}), figures["jobs"]
    broken = [
        (given_up(figures) > jobs / GIVEN_UP, f"{given_up(figures)} jobs were given up: {figures['kinds']}"),
        (unseen(figures) > max(3, jobs / UNSEEN), f"{unseen(figures)} jobs ended unseen"),
        (figures["outcomes"] != jobs, f"{figures['outcomes']} outcomes of {jobs} requests"),
        (figures["duplicates"] > 0, f"{figures['duplicates']} jobs were paid for more than once"),
        (figures["contradictions"] > 0, f"{figures['contradictions']} contradictions: {'; '.join(figures['words'])}"),
        (figures["tasks_left"] > 0, f"{figures['tasks_left']} asyncio tasks were left"),
        (not is_flat(figures.get("memory", ())), f"memory grew: {figures.get('memory')}"),
        (
            figures.get("wakeups", 0) > BUSY * figures.get("requests", 1),
            f"{figures.get('wakeups')} wake-ups for {figures.get('requests')} requests",
        ),
        (
            max(figures.get("descriptors_after", [0])) > figures.get("descriptors_before", 0),
            f"{figures.get('descriptors_after')} descriptors after, {figures.get('descriptors_before')} before",
        ),
        (bool(films.get("wrong")), f"wrong films: {films.get('wrong')}"),
        (bool(films.get("strange_files")), f"left beside the films: {films.get('strange_files')}"),
    ]
    return [words for holds_not, words in broken if holds_not]


def given_up(figures: dict[str, Any]) -> int:
    """Return how many jobs ended in a way for which the gateway gave no reason."""
    return sum(count for kind, count in figures["kinds"].items() if kind not in EXPECTED)


def unseen(figures: dict[str, Any]) -> int:
    """Return how many jobs ended and were not noticed in time: those given up as endless that were not."""
    late: int = sum(figures["kinds"].get(kind, 0) for kind in ("GenerationTimeoutError", "accepted"))
    endless: int = sum(figures["gateway"]["struck"].get(fault, 0) for fault in ENDLESS)
    return late - endless


def is_flat(memory: Sequence[int]) -> bool:
    """Tell whether memory did not grow from the second sample to the last, by more than some noise."""
    if len(memory) < 3:
        return True
    return memory[-1] - memory[1] <= max(SMALL, (FLAT - 1) * memory[1])


def told(found: dict[str, dict[str, Any]]) -> str:
    """Return the figures as a table and what the outcomes were."""
    what = ("jobs", "outcomes", "in doubt", "of them made", "paid twice", "wrong", "given up")
    rows = [["", *what, "wall s", "CPU s", "MB, second tenth to last"]]
    for title, figures in found.items():
        memory = [f"{value / 1e6:.1f}" for value in figures.get("memory", ())]
        counts = [figures[name] for name in ("jobs", "outcomes", "in_doubt", "in_doubt_and_accepted", "duplicates")]
        rows.append(
            [
                title,
                *map(str, counts),
                str(figures["contradictions"]),
                str(given_up(figures)),
                f"{figures['wall']:.0f}",
                f"{figures['cpu']:.0f}",
                f"{memory[1]} to {memory[-1]}" if len(memory) > 1 else "-",
            ]
        )
    ends = [
        f"{title}: " + ", ".join(f"{count} {kind}" for kind, count in figures["kinds"].items())
        for title, figures in found.items()
    ]
    return "\n".join(["soak: one run of each", "", table(rows), "", *ends])
