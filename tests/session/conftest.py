"""Tests of the session run in virtual time unless they say otherwise."""

import pytest
from virtual import VirtualLoop


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualLoop}
