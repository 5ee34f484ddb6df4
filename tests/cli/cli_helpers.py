"""The command as a child process that can be sent signals, and what its tests share."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from click.testing import Result

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "prompts.csv"
KEY = "sk-a-key-that-nobody-may-see-0123456789"

Kling = Callable[..., Result]

QUICK = ("--rate", "none", "--poll-min", "0.01", "--poll-max", "0.05", "--poll-first", "0.05")


def events_in(text: str) -> list[dict[str, Any]]:
    """Return the JSON events of a run."""
    return [json.loads(line) for line in text.splitlines()]


def spending(arguments: tuple[str, ...]) -> list[str]:
    """Return the arguments with the word that a run without a terminal needs."""
    given = list(arguments)
    free = "--sandbox" in given or "--yes" in given or "--help" in given
    return given if given[:1] != ["run"] or free else [*given, "--yes", "--budget", "none"]


def child(*arguments: str, **settings: Any) -> subprocess.Popen[str]:
    """Start the command as a child process in a session of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **settings.pop("env", {})}
    given = list(arguments) if settings.pop("unasked", False) else spending(arguments)
    return subprocess.Popen(
        [sys.executable, *settings.pop("program", ("-m", "kling_async")), *given],
        stdout=settings.pop("stdout", subprocess.PIPE),
        stderr=settings.pop("stderr", subprocess.PIPE),
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment,
        start_new_session=True,
        **settings,
    )
