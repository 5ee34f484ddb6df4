"""How soon clients notice that jobs have ended, with a budget for looks, in virtual time."""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

from attrs import asdict

from benchmarks.figures import table
from benchmarks.simulation.arrivals import CLIENTS, LAW, TITLES, Setting, noticed
from benchmarks.simulation.drawing import Column, drawing
from benchmarks.simulation.law import Schedules, bound
from benchmarks.simulation.line import RTT
from benchmarks.simulation.options import listed, names_among, numbers

JOBS = (1000, 10_000)
LOOKS = (1.5, 3.0, 6.0)
MEASURED = {100: (200.0, 100.0), 1000: (500.0, 1000.0), 10_000: (400.0, 200.0), 100_000: (300.0, 30.0)}
"""Seconds of warm-up and of measuring, from so many jobs in flight on."""
NEAR_RTT = 0.008
"""Round trips in seconds where more than 10,000 jobs are in flight: 64 connections carry no more requests otherwise."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--jobs", type=numbers(int), help="jobs in flight (default 1000,10000; quick: 100)")
    parser.add_argument("--looks", type=numbers(float), help="budgets in looks per job (default 1.5,3,6; quick: 3)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each client in each setting (default 1)")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the figures as well")
    parser.add_argument("--clients", type=names_among(CLIENTS), metavar="NAME,...", help=listed(CLIENTS))


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Simulate; returns the table and the figures."""
    clients = arguments.clients or list(CLIENTS)
    all_jobs = arguments.jobs or ([100] if arguments.quick else JOBS)
    all_looks = arguments.looks or ([3.0] if arguments.quick else LOOKS)
    found = [
        {"jobs": jobs, "looks_allowed": looks, "client": client, "runs": runs(client, jobs, looks, arguments.seeds)}
        for jobs, looks, client in product(all_jobs, all_looks, clients)
    ]
    known = Schedules(LAW)
    limits = {looks: {"best": known.with_looks(looks).delay, "asymptotic": bound(LAW, looks)} for looks in all_looks}
    if arguments.svg is not None:
        arguments.svg.write_text(drawn(found, limits), encoding="utf-8")
    return told(found, limits), {"law": asdict(LAW), "limits": limits, "found": found}


def runs(client: str, jobs: int, looks: float, seeds: int) -> list[dict[str, Any]]:
    """Run a client in one setting, once for each seed."""
    warm_up, measured = MEASURED[max(size for size in MEASURED if size <= jobs)]
    setting = Setting(jobs, looks, warm_up, measured, RTT if jobs <= 10_000 else NEAR_RTT)
    return [asdict(noticed(client, setting, seed)) for seed in range(seeds)]


def told(found: Sequence[dict[str, Any]], limits: dict[float, dict[str, float]]) -> str:
    """Return the figures as a table."""
    rows = [["in flight", "allowed", "", "delay: mean", "median", "95 of 100", "looks per job", "CPU us per look"]]
    for each in found:
        mean = {name: fmean(run[name] for run in each["runs"]) for name in each["runs"][0]}
        rows.append(
            [
                str(each["jobs"]),
                f"{each['looks_allowed']:g}",
                TITLES[each["client"]],
                f"{mean['mean']:.2f} s",
                f"{mean['half']:.1f} s",
                f"{mean['most']:.1f} s",
                f"{mean['looks']:.2f}",
                f"{mean['cpu']:.0f}",
            ]
        )
    best = [["looks per job", "best schedule, law known", "J^2 / 2m"]]
    best += [[f"{m:g}", f"{each['best']:.2f} s", f"{each['asymptotic']:.2f} s"] for m, each in limits.items()]
    head = f"polls: durations log-normal, median {LAW.median:g} s, sigma {LAW.sigma:g}; virtual time"
    return f"{head}\n\n{table(rows)}\n\nthe least mean delay that anybody can have\n\n{table(best)}"


def drawn(found: Sequence[dict[str, Any]], limits: dict[float, dict[str, float]]) -> str:
    """Return the figures as a drawing."""
    rows = list(dict.fromkeys(row_of(each) for each in found))
    clients = {each["client"]: TITLES[each["client"]] for each in found}

    def column(title: str, name: str) -> Column:
        values: dict[str, dict[str, float]] = {client: {} for client in clients}
        for each in found:
            values[each["client"]][row_of(each)] = fmean(run[name] for run in each["runs"])
        if name == "mean":
            values["least"] = {row_of(each): limits[each["looks_allowed"]]["best"] for each in found}
        return Column(title, values, 1.0)

    columns = [column("mean delay in seconds", "mean"), column("95 of 100 below, in seconds", "most")]
    shown = {**clients, "least": "the least that anybody can have"}
    return drawing("From a job's end until it is known, with a budget for looks", shown, rows, columns)


def row_of(each: dict[str, Any]) -> str:
    """Return the name of a setting."""
    return f"{each['jobs']} jobs, {each['looks_allowed']:g} looks each"
