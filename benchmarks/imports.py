"""Time to import the library, apart from aiohttp's own, and to show the command's help."""

import argparse
import json
import subprocess
import sys
import time
from typing import Any

from benchmarks.figures import Spread, table

_TIMED = """
import json, sys, time
a = time.perf_counter()
{first}
b = time.perf_counter()
{second}
c = time.perf_counter()
print(json.dumps([b - a, c - b]))
"""
NAMES = "from kling_async import KlingSession, TextToVideo"
HELP = "import sys; sys.argv = ['kling', '--help']; from kling_async.cli import main; sys.exit(main())"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this benchmark."""
    parser.add_argument("--times", type=int, help="fresh interpreters a figure (default 31; quick: 3)")


def run(arguments: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Measure; returns the table and the figures."""
    times = arguments.times or (3 if arguments.quick else 31)
    help_of = [["-c", HELP]] if can_help() else []
    imported(NAMES, "import kling_async.transport")  # writes the bytecode
    found: dict[str, list[float]] = {}
    for _ in range(times):
        names, first_session = imported(NAMES, "import kling_async.transport")
        aiohttp, beside_aiohttp = imported("import aiohttp", NAMES)
        row = {
            "import kling_async": imported("import kling_async")[0],
            NAMES: names,
            "  the same, aiohttp imported before": beside_aiohttp,
            "  what the first session then loads, aiohttp": first_session,
            "import aiohttp": aiohttp,
            "python -c pass, the whole process": started(["-c", "pass"]),
        }
        for words in help_of:
            row["kling --help, the whole process"] = started(words)
        for name, seconds in row.items():
            found.setdefault(name, []).append(seconds)
    spreads = {name: Spread.of(1000 * seconds for seconds in each) for name, each in found.items()}
    rows = [["", "ms"], *([name, spread.told(1)] for name, spread in spreads.items())]
    figures = {name: spread.to_dict() for name, spread in spreads.items()}
    return f"import: {times} fresh interpreters; median (min to max)\n\n{table(rows)}", {"times": times, "ms": figures}


def imported(first: str, second: str = "pass") -> tuple[float, float]:
    """Return how many seconds each of two statements takes in a fresh interpreter."""
    code = _TIMED.format(first=first, second=second)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    before, after = json.loads(done.stdout)
    return before, after


def can_help() -> bool:
    """Whether the command is installed with what it needs."""
    tried = subprocess.run(
        [sys.executable, "-c", HELP], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=60
    )
    return tried.returncode == 0


def started(words: list[str]) -> float:
    """Return how many seconds a whole process takes."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True, timeout=60)
    return time.perf_counter() - begun
