"""Run every row of the fault matrix over loopback sockets, and tell what came of them, group by group."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
GROUPS = {
    "N": "below HTTP",
    "S": "submit: on its way, and its status",
    "A": "submit: broken answers",
    "P": "looking",
    "U": "the video's URL and its download",
    "C": "clocks",
    "H": "processes killed",
    "J": "journal and disk",
    "I": "input files, the command line",
}
MIB = 1024 * 1024


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("--only", default="", help="the groups to run, as NSA (default: all)")


def run(arguments: argparse.Namespace) -> tuple[str, object]:
    """Run the rows' tests and sum up what each of them measured."""
    chosen = [name for name in GROUPS if name in (arguments.only.upper() or "".join(GROUPS))]
    files = [
        str(path) for name in chosen for path in (ROOT / "tests" / "hostile").glob(f"test_matrix_{name.lower()}_*")
    ]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *sorted(files)]
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "KLING_FAULT_TABLE": str(told)},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        rows = [json.loads(line) for line in told.read_text().splitlines()] if told.exists() else []
    summed = {name: sum_up([row for row in rows if row["row"].startswith(name)]) for name in chosen}
    text = "\n".join([*table(summed), "", ran.stdout.strip().splitlines()[-1]])
    if ran.returncode:
        raise SystemExit(f"{ran.stdout}\n{text}")
    return text, summed


def sum_up(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one group of rows."""
    wrong = {row["row"] for row in rows if not row["right"]}
    tried = {row["row"] for row in rows}
    return {
        "rows": len(tried),
        "right": len(tried - wrong),
        "trials": len(rows),
        "duplicates": sum(row["duplicates"] for row in rows),
        "leaks": sum(row["leaks"] for row in rows),
        "growth": max((row["growth"] for row in rows), default=0),
        "late": max((row["late"] for row in rows), default=0.0),
    }


def table(summed: dict[str, dict[str, Any]]) -> list[str]:
    """Return the figures as a Markdown table."""
    lines = [
        "| rows | tried | right | trials | paid twice | leaks | memory above idle | after the deadline |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, found in summed.items():
        cells = [f"{name}: {GROUPS[name]}"]
        cells += [str(found[key]) for key in ("rows", "right", "trials", "duplicates", "leaks")]
        cells += [f"{found['growth'] / MIB:.1f} MiB", f"{max(0.0, found['late']):.2f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines
