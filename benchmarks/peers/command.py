"""The library beside the clients of other video APIs, over loopback: CPU, looks, delays, lost and double jobs."""

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

from attrs import asdict

from benchmarks.peers.client_run import prompts_of
from benchmarks.peers.clients import ALL, Client
from benchmarks.peers.measures import Measures, measures
from benchmarks.peers.scenarios import Scenario, scenarios
from benchmarks.peers.tables import figures, told, verdict
from benchmarks.peers.terms import Terms
from benchmarks.processes import measured, served

NAMES = tuple(client.name for client in ALL)
SCENARIOS = ("plain", "limited", "faulty")
EXTRA = "pip install 'kling-async[peers]'"
FEW = 3
"""Rounds at most of the scenarios in which counts matter more than CPU."""
PACKAGES = ("aiohttp", "aiolimiter", "fal-client", "httpx", "httpx2", "openai", "replicate", "runwayml", "tenacity")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--jobs", type=int, help="jobs a run (default 200; quick: 8)")
    parser.add_argument("--concurrency", type=int, help="jobs in flight (default 64; quick: 8)")
    parser.add_argument("--median", type=float, help="seconds of the median job (default 4; quick: 0.5)")
    parser.add_argument("--only", type=some_of(NAMES), default=NAMES, help=f"clients, of {', '.join(NAMES)}")
    parser.add_argument("--scenarios", type=some_of(SCENARIOS), default=SCENARIOS, help=f"of {', '.join(SCENARIOS)}")


def some_of(names: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return what reads "a,b" as some of these names."""

    def read(text: str) -> tuple[str, ...]:
        chosen = tuple(word.strip() for word in text.split(","))
        for word in chosen:
            if word not in names:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(names)}")
        return chosen

    return read


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Measure; returns the tables and the figures."""
    quick = arguments.quick
    jobs = arguments.jobs or (8 if quick else 200)
    known = scenarios(arguments.median or (0.5 if quick else 4.0), arguments.concurrency or (8 if quick else 64))
    wanted = [client for client in ALL if client.name in arguments.only]
    present = [client for client in wanted if not missing(client)]
    texts = [f"peers: {' '.join(f'{name} {number}' for name, number in versions().items())}"]
    texts += [
        f"{client.name} left out: {', '.join(missing(client))} not installed; {EXTRA}"
        for client in wanted
        if client not in present
    ]
    found: dict[str, Any] = {"jobs": jobs, "versions": versions(), "scenarios": {}}
    for name in arguments.scenarios if present else ():
        scenario = known[name]
        rounds = arguments.pairs if name == "plain" else min(arguments.pairs, FEW)
        runs = rounds_of(present, scenario, jobs, rounds, warm_up=2 if quick else 20)
        texts.append(told(scenario, jobs, rounds, runs))
        if name == "plain":
            texts.append(verdict(runs))
        found["scenarios"][name] = {"terms": asdict(scenario.terms), "rounds": rounds, "clients": figures(runs)}
    texts += [f"{client.name}: {client.defaults}" for client in present]
    return "\n\n".join(filter(None, texts)), found


def missing(client: Client) -> list[str]:
    """Return the modules that a client needs and that are not there."""
    return [module for module in client.needs if find_spec(module) is None]


def versions() -> dict[str, str]:
    """Return the versions of what is installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def rounds_of(
    clients: Sequence[Client], scenario: Scenario, jobs: int, rounds: int, *, warm_up: int
) -> dict[str, list[Measures]]:
    """Run every client once a round, each time the other way round, so that nobody is always the first."""
    runs: dict[str, list[Measures]] = {client.name: [] for client in clients}
    for number in range(rounds):
        for client in clients if number % 2 == 0 else reversed(clients):
            runs[client.name].append(one(client, scenario, jobs, warm_up))
    return runs


def one(client: Client, scenario: Scenario, jobs: int, warm_up: int) -> Measures:
    """Make one run: a fresh gateway, a fresh client."""
    with gateway(client.dialect, scenario.terms) as (url, ledger):
        found = measured(
            "benchmarks.peers.client_run",
            client=client.name,
            url=url,
            jobs=jobs,
            concurrency=scenario.concurrency,
            rate=scenario.rate or 0,
            warm_up=warm_up,
        )
    if found["reached"]:
        raise RuntimeError(f"{client.name} tried to leave this machine: {', '.join(sorted(set(found['reached'])))}")
    return measures(found, ledger, scenario.ideal(prompts_of(jobs), bounded=client.bounded))


@contextmanager
def gateway(dialect: str, terms: Terms) -> Iterator[tuple[str, dict[str, Any]]]:
    """Serve while the block runs; yields the URL, and the ledger, which is filled in at the end of the block."""
    ledger: dict[str, Any] = {}
    words = ("--dialect", dialect, "--terms", json.dumps(asdict(terms)))
    with served("benchmarks.peers.server", *words) as (url, farewell):
        yield url, ledger
    ledger |= json.loads(farewell[0])
