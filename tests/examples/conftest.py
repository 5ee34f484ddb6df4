"""Shared by the tests of the examples: a sandbox that they run against, and the environment that points at it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kling_async.sandbox import Sandbox, ThreadedServer

ROOT = Path(__file__).parents[2]


@pytest.fixture
def gateway() -> Iterator[ThreadedServer]:
    with ThreadedServer(Sandbox(median=0.5, sigma=0.0, api_keys=("example-key",))) as server:
        yield server


@pytest.fixture
def surroundings(gateway: ThreadedServer) -> dict[str, str]:
    """The environment of a child process that runs an example."""
    kept = {name: value for name, value in os.environ.items() if "KLING" not in name and "PROXY" not in name.upper()}
    return kept | {
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "error",
        "PYTHONUNBUFFERED": "1",
        "KLING_GATEWAY": "kling3api",
        "KLING_API_KEY": "example-key",
        "KLING_BASE_URL": gateway.url,
    }


@pytest.fixture
def python() -> str:
    return sys.executable


@pytest.fixture
def examples() -> Path:
    return ROOT / "examples"
