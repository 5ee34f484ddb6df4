"""What every test obeys: asyncio as the anyio backend, and no connection to anything but loopback."""

import ipaddress
import logging
import os
import signal
import socket

import pytest
from hypothesis import settings

# A slow machine is no failure; in CI the same examples are tried each time.
settings.register_profile("here", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
def signals_arrive():
    """Let what tests start be interrupted and hung up on.

    A program inherits what is ignored: hangups under nohup, and Ctrl-C where a shell starts it in the background.
    """
    before = [
        (signal.SIGINT, signal.signal(signal.SIGINT, signal.default_int_handler)),
        (signal.SIGHUP, signal.signal(signal.SIGHUP, signal.SIG_DFL)),
    ]
    yield
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch):
    """Refuse, before a packet leaves, every connection to an address that is not loopback."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            assert ipaddress.ip_address(address[0]).is_loopback, f"a test tried to reach {address}"

    def guarded(self, address):
        check(self, address)
        return connect(self, address)

    def guarded_ex(self, address):
        check(self, address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    """Keep the developer's own keys and gateways out of the tests."""
    for name in ("GATEWAY", "API_KEY", "BASE_URL"):
        monkeypatch.delenv(f"KLING_{name}", raising=False)
    for gateway in ("KLING3API", "APIIN", "KLINGGENERATOR", "APIMART"):
        monkeypatch.delenv(f"{gateway}_API_KEY", raising=False)


@pytest.fixture(autouse=True)
def log_as_it_was():
    """Take back what `kling -v`, where it runs in the process of the tests, does to the library's logger."""
    log = logging.getLogger("kling_async")
    level, handlers = log.level, log.handlers[:]
    yield
    log.setLevel(level)
    log.handlers[:] = handlers
