"""What a submit, a look and a completion each cost in CPU, room by room."""

import argparse
from typing import Any

from benchmarks.figures import Spread, table
from benchmarks.processes import gateway, measured

EVENTS = ("submit", "look", "completion")
LOOKS = (0, 1, 5)
"""Jobs that are only submitted, that end at their first look, and that end at their fifth."""
ROOMS = {
    "request": "request: its own checks",
    "adapter": "adapter: body, credentials, reading",
    "wire": "wire: URL and JSON",
    "task": "task-future: the handle and the outcome",
    "engine": "engine, flow, session: the rest of it",
    "transport": "transport: aiohttp, the fence, deadlines",
    "whole": "whole, over loopback",
}

Costs = dict[str, dict[str, float]]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--jobs", type=int, help="jobs a run (default 1000; quick: 100)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Measure; returns the table and the figures."""
    jobs = arguments.jobs or (100 if arguments.quick else 1000)
    rounds = [costs(jobs) for _ in range(arguments.pairs)]
    figures = {
        room: {event: Spread.of(found[room][event] for found in rounds).to_dict() for event in EVENTS} for room in ROOMS
    }
    return told(figures, jobs, arguments.pairs), {"jobs": jobs, "rooms": figures}


def costs(jobs: int) -> Costs:
    """Return the microseconds of one round, by room and event.

    A submit is a job made, sent and accepted; a look finds it running; a completion is the look that finds the video,
    and everything up to the outcome. What cannot be asked alone is the difference of two runs: the engine is a session
    in memory less the rooms within it (its transport of some microseconds is counted here), and the transport is a
    session over loopback less one in memory.
    """
    found: Costs = measured("benchmarks.profile_run", part="rooms", jobs=jobs)
    memory = events({looks: job("", jobs, looks) for looks in LOOKS})
    whole = events({looks: over_loopback(jobs, looks) for looks in LOOKS})
    inner = {event: sum(room[event] for room in found.values()) for event in EVENTS}
    found["engine"] = {event: memory[event] - inner[event] for event in EVENTS}
    found["transport"] = {event: whole[event] - memory[event] for event in EVENTS}
    found["whole"] = whole
    return found


def events(jobs: dict[int, float]) -> dict[str, float]:
    """Return what a submit, a look and a completion cost, from jobs of 0, 1 and 5 looks."""
    submitted, one, five = (jobs[looks] for looks in LOOKS)
    return {"submit": submitted, "look": (five - one) / 4, "completion": one - submitted}


def over_loopback(jobs: int, looks: int) -> float:
    """Microseconds of a job at a gateway in a process of its own."""
    with gateway(max(looks, 1)) as url:
        return job(url, jobs, looks)


def job(url: str, jobs: int, looks: int) -> float:
    """Microseconds of a job that ends at this look, or is only submitted."""
    part = "loopback" if url else "memory"
    return float(measured("benchmarks.profile_run", part=part, url=url, jobs=jobs, looks=looks)["job"])


def told(figures: dict[str, Any], jobs: int, rounds: int) -> str:
    """Return the figures as a table."""
    rows = [["CPU microseconds", *EVENTS]]
    for room, words in ROOMS.items():
        rows.append([words, *(Spread(**figures[room][event]).told(0) for event in EVENTS)])
    return f"profile: {jobs} jobs a run, {rounds} rounds; median (min to max)\n\n{table(rows)}"
