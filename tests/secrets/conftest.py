"""What the tests of this directory share: every log record of every logger, exceptions in it and all."""

import logging
from collections.abc import Iterator

import pytest
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
