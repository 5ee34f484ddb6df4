"""Fresh processes for every run: the gateway in one, the client that is measured in another."""

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

PATIENCE = 900.0
"""Seconds after which a run is given up."""


@contextmanager
def gateway(looks: int) -> Iterator[str]:
    """Serve a fresh sandbox while the block runs; yields its URL."""
    with served("benchmarks.server", "--looks", str(looks)) as (url, _):
        yield url


@contextmanager
def served(module: str, *words: str) -> Iterator[tuple[str, list[str]]]:
    """Run `python -m module word ...` while the block runs; yields the URL it prints, and a list for its last words."""
    command = [sys.executable, "-m", module, *words]
    farewell: list[str] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError("the gateway did not start")
            yield url, farewell
        finally:
            process.stdin.close()
            farewell.append(process.stdout.read())
            process.wait(PATIENCE)


def measured(module: str, **options: object) -> dict[str, Any]:
    """Run `python -m module --option value ...` and return the JSON that it prints."""
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", module, *words], stdout=subprocess.PIPE, text=True, check=True, timeout=PATIENCE
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ledger(url: str) -> dict[str, Any]:
    """Return what the gateway has counted."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("GET", "/_sandbox/ledger")
        counted: dict[str, Any] = json.loads(connection.getresponse().read())
        return counted
    finally:
        connection.close()
