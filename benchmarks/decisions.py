"""Take the library's twelve decisions back, one at a time, and see that a test notices each of them.

Each is tried in a copy of this checkout. docs/reliability.md says what the decisions are.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Change(NamedTuple):
    """One place in one file: what stands there, and what stands there without the decision."""

    path: str
    here: str
    instead: str


class Decision(NamedTuple):
    """A decision, what takes it back, and the tests that must not let that pass."""

    words: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]


DECISIONS = {
    1: Decision(
        "a paid request has three fates; nobody's guess makes them two",
        (
            Change(
                "kling_async/flow/decision.py",
                "    return Decision(Fate.IN_DOUBT, error=in_doubt(cause))",
                "    return Decision(Fate.AGAIN, error=cause)",
            ),
        ),
        ("tests/flow/test_decision.py", "tests/hostile/test_matrix_s_submit.py"),
    ),
    2: Decision(
        "the intent is on record before a byte leaves",
        (
            Change(
                "kling_async/network.py",
                "        if self.before is not None:\n            await self.before()\n        self.sent = True",
                "        self.sent = True",
            ),
        ),
        ("tests/hostile/test_matrix_h_process.py",),
    ),
    3: Decision(
        "a paid request has a fresh connection of its own",
        (
            Change(
                "kling_async/transport.py",
                "session = self._fresh if fresh or fence is not None else self._pooled",
                "session = self._fresh",
            ),
            Change(
                "kling_async/transport.py",
                "_ApiConnector(limit=connections, force_close=True)",
                "_ApiConnector(limit=connections)",
            ),
        ),
        ("tests/wire/test_transport.py", "tests/hostile/test_matrix_s_submit.py"),
    ),
    4: Decision(
        "a task belongs to one job, and an answer about another task is none",
        (
            Change("kling_async/submitting.py", "        if owner is not None:", "        if owner is None and False:"),
            Change("kling_async/gateways/refusals.py", "if named and not is_named(", "if False and not is_named("),
        ),
        ("tests/hostile/test_matrix_a_answers.py", "tests/hostile/test_matrix_p_polling.py"),
    ),
    5: Decision(
        "no redirect of the API is followed",
        (
            Change(
                "kling_async/transport.py",
                "headers=_headers(request),\n                    allow_redirects=False,",
                "headers=_headers(request),\n                    allow_redirects=True,",
            ),
        ),
        ("tests/wire/test_transport.py", "tests/hostile/test_matrix_s_submit.py"),
    ),
    6: Decision(
        "a status counts only if it was read from an answer",
        (
            Change(
                "kling_async/transport.py",
                "        sent = fence.sent if fence is not None",
                "        if isinstance(error, aiohttp.ClientResponseError):\n"
                "            return KlingError(error.message, http_status=error.status, charged='no')\n"
                "        sent = fence.sent if fence is not None",
            ),
        ),
        ("tests/wire/test_transport.py", "tests/hostile/test_matrix_a_answers.py"),
    ),
    7: Decision(
        "JSON is read by our own bounded reader",
        (Change("kling_async/wire.py", "        return read_json(self.body)", "        return json.loads(self.body)"),),
        ("tests/gateways", "tests/hostile/test_matrix_a_answers.py"),
    ),
    8: Decision(
        "the decompressed body is capped while it streams",
        (Change("kling_async/transport.py", "MAX_BODY = 1024 * 1024", "MAX_BODY = 1024 * 1024 * 1024"),),
        ("tests/wire/test_transport.py",),
    ),
    9: Decision(
        "no foreign exception, which holds the request's headers, hangs on ours",
        (
            Change(
                "kling_async/transport.py",
                "            failure = self._failure(error, ahead)",
                "            raise self._failure(error, ahead) from error",
            ),
        ),
        ("tests/wire/test_transport.py", "tests/secrets"),
    ),
    10: Decision(
        "a download connects to public addresses only, checked at the socket",
        (Change("kling_async/transport.py", "factory = _guarded_socket if guarded else None", "factory = None"),),
        ("tests/hostile/test_matrix_u_downloads.py",),
    ),
    11: Decision(
        "a commit is on the disk when it returns",
        (Change("kling_async/batch/journal.py", "PRAGMA synchronous = FULL", "PRAGMA synchronous = OFF"),),
        ("tests/journal", "tests/hostile/test_matrix_h_process.py"),
    ),
    12: Decision(
        "types are checked before anything is made of them",
        (
            Change(
                "kling_async/gateways/reading.py",
                "        if is_task_id(value):\n            return str(value)\n",
                "        return str(value)\n",
            ),
        ),
        ("tests/gateways", "tests/hostile/test_matrix_a_answers.py"),
    ),
}


def misfits(root: Path = ROOT) -> list[str]:
    """Return the changes that do not apply exactly once to the tree."""
    return [
        f"{number}: {change.path}"
        for number, decision in DECISIONS.items()
        for change in decision.changes
        if (root / change.path).read_text().count(change.here) != 1
    ]


def taken_back(number: int, tree: Path) -> None:
    """Write a copy of the checkout without one decision."""
    for folder in ("kling_async", "tests", "benchmarks", "examples", "docs", ".ci"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    for file in ("pyproject.toml", "README.md", "CHANGELOG.md", "SECURITY.md", "constraints.txt"):
        shutil.copy(ROOT / file, tree / file)
    for change in DECISIONS[number].changes:
        path = tree / change.path
        path.write_text(path.read_text().replace(change.here, change.instead))


def noticed(number: int) -> str | None:
    """Return the first test that fails without a decision, or None."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder)
        taken_back(number, tree)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
        environment = {**os.environ, "PYTHONPATH": folder, "CI": "1"}
        ran = subprocess.run(
            [*command, *DECISIONS[number].tests],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if ran.returncode not in (0, 1):
            raise SystemExit(f"the tests for decision {number} did not run:\n{ran.stdout}{ran.stderr}")
        return next((line for line in ran.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))), None)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("numbers", nargs="*", type=int, help="which decisions (default: all twelve)")


def run(arguments: argparse.Namespace) -> tuple[str, object]:
    """Try the decisions and say of each which test noticed. Exits with 1 if one was missed by none."""
    found = misfits()
    if found:
        raise SystemExit("\n  ".join(["these changes do not fit the code any more:", *found]))
    lines, told = [], {}
    for number in arguments.numbers or DECISIONS:
        begun = time.monotonic()
        told[number] = test = noticed(number)
        lines.append(f"{number:2}. {DECISIONS[number].words}")
        lines.append(f"    {(test or 'NOTHING FAILED')[:150]}  ({time.monotonic() - begun:.0f} s)")
        print("\n".join(lines[-2:]), flush=True)
    missed = [number for number, test in told.items() if test is None]
    if missed:
        raise SystemExit(f"nothing fails without {missed}")
    return f"{len(told)} of {len(told)} decisions taken back were noticed by a test", told
