"""One gateway for all tests of lifetimes, and a program that has warmed everything up which opens files only once."""

import pytest

pytest.register_assert_rewrite("lifetime_judges", "lifetime_place", "lifetime_strikes", "lifetime_watch")

from lifetime_place import Gateway, clip  # noqa: E402 - what they assert is to be told as in a test
from lifetime_watch import KINDS, LOOPS, overheard  # noqa: E402


@pytest.fixture(scope="session")
def running():
    found = Gateway.start()

    async def warm_up():
        for dialect in ("kling3api", "apimart"):
            async with found.session(dialect) as session:
                await session.generate(clip())

    for kind in KINDS:
        overheard(warm_up, kind)
    yield found
    found.end()


@pytest.fixture
def gateway(running):
    """The gateway, with an empty ledger."""
    running.reset()
    return running


@pytest.fixture(params=KINDS)
def kind(request):
    """Each kind of event loop."""
    return request.param


@pytest.fixture(params=LOOPS)
def loop_name(request):
    """Each event loop."""
    return request.param
