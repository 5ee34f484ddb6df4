"""How long clients take for a batch at gateways with limits, and how often they are refused, in virtual time."""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from attrs import asdict

from benchmarks.figures import table
from benchmarks.simulation.clients import CLIENTS, TITLES
from benchmarks.simulation.drawing import Column, drawing
from benchmarks.simulation.options import listed, names_among
from benchmarks.simulation.runs import Run, one
from benchmarks.simulation.worlds import GROUPS, WORLDS

QUICK_WORLDS = ("rate10", "slots20")
QUICK_SHARE = 10
"""A quick run brings one job in so many through."""
ACROSS = 7
"""Worlds side by side in a table."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--seeds", type=int, default=1, help="runs of each client in each world (default 1)")
    parser.add_argument("--clients", type=names_among(CLIENTS), metavar="NAME,...", help=listed(CLIENTS))
    parser.add_argument("--worlds", type=names_among(WORLDS), metavar="NAME,...", help=listed(WORLDS))
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the figures as well")
    parser.add_argument("--processes", type=int, default=1, help="runs at the same time (default 1)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Simulate; returns the tables and the figures."""
    clients = arguments.clients or list(CLIENTS)
    worlds = arguments.worlds or list(QUICK_WORLDS if arguments.quick else WORLDS)
    seeds = range(arguments.seeds)
    share = QUICK_SHARE if arguments.quick else 1
    runs = simulated(list(product(clients, worlds, seeds)), share, arguments.processes)
    figures = {
        client: {world: [asdict(runs[client, world, seed]) for seed in seeds] for world in worlds} for client in clients
    }
    if arguments.svg is not None:
        arguments.svg.write_text(drawn(figures), encoding="utf-8")
    return told(figures, len(seeds)), {"seeds": len(seeds), "share": share, "runs": figures}


def simulated(wanted: Sequence[tuple[str, str, int]], share: int, processes: int) -> Mapping[tuple[str, str, int], Run]:
    """Make every run, several at the same time where that is wanted."""
    make = partial(one, share=share)
    if processes == 1:
        return {each: make(*each) for each in wanted}
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        return dict(zip(wanted, pool.map(make, *zip(*wanted, strict=True)), strict=True))


Runs: TypeAlias = Sequence[Mapping[str, Any]]
"""A client's runs in a world, one for each seed."""
Figures: TypeAlias = Mapping[str, Mapping[str, Runs]]
"""Runs by client and world."""


def told(figures: Figures, seeds: int) -> str:
    """Return the figures as tables."""
    blocks = [f"flow: means of {seeds} runs in virtual time"]
    for group, worlds in shown(figures).items():
        blocks.append(f"{group}: makespan / ideal, and refused requests per job")
        blocks += tables(figures, worlds, cell)
        if group == "rate":
            blocks += ["rate: last submit / ideal", *tables(figures, worlds, span)]
        blocks.append(f"{group}: looks per job, and seconds from a job's end until it is known")
        blocks += tables(figures, worlds, looks)
    return "\n\n".join(blocks)


def shown(figures: Figures) -> dict[str, list[str]]:
    """Return the worlds there are figures of, by group."""
    worlds = list(next(iter(figures.values())))
    found = {group: [world for world in worlds if world in known] for group, known in GROUPS.items()}
    return {group: each for group, each in found.items() if each}


def tables(figures: Figures, worlds: Sequence[str], cell: Callable[[Runs], str]) -> Iterator[str]:
    """Return tables with a row for each client and a column for each world, a few columns at a time."""
    for first in range(0, len(worlds), ACROSS):
        some = worlds[first : first + ACROSS]
        rows = [[TITLES[client], *(cell(found[world]) for world in some)] for client, found in figures.items()]
        yield table([["", *some], *rows])


def drawn(figures: Figures) -> str:
    """Return the figures as a drawing."""
    worlds = [world for group in shown(figures).values() for world in group]

    def column(title: str, name: str, least: float) -> Column:
        values = {
            client: {
                world: mean(runs, name) for world, runs in found.items() if name != "span" or world in GROUPS["rate"]
            }
            for client, found in figures.items()
        }
        return Column(title, values, least)

    columns = [
        column("makespan / ideal", "makespan", 1.0),
        column("last submit / ideal", "span", 1.0),
        column("refused requests per job (0.001 or less at the left)", "refused", 0.001),
    ]
    clients = {client: TITLES[client] for client in figures}
    return drawing("Batches at gateways with limits, in virtual time", clients, worlds, columns)


def mean(runs: Runs, name: str) -> float:
    """Return the mean of a figure."""
    return fmean(each[name] for each in runs)


def cell(runs: Runs) -> str:
    """Return "1.02 / 0.05", and what must not happen if it happened."""
    wrong = [f"{count} {word}" for word in ("lost", "duplicates") if (count := sum(each[word] for each in runs))]
    return " ".join([f"{mean(runs, 'makespan'):.2f} / {mean(runs, 'refused'):.2f}", *wrong])


def span(runs: Runs) -> str:
    """Return the time of the last submit over the ideal one."""
    return f"{mean(runs, 'span'):.3f}"


def looks(runs: Runs) -> str:
    """Return looks per job and the mean delay."""
    return f"{mean(runs, 'polls'):.1f} / {mean(runs, 'delay'):.1f} s"
