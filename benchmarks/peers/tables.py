"""The figures of all runs as tables."""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.figures import Spread, table
from benchmarks.peers.measures import Measures
from benchmarks.peers.scenarios import Scenario

BASE = "kling_async"
COLUMNS = {
    "plain": ("cpu", "ratio", "cpu_request", "requests", "looks", "delay", "delay95", "makespan", "server"),
    "limited": ("videos", "not_made", "refused", "makespan", "looks", "delay", "delay95", "cpu"),
    "faulty": ("videos", "in_doubt", "not_made", "wrong", "lost", "dug", "twice", "looks", "delay95", "makespan"),
}
TITLES = {
    "cpu": "CPU ms/job",
    "ratio": "of kling_async, by round",
    "cpu_request": "CPU ms/request",
    "requests": "requests/job",
    "looks": "looks/job",
    "refused": "429s/job",
    "delay": "delay, mean s",
    "delay95": "delay, p95 s",
    "makespan": "makespan/ideal",
    "videos": "videos",
    "in_doubt": "in doubt",
    "not_made": "not made",
    "wrong": "wrong failures",
    "lost": "lost",
    "dug": "of them, id in a URL",
    "twice": "paid twice",
    "server": "gateway CPU",
}
COUNTS = ("videos", "in_doubt", "not_made", "wrong", "kept", "lost", "dug", "twice")
SPREAD = ("cpu", "ratio", "makespan")
"""The columns that show the range as well."""

Runs = Mapping[str, Sequence[Measures]]


def figures(runs: Runs) -> dict[str, dict[str, Any]]:
    """Return the spreads of every client's runs in one scenario."""
    found: dict[str, dict[str, Any]] = {}
    for name, measured in runs.items():
        rows = [one.to_dict() for one in measured]
        found[name] = {figure: Spread.of(row[figure] for row in rows).to_dict() for figure in rows[0]}
        if BASE in runs:
            base = [one.cpu for one in runs[BASE]]
            found[name]["ratio"] = Spread.of_ratios([one.cpu for one in measured], base).to_dict()
    return found


def told(scenario: Scenario, jobs: int, rounds: int, runs: Runs) -> str:
    """Return one scenario's figures as a table."""
    columns = [column for column in COLUMNS[scenario.name] if column != "ratio" or BASE in runs]
    rows = [["", *(TITLES[column] for column in columns)]]
    for name, found in figures(runs).items():
        rows.append([name, *(cell(column, Spread(**found[column])) for column in columns)])
    head = (
        f"{scenario.name}: {scenario.words}. {jobs} jobs of {scenario.terms.median:g} s (median), "
        f"{scenario.concurrency} in flight, {rounds} rounds; medians (min to max)"
    )
    return f"{head}\n\n{table(rows)}"


def cell(column: str, spread: Spread) -> str:
    """Return one figure as text."""
    if column in SPREAD:
        return spread.told()
    return f"{spread.median:g}" if column in COUNTS else f"{spread.median:.2f}"


def verdict(runs: Runs) -> str:
    """Say how the library's CPU per job compares with the best of the others, round by round."""
    ratios = {
        name: median(mine.cpu / other.cpu for mine, other in zip(runs[BASE], measured, strict=True))
        for name, measured in runs.items()
        if BASE in runs and not name.startswith(BASE)
    }
    if not ratios:
        return ""
    best = max(ratios, key=lambda name: ratios[name])
    return f"CPU per job of {BASE}: {ratios[best]:.2f} of the best other ({best})"
