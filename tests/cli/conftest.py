"""Fixtures of the command line's tests: the command in this process, and a gateway on loopback."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import KEY, Kling, spending
from click.testing import CliRunner, Result

from kling_async.cli.app import kling
from kling_async.sandbox import Sandbox
from kling_async.sandbox.server import ThreadedServer


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in list(os.environ):
        if name.startswith("KLING") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KLING_STORE", str(tmp_path / "store of runs"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run_kling() -> Kling:
    """Run the command in this process; stdout and stderr are kept apart."""

    def run(*arguments: str, **settings: Any) -> Result:
        given = list(arguments) if settings.pop("unasked", False) else spending(arguments)
        result = CliRunner().invoke(kling, given, **settings)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def gateway(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadedServer]:
    """A quick sandbox that the environment points at, with the one key that it lets in."""
    with ThreadedServer(Sandbox(speed=1000, api_keys=[KEY])) as server:
        monkeypatch.setenv("KLING_GATEWAY", "kling3api")
        monkeypatch.setenv("KLING_API_KEY", KEY)
        monkeypatch.setenv("KLING_BASE_URL", server.url)
        yield server
