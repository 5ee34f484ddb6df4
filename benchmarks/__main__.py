"""`python -m benchmarks`: run the benchmarks, all of them or those that are named, and print what they found."""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks import cpu, decisions, hostile, imports, journal, memory, profile
from benchmarks.fuzz import command as fuzz
from benchmarks.peers import command as peers
from benchmarks.simulation import flow, polls
from benchmarks.soak import command as soak

ALL = {"cpu": cpu, "memory": memory, "import": imports, "journal": journal, "flow": flow, "polls": polls}
NAMED = {
    **ALL,
    "profile": profile,
    "peers": peers,
    "fuzz": fuzz,
    "hostile": hostile,
    "decisions": decisions,
    "soak": soak,
}
"""All of them, and what runs only when it is named: the peers have to be installed, and all of these take long."""


def parser() -> argparse.ArgumentParser:
    """The command's options; they may stand before or after the name of a benchmark."""
    made = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    made.set_defaults(quick=False, pairs=None, json=None)
    _add_shared(made)
    commands = made.add_subparsers(dest="benchmark", metavar="|".join(NAMED))
    for name, module in NAMED.items():
        words = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=words, description=words)
        _add_shared(command)
        module.options(command)
    return made


def _add_shared(parser: argparse.ArgumentParser) -> None:
    # Without a default: a command's own would hide what was given before its name.
    absent = argparse.SUPPRESS
    help_quick = "one small pair of runs: whether it works, not how fast"
    parser.add_argument("--quick", action="store_true", default=absent, help=help_quick)
    parser.add_argument("--pairs", type=int, default=absent, help="runs of each kind (default 5; quick: 1)")
    parser.add_argument("--json", type=Path, default=absent, metavar="FILE", help="write the figures there as well")


def defaults_of(name: str, given: argparse.Namespace) -> argparse.Namespace:
    """Return the options of one benchmark when all of them run."""
    words = [name, *(["--quick"] if given.quick else []), *(["--pairs", str(given.pairs)] if given.pairs else [])]
    return parser().parse_args(words)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = parser().parse_args(words)
    chosen = [given] if given.benchmark else [defaults_of(name, given) for name in ALL]
    figures: dict[str, object] = {
        "python": platform.python_version(),
        "system": platform.system(),
        "processors": os.cpu_count(),
    }
    print(f"Python {figures['python']} on {figures['system']}, {figures['processors']} processors", flush=True)
    for arguments in chosen:
        arguments.pairs = arguments.pairs or (1 if arguments.quick else 5)
        text, found = NAMED[arguments.benchmark].run(arguments)
        figures[arguments.benchmark] = found
        print(f"\n{text}", flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
