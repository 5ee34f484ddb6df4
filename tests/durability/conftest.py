"""The gateway that the tests of durability share, and the end of every run."""

import pytest
from durable import NURSERY, Gateway, end_all


@pytest.fixture(scope="session")
def gateway():
    """A gateway whose POSTs take a few hundredths of a second each way."""
    with Gateway.start(latency=0.03) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def nursery():
    """What makes the runs, until the last test."""
    yield
    NURSERY.close()


@pytest.fixture(autouse=True)
def no_run_left_behind():
    """End what a test that failed has left running."""
    yield
    end_all()
