"""Gateways that the tests of durability share; every test has prompts of its own in the ledger."""

import pytest
from durable import Gateway, end_all


@pytest.fixture(scope="session")
def gateway():
    """A gateway whose POSTs take a few hundredths of a second each way."""
    with Gateway.start(latency=0.03) as running:
        yield running


@pytest.fixture(scope="session")
def quick_gateway():
    """A gateway that answers at once."""
    with Gateway.start() as running:
        yield running


@pytest.fixture(autouse=True)
def no_run_left_behind():
    """End what a test that failed has left running."""
    yield
    end_all()
