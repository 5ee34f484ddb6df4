"""Gateways that the tests of durability share, and work that begins before its turn, while other tests wait."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import strikes
from durable import ENVIRONMENT, Gateway, end_all
from lives import BATCHES, live_through

AT_ONCE = 3


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Have the many processes compile the library once, and not into its own directory."""
    ENVIRONMENT["PYTHONPYCACHEPREFIX"] = str(tmp_path_factory.mktemp("compiled"))
    ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)


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


@pytest.fixture(scope="session")
def pool():
    """Threads for runs that nobody waits for yet."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield threads
        threads.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def struck(pool, tmp_path_factory, quick_gateway):
    """What comes of a kill at each failpoint."""
    return strikes.begin(pool, tmp_path_factory.mktemp("points"), quick_gateway)


@pytest.fixture(scope="session")
def lives(pool, tmp_path_factory):
    """What comes of kills at random moments. There is a gateway for every few batches, so that no ledger grows long."""
    root = tmp_path_factory.mktemp("lives")
    gateways = [Gateway.start(latency=0.03) for _ in range(1 + BATCHES // 50)]
    yield [pool.submit(live_through, seed, root, gateways[seed % len(gateways)]) for seed in range(BATCHES)]
    pool.shutdown(cancel_futures=True)
    for running in gateways:
        running.__exit__()


@pytest.fixture(scope="session", autouse=True)
def begin_early(request, compiled):
    """Begin what takes long, if a test that was chosen needs it."""
    needed = {name for item in request.session.items for name in item.fixturenames}
    for name in ("struck", "lives"):
        if name in needed:
            request.getfixturevalue(name)


@pytest.fixture(autouse=True)
def no_run_left_behind():
    """End what a test that failed has left running."""
    yield
    end_all()
