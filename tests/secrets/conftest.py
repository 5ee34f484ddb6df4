"""What the tests of this directory share: every log record of every logger, exceptions in it and all."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from canary import KEY
from echoing_gateway import EchoingGateway, echoing_gateway, spoil
from log_records import Records


@pytest.fixture
def logged() -> Iterator[Records]:
    """Log everything, at every level and of every library, into `Records`."""
    records, root = Records(), logging.getLogger()
    names = ("kling_async", "asyncio", "aiohttp", "aiohttp.client", "aiohttp.server", "aiohttp.internal")
    before = {name: logging.getLogger(name).level for name in names}
    level = root.level
    root.addHandler(records)
    root.setLevel(logging.DEBUG)
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    yield records
    root.removeHandler(records)
    root.setLevel(level)
    for name, each in before.items():
        logging.getLogger(name).setLevel(each)


@pytest.fixture
def at_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[EchoingGateway]:
    """A gateway that echoes, with the environment pointing at it, and a directory to work in."""
    for name in list(os.environ):
        if name.startswith("KLING") or name.endswith("_API_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("KLING_STORE", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    with echoing_gateway() as gateway:
        spoil(gateway)
        monkeypatch.setenv("KLING_GATEWAY", "kling3api")
        monkeypatch.setenv("KLING_API_KEY", KEY)
        monkeypatch.setenv("KLING_BASE_URL", gateway.url)
        yield gateway
