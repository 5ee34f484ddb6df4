"""How long clients take for a batch at gateways with limits, and how often they are refused, in virtual time."""

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from statistics import fmean
from typing import Any

from attrs import asdict

from benchmarks.figures import table
from benchmarks.simulation.clients import CLIENTS
from benchmarks.simulation.options import listed, names_among
from benchmarks.simulation.runs import Run, one
from benchmarks.simulation.worlds import GROUPS, WORLDS

QUICK_WORLDS = ("rate10", "slots20")
QUICK_SHARE = 10
"""A quick run brings one job in so many through."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--seeds", type=int, help="runs of each client in each world (default 5; quick: 1)")
    parser.add_argument("--clients", type=names_among(CLIENTS), metavar="NAME,...", help=listed(CLIENTS))
    parser.add_argument("--worlds", type=names_among(WORLDS), metavar="NAME,...", help=listed(WORLDS))
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time (default 1)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Simulate; returns the tables and the figures."""
    clients = arguments.clients or list(CLIENTS)
    worlds = arguments.worlds or list(QUICK_WORLDS if arguments.quick else WORLDS)
    seeds = range(arguments.seeds or (1 if arguments.quick else 5))
    share = QUICK_SHARE if arguments.quick else 1
    runs = simulated(list(product(clients, worlds, seeds)), share, arguments.processes)
    figures = {
        client: {world: [asdict(runs[client, world, seed]) for seed in seeds] for world in worlds} for client in clients
    }
    return told(figures, len(seeds)), {"seeds": len(seeds), "share": share, "runs": figures}


def simulated(wanted: Sequence[tuple[str, str, int]], share: int, processes: int) -> Mapping[tuple[str, str, int], Run]:
    """Make every run, several at the same time where that is wanted."""
    make = partial(one, share=share)
    if processes == 1:
        return {each: make(*each) for each in wanted}
    with ProcessPoolExecutor(processes) as pool:
        return dict(zip(wanted, pool.map(make, *zip(*wanted, strict=True)), strict=True))


Figures = Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
"""Runs by client and world."""


def told(figures: Figures, seeds: int) -> str:
    """Return the figures as tables."""
    blocks = [f"flow: means of {seeds} runs in virtual time"]
    worlds = list(next(iter(figures.values())))
    for group, known in GROUPS.items():
        shown = [world for world in worlds if world in known]
        if shown:
            head = f"{group}: makespan / ideal, and refused requests per job"
            blocks += [head, table([["", *shown], *rows(figures, shown, cell)])]
            if group == "rate":
                blocks += ["rate: last submit / ideal", table([["", *shown], *rows(figures, shown, span)])]
            blocks += [f"{group}: looks per job, and seconds from a job's end until it is known"]
            blocks += [table([["", *shown], *rows(figures, shown, looks)])]
    return "\n\n".join(blocks)


def rows(figures: Figures, worlds: Sequence[str], cell: Any) -> list[list[str]]:
    """Return a row of cells for each client."""
    return [[client, *(cell(found[world]) for world in worlds)] for client, found in figures.items()]


def mean(runs: Sequence[Mapping[str, Any]], name: str) -> float:
    """Return the mean of a figure."""
    return fmean(each[name] for each in runs)


def cell(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return "1.02 / 0.05", and what must not happen if it happened."""
    wrong = [f"{count} {word}" for word in ("lost", "duplicates") if (count := sum(each[word] for each in runs))]
    return " ".join([f"{mean(runs, 'makespan'):.2f} / {mean(runs, 'refused'):.2f}", *wrong])


def span(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return the time of the last submit over the ideal one."""
    return f"{mean(runs, 'span'):.3f}"


def looks(runs: Sequence[Mapping[str, Any]]) -> str:
    """Return looks per job and the mean delay."""
    return f"{mean(runs, 'polls'):.1f} / {mean(runs, 'delay'):.1f} s"
